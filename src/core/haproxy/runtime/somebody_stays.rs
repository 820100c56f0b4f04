//! Somebody stays: who else answers, before a server is taken out.

use std::collections::BTreeSet;

use super::replies::{Row, Running};
use super::running_in;

/// The first of `sections` in which nobody but `server` takes new requests: a `backup` does only
/// once all others are gone.
pub fn nobody_else<'a>(rows: &[Row], sections: &'a [String], server: &str) -> Option<&'a str> {
    let stays =
        |row: &Row, section: &str| row.section == section && row.name != server && row.is_up() && !row.backup;
    let alone = |section: &&String| !rows.iter().any(|row| stays(row, section));
    sections.iter().find(alone).map(String::as_str)
}

/// Would taking `leaving` out of `section` leave nobody there to answer, although somebody does now?
pub fn leaves_nobody(running: &[Running], section: &str, leaving: &BTreeSet<String>) -> bool {
    let (going, staying): (Vec<_>, Vec<_>) = running_in(running, section)
        .filter(|(_, r)| r.serves())
        .partition(|(name, _)| leaving.contains(*name));
    !going.is_empty() && staying.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_else_is_up_and_no_backup_in_each_section() {
        let rows = |states: &[(&str, &str, &str)]| -> Vec<Row> {
            let of = |(section, name, status): &(&str, &str, &str)| Row {
                section: (*section).into(),
                name: (*name).into(),
                backup: status.contains("backup"),
                status: (*status).into(),
                sessions: 0,
                most_sessions: None,
                since: None,
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
}
