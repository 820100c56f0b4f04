//! `remove-host`: an app server drained in HAProxy, then its entry out of `hosts.d`.

use super::drain::{self, Drained};
use super::generate;
use crate::config::Config;
use crate::core::entry::Entry;
use crate::error::Error;
use crate::system::due::DueFile;
use crate::system::hosts_dir::HostsDir;
use crate::system::log::Log;

/// `wanted` is a server's name, an address, or an address with a port. With `apply`, HAProxy
/// loses it too.
pub fn run(config: &Config, wanted: &str, apply: bool, log: Log) -> Result<(), Error> {
    let hosts = HostsDir::new(config.dir());
    if apply {
        generate::can_apply(config)?;
    }
    let (entry, alone) = {
        let _lock = hosts.lock()?;
        let entries = hosts.entries()?;
        (find(&entries, wanted)?.clone(), entries.len() == 1)
    };
    if alone {
        refuse_the_last(&entry, apply)?;
        log.event(&format!(
            "{}: the only entry, removed without draining",
            entry.name
        ));
    }
    // Without the lock: others may add and remove entries meanwhile.
    let drained = match alone {
        true => None,
        false => drain::drain(config, &entry, log),
    };
    remove(config, &hosts, &entry, apply, drained.as_ref())?;
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

fn refuse_the_last(entry: &Entry, apply: bool) -> Result<(), Error> {
    match apply {
        true => Err(Error::config(
            &entry.name,
            "is the only entry: HAProxy would have nobody left to answer; add another first",
        )),
        false => Ok(()),
    }
}

/// Takes `entry` out, unless it has become another one since it was looked at. A server that was
/// drained and stays after all is made ready again.
fn remove(
    config: &Config,
    hosts: &HostsDir,
    entry: &Entry,
    apply: bool,
    drained: Option<&Drained>,
) -> Result<(), Error> {
    let _lock = hosts.lock()?;
    let entries = hosts.entries()?;
    let kept = match entries.iter().find(|e| e.name == entry.name) {
        // Somebody else removed it.
        None => return Ok(()),
        Some(now) if now != entry => Err(Error::busy(
            &entry.name,
            "its entry changed meanwhile, it stays; see autoscaler list-hosts",
        )),
        // The others may have gone meanwhile.
        Some(_) if entries.len() == 1 => refuse_the_last(entry, apply),
        Some(_) => Ok(()),
    };
    if let Err(error) = kept {
        drained.into_iter().for_each(Drained::undo);
        return Err(error);
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
