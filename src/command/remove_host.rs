//! `remove-host`: an app server drained in HAProxy, then its entry out of `hosts.d`.

use super::drain::Server;
use super::{By, entries, generate};
use crate::config::Config;
use crate::core::entry::Entry;
use crate::error::Error;
use crate::system::due::DueFile;
use crate::system::hosts_dir::HostsDir;
use crate::system::log::Log;

/// What is asked for.
pub struct Removal<'a> {
    /// A server's name, an address, or an address with a port.
    pub wanted: &'a str,
    /// HAProxy loses it too.
    pub apply: bool,
    /// Even the last one that is up.
    pub force: bool,
    pub by: By,
}

pub fn run(config: &Config, asked: &Removal, log: Log) -> Result<(), Error> {
    let (wanted, apply) = (asked.wanted, asked.apply);
    let hosts = HostsDir::new(config.dir());
    if apply {
        generate::can_apply(config)?;
    }
    let entries = entries(&hosts, log)?;
    let entry = find(&entries, wanted)?.clone();
    let server = Server::of(config, &entry, log);
    // No lock until the end: others may add and remove entries meanwhile.
    let mut standing = standing(&entries, &entry, apply)?;
    if standing == Standing::OneOfMany {
        server.wait_for_another();
        standing = self::standing(&hosts.read()?.entries, &entry, apply)?;
    }
    if standing == Standing::Alone {
        log.event(&format!(
            "{}: the only entry, removed without draining",
            entry.name
        ));
    }
    let drained = standing == Standing::OneOfMany && server.drain();
    let removed = remove(config, &hosts, &entry, apply, drained.then_some(&server));
    if removed.is_err() && drained {
        server.undo();
    }
    removed?;
    if apply {
        generate::apply(config, log)
    } else {
        Ok(())
    }
}

/// The one entry that `wanted` means.
fn find<'a>(entries: &'a [Entry], wanted: &str) -> Result<&'a Entry, Error> {
    let found: Vec<&Entry> = match entries.iter().find(|e| e.name == wanted) {
        Some(entry) => vec![entry],
        None => entries.iter().filter(|e| stands_at(e, wanted)).collect(),
    };
    match found[..] {
        [entry] => Ok(entry),
        [] => Err(Error::usage(
            wanted.escape_default(),
            "no entry has this name or address; see autoscaler list-hosts",
        )),
        _ => {
            let names: Vec<&str> = found.iter().map(|e| e.name.as_str()).collect();
            Err(Error::usage(
                wanted,
                format!("several entries stand there: {}; name one", names.join(", ")),
            ))
        }
    }
}

fn stands_at(entry: &Entry, wanted: &str) -> bool {
    let address = entry.address();
    let with_port = entry.port().map(|port| match address.contains(':') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    });
    address == wanted.trim_matches(['[', ']']) || with_port.as_deref() == Some(wanted)
}

/// How an entry stands among the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Somebody else removed it.
    Gone,
    Alone,
    OneOfMany,
}

/// # Errors
/// It must stay: it has become another one, or it is the last that HAProxy has.
fn standing(entries: &[Entry], entry: &Entry, apply: bool) -> Result<Standing, Error> {
    match entries.iter().find(|e| e.name == entry.name) {
        None => Ok(Standing::Gone),
        Some(now) if now != entry => Err(Error::busy(
            &entry.name,
            "its entry changed meanwhile, it stays; see autoscaler list-hosts",
        )),
        Some(_) if entries.len() > 1 => Ok(Standing::OneOfMany),
        Some(_) if apply => Err(Error::config(
            &entry.name,
            "is the only entry: HAProxy would have nobody left to answer; add another first",
        )),
        Some(_) => Ok(Standing::Alone),
    }
}

/// Takes `entry` out, if it stands as it did when it was looked at.
fn remove(
    config: &Config,
    hosts: &HostsDir,
    entry: &Entry,
    apply: bool,
    drained: Option<&Server>,
) -> Result<(), Error> {
    let _lock = hosts.lock()?;
    if standing(&hosts.read()?.entries, entry, apply)? == Standing::Gone {
        return Ok(());
    }
    if let Some(drained) = drained {
        // Should it come back before the next `generate`, that one ends the drain.
        let due_file = DueFile::new(config.dir());
        let mut due = due_file.load()?.unwrap_or_default();
        due.aside.insert(drained.server.clone());
        due_file.save(&due)?;
    }
    hosts.remove(&entry.name)
}
