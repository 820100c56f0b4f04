//! May a change of servers reach the running HAProxy by commands on its admin socket, and by
//! which? Where that is not plainly safe, the answer is the reason for a reload.

pub mod replies;
pub mod text;

use std::collections::BTreeSet;

use super::template::PLACEHOLDER;
use replies::Running;
use text::{Backend, Server};

/// What brings the running HAProxy to what the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commands {
    pub add: Vec<Addition>,
    /// Servers that were set to drain and stay after all.
    pub ready: Vec<String>,
    pub remove: Vec<String>,
}

impl Commands {
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.ready.is_empty() && self.remove.is_empty()
    }
}

/// One server to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addition {
    pub name: String,
    /// Makes it known, in maintenance.
    pub add: String,
    /// Lets it have traffic; where it is checked, once its check has passed.
    pub start: String,
}

/// A change of the file that is one of servers alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// As the new file has it.
    pub backend: Backend,
    /// The servers that the old file did not have.
    pub arrived: BTreeSet<String>,
}

/// Older ones can't delete a server.
const OLDEST: (u32, u32) = (2, 5);

/// Older ones hide dynamic servers behind `experimental-mode on`.
pub const NO_EXPERIMENT: (u32, u32) = (2, 6);

/// Older ones refuse `cookie` on a dynamic server.
const COOKIES: (u32, u32) = (3, 0);

/// Words of a server line that a dynamic server takes just as one of the file does, and whether
/// a value follows.
const SAFE: [(&str, bool); 22] = [
    ("addr", true),
    ("backup", false),
    ("check", false),
    ("check-send-proxy", false),
    ("downinter", true),
    ("error-limit", true),
    ("fall", true),
    ("fastinter", true),
    ("inter", true),
    ("maxconn", true),
    ("maxqueue", true),
    ("minconn", true),
    ("observe", true),
    ("on-error", true),
    ("on-marked-down", true),
    ("pool-low-conn", true),
    ("pool-max-conn", true),
    ("pool-purge-delay", true),
    ("port", true),
    ("rise", true),
    ("send-proxy", false),
    ("weight", true),
];

/// Compares the installed configuration with the new one.
///
/// # Errors
/// Why the change needs a reload: it is more than servers of `backend` that came or went.
pub fn change(template: &str, old: &str, new: &str, backend: &str) -> Result<Change, String> {
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
    let mut seen = BTreeSet::new();
    for server in &new.servers {
        if !seen.insert(&server.name) {
            return Err(format!("two servers are called `{}`", server.name));
        }
        match old.servers.iter().find(|s| s.name == server.name) {
            Some(before) if before.same_as(server) => {}
            Some(_) => return Err(format!("the line of server `{}` changed", server.name)),
            None => {
                arrived.insert(server.name.clone());
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
    let read = text::read(
        &template.replace(PLACEHOLDER, &format!("server {PLACEHOLDER}")),
        backend,
    )?;
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
    let balance = backend.balance.first().map_or("", String::as_str);
    // `random(2)` and `hdr(host)` carry their argument.
    let algorithm = balance.split('(').next().unwrap_or_default();
    let consistent = backend.hash_type.first().is_some_and(|h| h == "consistent");
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
    for server in &backend.servers {
        match running.iter().find(|r| r.name == server.name) {
            None => commands.add.push(addition(server, &backend.name, version)?),
            Some(found) => {
                let name = &server.name;
                if server.address().is_some_and(|a| found.address != Some(a)) {
                    return Err(format!("server `{name}` runs with another address"));
                }
                let ours = aside.contains(name);
                if change.arrived.contains(name) || ours && found.in_maintenance() {
                    return Err(format!("server `{name}` runs from an earlier change"));
                }
                if ours && found.is_draining() {
                    commands.ready.push(name.clone());
                }
            }
        }
    }
    for gone in running
        .iter()
        .filter(|r| backend.servers.iter().all(|s| s.name != r.name))
    {
        if is_spoken_of(&gone.name, backend) {
            return Err(format!("the configuration speaks of server `{}`", gone.name));
        }
        commands.remove.push(gone.name.clone());
    }
    Ok(commands)
}

/// Does a rule or another server refer to the server `name`?
fn is_spoken_of(name: &str, backend: &Backend) -> bool {
    let refers = |before: &str, word: &str| {
        word == name && ["use-server", "track", "force-persist"].contains(&before)
            || word.split(['(', ')', ',', '/']).skip(1).any(|part| part == name)
    };
    let other = backend
        .others
        .iter()
        .map(|l| l.split_ascii_whitespace().collect());
    let own = backend
        .servers
        .iter()
        .map(|s| s.arguments.iter().map(String::as_str).collect());
    other.chain(own).any(|words: Vec<&str>| {
        let before = std::iter::once("").chain(words.iter().copied());
        before.zip(&words).any(|(before, word)| refers(before, word))
    })
}

fn addition(server: &Server, backend: &str, version: (u32, u32)) -> Result<Addition, String> {
    let name = &server.name;
    let refused = |what: &str| Err(format!("server `{name}` can't be added at run time: {what}"));
    if server.address().is_none() {
        return refused("its address is not a number and a port");
    }
    let words = || [name, &server.target].into_iter().chain(&server.arguments);
    // What would be a command of its own, or none at all, on the socket.
    if words().any(|w| w.contains([';', '<', '!'])) {
        return refused("its line has a character that the socket reads otherwise");
    }
    if let Some(word) = unsafe_word(&server.arguments, version) {
        return refused(&format!("`{word}`"));
    }
    let mut add = format!("add server {backend}/{name} {}", server.target);
    for word in &server.arguments {
        add = add + " " + word;
    }
    // Without these, 2.6 lets it reuse no connection.
    for (word, value) in [("pool-purge-delay", "5s"), ("pool-max-conn", "-1")] {
        if !server.arguments.iter().any(|a| a == word) {
            add += &format!(" {word} {value}");
        }
    }
    let id = format!("{backend}/{name}");
    // `health down` counts only once it is ready, and in between, requests on other threads would
    // find it: that is what the weight is for.
    let start = if server.is_checked() {
        format!(
            "enable health {id}; set server {id} weight 0; set server {id} state ready; \
             set server {id} health down; set server {id} weight 100%"
        )
    } else {
        format!("set server {id} state ready")
    };
    Ok(Addition {
        name: name.clone(),
        add,
        start,
    })
}

/// The first of `arguments` that may mean something else for a dynamic server.
fn unsafe_word(arguments: &[String], version: (u32, u32)) -> Option<&str> {
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match SAFE.iter().find(|(safe, _)| safe == word) {
            Some((_, true)) => drop(words.next()),
            Some((_, false)) => {}
            None if word == "cookie" && version >= COOKIES => drop(words.next()),
            None => return Some(word),
        }
    }
    None
}

/// Would taking `leaving` out leave nobody to answer, although somebody does now?
pub fn leaves_nobody(running: &[Running], leaving: &[String]) -> bool {
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
pub fn difference(backend: &Backend, running: &[Running], leaving: &[String]) -> Option<String> {
    differences(backend, running, leaving).into_iter().next()
}

/// All that `difference` tells the first of.
pub fn differences(backend: &Backend, running: &[Running], leaving: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for server in &backend.servers {
        match running.iter().find(|r| r.name == server.name) {
            None => found.push(format!("has no server `{}`", server.name)),
            Some(there) if server.address().is_some_and(|a| there.address != Some(a)) => {
                found.push(format!("has server `{}` at another address", server.name));
            }
            Some(_) => {}
        }
    }
    for there in running {
        if backend.servers.iter().all(|s| s.name != there.name) && !leaving.contains(&there.name) {
            found.push(format!("still has server `{}`", there.name));
        }
    }
    found
}

#[cfg(test)]
mod tests;
