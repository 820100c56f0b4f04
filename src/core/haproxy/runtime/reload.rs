//! May a change of the file reach the running HAProxy by commands, and by which? Where that is not
//! plainly safe, the answer is the reason for a reload.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::addition::{Addition, addition};
use super::balance::takes_dynamic_servers;
use super::replies::{Row, Running};
use super::text::{self, Configuration, Section, Server};
use super::{OLDEST, running_in};
use crate::core::haproxy::template::{PLACEHOLDER, holds_servers};

/// What brings one section of the running HAProxy to what the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commands {
    pub section: String,
    pub add: Vec<Addition>,
    /// Servers with their new address.
    pub move_to: Vec<(String, SocketAddr)>,
    /// Servers that are to be checked again.
    pub check: Vec<String>,
    /// Servers that were set to drain and stay after all.
    pub ready: Vec<String>,
    pub remove: Vec<Running>,
}

impl Commands {
    pub fn is_empty(&self) -> bool {
        let section = self.section.clone();
        *self
            == Commands {
                section,
                ..Commands::default()
            }
    }
}

/// A change of the file that is one of servers alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change<'a> {
    /// As the new file has it.
    pub new: Configuration<'a>,
    /// The servers that the old file did not have.
    pub arrived: BTreeSet<&'a str>,
}

/// From this on, to delete a server in its `slowstart` ends HAProxy.
const SLOWSTART_ENDS: (u32, u32) = (3, 5);

/// Compares the installed configuration with the new one.
///
/// # Errors
/// Why the change needs a reload: it is more than servers that came, went or moved in the sections
/// of the `template` that have `$SERVERS`.
pub fn change<'a>(template: &'a str, old: &str, new: &'a str) -> Result<Change<'a>, String> {
    let sections = placed_alone(template)?;
    let (old, new) = (text::read(old, &sections)?, text::read(new, &sections)?);
    for section in new.sections.iter().chain(&old.sections) {
        if let Some(unclear) = &section.unclear {
            return Err(format!("backend `{}`: {unclear}", section.name));
        }
    }
    if old.others != new.others {
        return Err("more than the servers changed".into());
    }
    let mut arrived = BTreeSet::new();
    for (old, section) in old.sections.iter().zip(&new.sections) {
        let before: BTreeMap<&str, &Server> = old.servers.iter().rev().map(|s| (s.name, s)).collect();
        for server in &section.servers {
            match before.get(server.name) {
                Some(before) if server.same_as(before) || server.moved_from(before) => {}
                Some(_) => return Err(format!("the line of server `{}` changed", server.name)),
                None => {
                    arrived.insert(server.name);
                }
            }
        }
    }
    Ok(Change { new, arrived })
}

/// The sections of the template that have the placeholder, if it stands in the place of a server,
/// once in each and nowhere else.
fn placed_alone(template: &str) -> Result<Vec<&str>, String> {
    let sections = text::managed(template);
    let mut lines = template.split('\n').filter(|line| holds_servers(line));
    let stands_alone = |line: &str| line.trim_start().starts_with(PLACEHOLDER);
    match lines.clone().count() == sections.len() && lines.all(stands_alone) {
        true => Ok(sections),
        false => Err(format!(
            "the template has {PLACEHOLDER} not just once in each section that has it"
        )),
    }
}

/// What to send to a HAProxy of `version` whose servers are `running`. `aside` are those that an
/// earlier call took out of rotation or did not get to start.
///
/// # Errors
/// Why it has to be a reload.
pub fn plan(
    change: &Change,
    running: &[Running],
    version: (u32, u32),
    aside: &BTreeSet<String>,
) -> Result<Vec<Commands>, String> {
    let plan = |section| plan_section(change, section, running, version, aside);
    let plans: Result<Vec<Commands>, String> = change.new.sections.iter().map(plan).collect();
    Ok(plans?
        .into_iter()
        .filter(|commands| !commands.is_empty())
        .collect())
}

fn plan_section(
    change: &Change,
    section: &Section,
    running: &[Running],
    version: (u32, u32),
    aside: &BTreeSet<String>,
) -> Result<Commands, String> {
    if version < OLDEST {
        let (major, minor) = version;
        return Err(format!("HAProxy {major}.{minor} can't delete servers"));
    }
    let mut commands = Commands {
        section: section.name.into(),
        ..Commands::default()
    };
    let mut others: BTreeMap<&str, &Running> = running_in(running, section.name).collect();
    let mut numbers: BTreeSet<u32> = others.values().map(|r| r.id).collect();
    for (at, server) in section.servers.iter().enumerate() {
        let name = server.name;
        let Some(found) = others.remove(name) else {
            takes_dynamic_servers(section)?;
            let number = free_number(&numbers, at);
            numbers.insert(number);
            commands.add.push(addition(server, section, version, number)?);
            continue;
        };
        let ours = aside.contains(name);
        if change.arrived.contains(name) || ours && found.in_maintenance() {
            return Err(format!("server `{name}` runs from an earlier change"));
        }
        if let Some(address) = server.address().filter(|a| found.address != Some(*a)) {
            commands.move_to.push((name.into(), address));
        }
        if server.is_checked() && found.is_unchecked() {
            commands.check.push(name.into());
        }
        if ours && found.is_draining() {
            commands.ready.push(name.into());
        }
    }
    for (name, gone) in others {
        takes_dynamic_servers(section)?;
        if is_spoken_of(name, &change.new).next().is_some() {
            return Err(format!("the configuration speaks of server `{name}`"));
        }
        if version >= SLOWSTART_ENDS && section.servers.iter().any(|s| s.value("slowstart").is_some()) {
            return Err(format!("server `{name}` may be in its `slowstart`"));
        }
        commands.remove.push(gone.clone());
    }
    if !commands.add.is_empty() {
        trust(section, running)?;
    }
    Ok(commands)
}

/// The number that a fresh start gives to the server in this place, if it is free.
fn free_number(taken: &BTreeSet<u32>, place: usize) -> u32 {
    let first = u32::try_from(place + 1).unwrap_or(1);
    let free = |number: &u32| !taken.contains(number);
    (first..=u32::MAX).find(free).unwrap_or(first)
}

/// The lines with a rule or another server that refers to the server `name`. A comment that does
/// counts, too.
pub fn is_spoken_of<'a>(name: &str, configuration: &Configuration<'a>) -> impl Iterator<Item = &'a str> {
    let refers = move |before: &str, word: &str| {
        word == name && ["use-server", "track", "force-persist"].contains(&before)
            || word.split(['(', ')', ',', '/']).skip(1).any(|part| part == name)
    };
    let servers = configuration.sections.iter().flat_map(|section| &section.servers);
    let own = servers
        .filter(move |server| server.name != name)
        .map(|server| server.line);
    let lines: Vec<&str> = configuration.others.iter().copied().chain(own).collect();
    lines
        .into_iter()
        .filter(move |line| line.contains(name))
        .filter(move |line| {
            let words = line.split_ascii_whitespace();
            let before = std::iter::once("").chain(words.clone());
            before.zip(words).any(|(before, word)| refers(before, word))
        })
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

#[cfg(test)]
mod tests;
