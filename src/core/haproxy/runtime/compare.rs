//! The running servers against those of the file.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::replies::{Row, Running};
use super::running_in;
use super::text::{Configuration, Section};

/// How the running servers differ from those of the file, section by section; empty when they are
/// the same, as far as they are known. `leaving` may still be there.
pub fn differences(wanted: &Configuration, running: &[Running], leaving: &BTreeSet<String>) -> Vec<String> {
    let known = wanted.sections.iter().filter(|section| section.unclear.is_none());
    known
        .flat_map(|section| of_section(section, running, leaving))
        .collect()
}

/// The same for one section.
pub fn of_section(section: &Section, running: &[Running], leaving: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    let there: BTreeMap<&str, &Running> = running_in(running, section.name).collect();
    for server in &section.servers {
        let name = server.name;
        match there.get(name) {
            None => found.push(format!("has no server `{name}`")),
            Some(there) if server.address().is_some_and(|a| there.address != Some(a)) => {
                found.push(format!("has server `{name}` at another address"));
            }
            Some(there) if server.is_checked() && there.is_unchecked() => {
                found.push(format!("does not check server `{name}`"));
            }
            Some(_) => {}
        }
    }
    let wanted: BTreeSet<&str> = section
        .servers
        .iter()
        .map(|s| s.name)
        .chain(leaving.iter().map(String::as_str))
        .collect();
    let more = there.into_keys().filter(|name| !wanted.contains(name));
    found.extend(more.map(|name| format!("still has server `{name}`")));
    found
}

/// The running servers, as commands name them, that have another address than the file gives them.
pub fn misplaced(wanted: &Configuration, running: &[Running]) -> Vec<(String, SocketAddr)> {
    let mut found = Vec::new();
    for section in &wanted.sections {
        let there: BTreeMap<&str, &Running> = running_in(running, section.name).collect();
        for server in &section.servers {
            if let (Some(there), Some(address)) = (there.get(server.name), server.address())
                && there.address != Some(address)
            {
                found.push((there.id(), address));
            }
        }
    }
    found
}

/// Do the running servers that the file has as well look as its text has them? Otherwise more than
/// this text decides on them, such as `default-server` in another file, and a server that is added
/// would lack it.
///
/// # Errors
/// What differs.
pub fn trust(section: &Section, running: &[Running]) -> Result<(), String> {
    let there: BTreeMap<&str, &Running> = running_in(running, section.name).collect();
    let mut compared = false;
    for server in &section.servers {
        let Some(there) = there.get(server.name) else {
            continue;
        };
        compared = true;
        let weight = server.value("weight").map_or(Ok(1), str::parse::<u32>);
        let differs = |what: &str| {
            let name = server.name;
            Err(format!(
                "server `{name}` runs with another {what} than this file gives it"
            ))
        };
        if server.is_checked() != there.has_check() {
            return differs("`check`");
        }
        if weight.is_ok_and(|weight| weight != there.initial_weight) {
            return differs("`weight`");
        }
    }
    match compared || section.settings.has_defaults {
        true => Ok(()),
        false => Err(format!(
            "`{}` may have its `defaults` in another file",
            section.name
        )),
    }
}

/// The server of `section` whose row of `show stat` shows the rest of what [`trust`] looks for: the
/// one that runs for longest.
pub fn sample<'a>(section: &Section, running: &'a [Running]) -> Option<&'a Running> {
    let of_file = |(name, _): &(&str, _)| section.servers.iter().any(|s| s.name == *name);
    running_in(running, section.name)
        .filter(of_file)
        .map(|(_, r)| r)
        .min_by_key(|r| r.id)
}

/// The same for what a row of `show stat` shows.
///
/// # Errors
/// What differs.
pub fn trust_row(section: &Section, row: &Row) -> Result<(), String> {
    let Some(server) = section.servers.iter().find(|s| s.name == row.name) else {
        return Ok(());
    };
    let most_sessions = server
        .value("maxconn")
        .and_then(|n| n.parse().ok())
        .filter(|n| *n > 0);
    let same = (most_sessions, server.arguments.contains(&"backup")) == (row.most_sessions, row.backup);
    match same {
        true => Ok(()),
        false => Err(format!(
            "server `{}` runs with another `maxconn` or `backup` than this file gives it",
            row.name
        )),
    }
}
