//! May a change of servers reach the running HAProxy by commands on its admin socket, and by
//! which? Where that is not plainly safe, the answer is the reason for a reload.

mod addition;
pub mod replies;
pub mod state;
pub mod text;

use std::collections::{BTreeMap, BTreeSet};

use super::template::PLACEHOLDER;
pub use addition::Addition;
use addition::addition;
use replies::Running;
use text::{Backend, Server};

/// What brings the running HAProxy to what the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commands {
    pub add: Vec<Addition>,
    /// Servers that were set to drain and stay after all.
    pub ready: Vec<String>,
    pub remove: Vec<Running>,
}

impl Commands {
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.ready.is_empty() && self.remove.is_empty()
    }
}

/// A change of the file that is one of servers alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change<'a> {
    /// As the new file has it.
    pub backend: Backend<'a>,
    /// The servers that the old file did not have.
    pub arrived: BTreeSet<&'a str>,
}

/// Older ones can't delete a server.
const OLDEST: (u32, u32) = (2, 5);

/// Older ones hide dynamic servers behind `experimental-mode on`.
const NO_EXPERIMENT: (u32, u32) = (2, 6);

/// Compares the installed configuration with the new one.
///
/// # Errors
/// Why the change needs a reload: it is more than servers of `backend` that came or went.
pub fn change<'a>(template: &str, old: &str, new: &'a str, backend: &'a str) -> Result<Change<'a>, String> {
    placed_alone(template, backend)?;
    let (old, new) = (text::read(old, backend)?, text::read(new, backend)?);
    if let Some(unclear) = new.unclear.as_ref().or(old.unclear.as_ref()) {
        return Err(format!("backend `{backend}`: {unclear}"));
    }
    if old.others != new.others {
        return Err("more than the servers changed".into());
    }
    takes_dynamic_servers(&new)?;
    let mut arrived = BTreeSet::new();
    let before: BTreeMap<&str, &Server> = old.servers.iter().rev().map(|s| (s.name, s)).collect();
    let mut seen = BTreeSet::new();
    for server in &new.servers {
        if !seen.insert(server.name) {
            return Err(format!("two servers are called `{}`", server.name));
        }
        match before.get(server.name) {
            Some(before) if before.same_as(server) => {}
            Some(_) => return Err(format!("the line of server `{}` changed", server.name)),
            None => {
                arrived.insert(server.name);
            }
        }
    }
    Ok(Change {
        backend: new,
        arrived,
    })
}

/// Does the template's placeholder stand once, and in `backend`?
fn placed_alone(template: &str, backend: &str) -> Result<(), String> {
    // In the place of a server it is read as one.
    let template = template.replace(PLACEHOLDER, &format!("server {PLACEHOLDER}"));
    let read = text::read(&template, backend)?;
    let inside = read.servers.iter().filter(|s| s.name == PLACEHOLDER).count();
    let outside = read
        .others
        .iter()
        .any(|l| l.contains(PLACEHOLDER) && !l.trim_start().starts_with('#'));
    match (inside, outside) {
        (1, false) => Ok(()),
        _ => Err(format!(
            "the template has {PLACEHOLDER} not just once, in backend `{backend}`"
        )),
    }
}

/// Takes this backend servers at run time?
fn takes_dynamic_servers(backend: &Backend) -> Result<(), String> {
    let balance = backend.balance.first().copied().unwrap_or_default();
    // `random(2)` and `hdr(host)` carry their argument.
    let algorithm = balance.split('(').next().unwrap_or_default();
    let consistent = backend.hash_type.first().is_some_and(|h| *h == "consistent");
    match algorithm {
        "" | "roundrobin" | "leastconn" | "random" => Ok(()),
        "source" | "uri" | "url_param" | "hdr" | "hash" | "rdp-cookie" if consistent => Ok(()),
        _ => Err(format!("`balance {balance}` takes no servers at run time")),
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
) -> Result<Commands, String> {
    if version < OLDEST {
        return Err(format!(
            "HAProxy {}.{} can't delete servers",
            version.0, version.1
        ));
    }
    let backend = &change.backend;
    let mut commands = Commands::default();
    let mut others = by_name(running);
    for server in &backend.servers {
        match others.remove(server.name) {
            None => commands.add.push(addition(server, backend.name, version)?),
            Some(found) => {
                let name = server.name;
                if server.address().is_some_and(|a| found.address != Some(a)) {
                    return Err(format!("server `{name}` runs with another address"));
                }
                let ours = aside.contains(name);
                if change.arrived.contains(name) || ours && found.in_maintenance() {
                    return Err(format!("server `{name}` runs from an earlier change"));
                }
                if ours && found.is_draining() {
                    commands.ready.push(name.into());
                }
            }
        }
    }
    for (name, gone) in others {
        if is_spoken_of(name, backend) {
            return Err(format!("the configuration speaks of server `{name}`"));
        }
        commands.remove.push(gone.clone());
    }
    Ok(commands)
}

fn by_name(running: &[Running]) -> BTreeMap<&str, &Running> {
    running.iter().map(|r| (&*r.name, r)).collect()
}

/// What begins each line of commands to a HAProxy of `version`.
pub fn preamble(version: (u32, u32)) -> &'static str {
    if version < NO_EXPERIMENT {
        "experimental-mode on; "
    } else {
        ""
    }
}

/// Does a rule or another server refer to the server `name`? A comment that does counts, too.
fn is_spoken_of(name: &str, backend: &Backend) -> bool {
    let refers = |before: &str, word: &str| {
        word == name && ["use-server", "track", "force-persist"].contains(&before)
            || word.split(['(', ')', ',', '/']).skip(1).any(|part| part == name)
    };
    let own = backend.servers.iter().map(|server| server.line);
    let lines = backend.others.iter().copied().chain(own);
    lines.filter(|line| line.contains(name)).any(|line| {
        let words = line.split_ascii_whitespace();
        let before = std::iter::once("").chain(words.clone());
        before.zip(words).any(|(before, word)| refers(before, word))
    })
}

/// Would taking `leaving` out leave nobody to answer, although somebody does now?
pub fn leaves_nobody(running: &[Running], leaving: &BTreeSet<String>) -> bool {
    let (going, staying): (Vec<_>, Vec<_>) = running
        .iter()
        .filter(|r| r.serves())
        .partition(|r| leaving.contains(&r.name));
    !going.is_empty() && staying.is_empty()
}

/// Closes the connections that HAProxy keeps open to a server in maintenance, which stand in the
/// way of `del server`: it does so when the address changes.
pub fn drop_idle(backend: &str, server: &Running) -> Option<String> {
    let address = server.address?;
    let other_port = if address.port() == 1 { 2 } else { 1 };
    Some(format!(
        "set server {backend}/{} addr {} port {other_port}",
        server.name,
        address.ip()
    ))
}

/// How the running servers differ from those of the file; `None` when they are the same.
/// `leaving` may still be there.
pub fn difference(backend: &Backend, running: &[Running], leaving: &BTreeSet<String>) -> Option<String> {
    differences(backend, running, leaving).into_iter().next()
}

/// All that `difference` tells the first of.
pub fn differences(backend: &Backend, running: &[Running], leaving: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    let there = by_name(running);
    for server in &backend.servers {
        match there.get(server.name) {
            None => found.push(format!("has no server `{}`", server.name)),
            Some(there) if server.address().is_some_and(|a| there.address != Some(a)) => {
                found.push(format!("has server `{}` at another address", server.name));
            }
            Some(_) => {}
        }
    }
    let wanted: BTreeSet<&str> = backend
        .servers
        .iter()
        .map(|s| s.name)
        .chain(leaving.iter().map(String::as_str))
        .collect();
    let more = there.into_keys().filter(|name| !wanted.contains(name));
    found.extend(more.map(|name| format!("still has server `{name}`")));
    found
}

#[cfg(test)]
mod tests;
