//! The running servers against those of the file.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::replies::Running;
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
