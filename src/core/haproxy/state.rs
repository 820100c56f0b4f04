//! What the running HAProxy says of one server, in one word over all sections that have it.

use std::fmt;

use super::runtime::replies::Row;

/// How a HAProxy has a server, over all sections that it stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// `UP…` or `no check` in every one.
    Up,
    /// `DOWN…` in every one.
    Down,
    /// Being drained, by hand or by `remove-host`.
    Drain,
    /// Taken out by hand.
    Maint,
    /// It cannot be asked, or says neither: no opinion.
    Unknown,
}

/// The words of `list-hosts --state`, in the order of the variants.
pub const STATES: [(State, &str); 5] = [
    (State::Up, "UP"),
    (State::Down, "DOWN"),
    (State::Drain, "DRAIN"),
    (State::Maint, "MAINT"),
    (State::Unknown, "-"),
];

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STATES[*self as usize].1)
    }
}

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
    fn since_it_is_so_in_every_section() {
        let of = |since: [Option<u64>; 2]| {
            let rows = since.map(|s| row("UP", s));
            super::of(&rows, 2).unwrap().1
        };
        assert_eq!(of([Some(9), Some(3)]), Some(3));
        assert_eq!(of([Some(9), None]), None);
    }
}
