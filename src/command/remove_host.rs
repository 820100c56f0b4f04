//! `remove-host`: an app server drained in HAProxy, then its entry out of `hosts.d`.

use std::thread;
use std::time::{Duration, Instant};

use super::drain::{Begun, COUNT_EVERY, Server};
use super::{entries, generate, template, template_path};
use crate::cli::RemoveHost;
use crate::config::Config;
use crate::core::haproxy::entry::Entry;
use crate::core::haproxy::runtime::text;
use crate::core::haproxy::ssh_gate::By;
use crate::error::Error;
use crate::system::drains::Held;
use crate::system::due::DueFile;
use crate::system::hosts_dir::HostsDir;
use crate::system::log::Log;

/// How long the last server that is up waits for another one.
const SERVES_WITHIN: Duration = Duration::from_secs(10);

pub fn run(config: &Config, asked: &RemoveHost, by: By, log: Log) -> Result<(), Error> {
    let hosts = HostsDir::new(config.dir());
    if asked.apply {
        generate::can_apply(config)?;
    }
    let entry = find(&entries(&hosts, log)?, &asked.wanted)?.clone();
    let force = asked.force && by.may_force(&entry);
    if !force {
        is_not_needed(config, &entry)?;
    }
    let server = Server::of(config, &entry, force, log);
    let removal = Step {
        hosts: &hosts,
        entry: &entry,
        apply: asked.apply,
        force,
        log,
    };
    // Others may add and remove entries while it drains.
    let held = removal.begin(&server)?;
    let removed = match held.as_ref().map_or(Ok(()), |_| server.wait()) {
        Ok(()) => removal.end(config, held.is_some().then_some(&server)),
        // By somebody who asked for the same.
        Err(_) if removal.standing()? == Standing::Gone => Ok(false),
        Err(error) => Err(error),
    };
    if removed.is_err() && held.is_some() {
        server.undo();
    }
    if removed? {
        say_removed(&entry, by, log);
    }
    let left = hosts.read()?.entries.len();
    match asked.apply {
        true if left == 0 && force => {
            log.event("no entry is left: HAProxy keeps its configuration");
            Ok(())
        }
        true => generate::apply(config, log),
        false => Ok(()),
    }
}

/// Does the template do without the server?
///
/// # Errors
/// Config: HAProxy would refuse what is made of it.
fn is_not_needed(config: &Config, entry: &Entry) -> Result<(), Error> {
    let template = template(config).unwrap_or_default();
    let pattern = &config.haproxy.server_line;
    let Some((at, line)) = text::that_need(&template, &entry.server(pattern))
        .first()
        .copied()
    else {
        return Ok(());
    };
    let path = template_path(config);
    Err(Error::config(
        format!("{}:{at}", path.display()),
        format!(
            "`{line}` needs the server of {}/{}, `{}`, which stays; take the line out first",
            HostsDir::new(config.dir()).path().display(),
            entry.name,
            entry.server_line(pattern, 0)
        ),
    ))
}

/// It is not for daemons to say: they end the machine, too.
fn say_removed(entry: &Entry, by: By, log: Log) {
    let Some(id) = entry.instance().filter(|_| by == By::Hand) else {
        return log.event(&format!("{}: removed", entry.name));
    };
    log.warning(&format!(
        "{}: removed; while {id} serves, the daemons enter it again unless it is tagged autoscaler:keep",
        entry.name
    ));
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

/// The removal of one entry.
struct Step<'a> {
    hosts: &'a HostsDir,
    entry: &'a Entry,
    apply: bool,
    force: bool,
    log: Log,
}

impl Step<'_> {
    /// # Errors
    /// It must stay: it has become another one, or it is the last that HAProxy has.
    fn standing(&self) -> Result<Standing, Error> {
        let entries = self.hosts.read()?.entries;
        let name = &self.entry.name;
        match entries.iter().find(|e| e.name == *name) {
            None => Ok(Standing::Gone),
            Some(now) if now != self.entry => Err(Error::busy(
                name,
                "its entry changed meanwhile, it stays; see autoscaler list-hosts",
            )),
            Some(_) if entries.len() > 1 => Ok(Standing::OneOfMany),
            Some(_) if self.apply && !self.force => Err(Error::busy(
                name,
                "is the only entry: HAProxy would have nobody left to answer; add another first",
            )),
            Some(_) => Ok(Standing::Alone),
        }
    }

    /// Sets it to drain. One that was just added has to pass its check before it can take over, so
    /// the last one that is up waits for another.
    /// `None`: there is nothing to drain.
    fn begin(&self, server: &Server) -> Result<Option<Held>, Error> {
        let deadline = Instant::now() + SERVES_WITHIN;
        loop {
            let lock = self.hosts.lock()?;
            match self.standing()? {
                Standing::Gone => return Ok(None),
                // HAProxy keeps it: nothing is applied.
                Standing::Alone if !self.apply => {
                    let name = &self.entry.name;
                    self.log
                        .event(&format!("{name}: the only entry, removed without draining"));
                    return Ok(None);
                }
                Standing::Alone | Standing::OneOfMany => {}
            }
            match server.begin()? {
                Begun::Last(section) if Instant::now() >= deadline => {
                    return Err(Error::busy(
                        &self.entry.name,
                        format!(
                            "nobody else is UP in `{section}`, so it stays; --force removes it all the same"
                        ),
                    ));
                }
                Begun::Last(_) => {}
                Begun::Draining(held) => return Ok(Some(held)),
                Begun::NotNeeded => return Ok(None),
            }
            drop(lock);
            thread::sleep(COUNT_EVERY);
        }
    }

    /// Takes the entry out, if it stands as it did when it was looked at; `false` where it is gone
    /// already. `drained`: its server, which is set to drain.
    ///
    /// # Errors
    /// I/O; busy where it must stay.
    fn end(&self, config: &Config, drained: Option<&Server>) -> Result<bool, Error> {
        let _lock = self.hosts.lock()?;
        if self.standing()? == Standing::Gone {
            return Ok(false);
        }
        if let Some(drained) = drained {
            drained.check()?;
            // Should it come back before the next `generate`, that one ends the drain.
            let due_file = DueFile::new(config.dir());
            let mut due = due_file.load()?.unwrap_or_default();
            due.aside.insert(drained.server.clone());
            due_file.save(&due)?;
        }
        self.hosts.remove(&self.entry.name)?;
        drained.map_or(Ok(()), Server::forget)?;
        Ok(true)
    }
}
