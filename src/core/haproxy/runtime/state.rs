//! What the running HAProxy says of one server, over all sections that have it.

use super::replies::Row;
use crate::core::haproxy::listing::State;

/// The state of a server that has these `rows`, which are to be one for each of so many `sections`,
/// and for how many seconds it has been so in all of them. `None` where they don't agree, or one is
/// missing: then nothing can be said.
pub fn of(rows: &[Row], sections: usize) -> Option<(State, Option<u64>)> {
    if rows.is_empty() || rows.len() != sections {
        return None;
    }
    let all = |is: fn(&Row) -> bool| rows.iter().all(is);
    let any = |is: fn(&Row) -> bool| rows.iter().any(is);
    let state = if all(Row::is_up) {
        State::Up
    } else if all(Row::is_down) {
        State::Down
    } else if any(Row::in_maintenance) {
        State::Maint
    } else if any(Row::is_set_aside) {
        State::Drain
    } else {
        return None;
    };
    let since: Option<Vec<u64>> = rows.iter().map(|row| row.since).collect();
    Some((state, since.and_then(|since| since.into_iter().min())))
}

/// The first of `sections` in which nobody but `server` takes new requests: a `backup` does only
/// once all others are gone.
pub fn nobody_else<'a>(rows: &[Row], sections: &'a [String], server: &str) -> Option<&'a str> {
    let stays =
        |row: &Row, section: &str| row.section == section && row.name != server && row.is_up() && !row.backup;
    let alone = |section: &&String| !rows.iter().any(|row| stays(row, section));
    sections.iter().find(alone).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(status: &str, since: Option<u64>) -> Row {
        Row {
            section: "servers".into(),
            name: "app1".into(),
            status: status.into(),
            sessions: 0,
            backup: false,
            most_sessions: None,
            since,
        }
    }

    #[test]
    fn one_word_for_all_sections() {
        for (statuses, word) in [
            (&["UP"][..], "UP"),
            (&["UP 1/3", "no check"], "UP"),
            (&["DOWN", "DOWN 1/2"], "DOWN"),
            (&["DOWN (agent)"], "DOWN"),
            (&["UP", "DOWN"], "-"),
            (&["UP", "MAINT (via x/y)"], "MAINT"),
            (&["DRAIN", "UP"], "DRAIN"),
            (&["NOLB 1/2"], "DRAIN"),
            (&["DRAIN", "MAINT"], "MAINT"),
            (&["DOWN", "DRAIN"], "DRAIN"),
            (&["something else"], "-"),
            (&[], "-"),
        ] {
            let rows: Vec<Row> = statuses.iter().map(|s| row(s, Some(1))).collect();
            let said = of(&rows, rows.len()).map_or("-".into(), |(state, _)| state.to_string());
            assert_eq!(said, word, "{statuses:?}");
            // One section does not have it.
            assert_eq!(of(&rows, rows.len() + 1), None);
        }
    }

    #[test]
    fn somebody_else_is_up_and_no_backup_in_each_section() {
        let rows = |states: &[(&str, &str, &str)]| -> Vec<Row> {
            let of = |(section, name, status): &(&str, &str, &str)| Row {
                section: (*section).into(),
                name: (*name).into(),
                backup: status.contains("backup"),
                ..row(status, None)
            };
            states.iter().map(of).collect()
        };
        let sections = ["http".to_string(), "ws".to_string()];
        for (other, nobody) in [
            ("UP", None),
            ("no check", None),
            ("UP 1/3", None),
            ("UP backup", Some("ws")),
            ("DOWN", Some("ws")),
            ("DRAIN", Some("ws")),
            ("MAINT", Some("ws")),
            ("NOLB", Some("ws")),
        ] {
            let rows = rows(&[
                ("http", "b", "UP"),
                ("ws", "a", "UP"),
                ("ws", "b", other),
                ("x", "b", "UP"),
            ]);
            assert_eq!(nobody_else(&rows, &sections, "a"), nobody, "{other}");
        }
    }

    #[test]
    fn since_it_is_so_in_every_section() {
        let of = |since: [Option<u64>; 2]| {
            let rows = since.map(|s| row("UP", s));
            super::of(&rows, 2).unwrap().1
        };
        assert_eq!(of([Some(9), Some(3)]), Some(3));
        assert_eq!(of([Some(9), None]), None);
    }
}
