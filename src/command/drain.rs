//! A server of the running HAProxy that is to finish its requests and get no new ones, in every
//! managed section.

use std::thread;
use std::time::{Duration, Instant};

use super::template;
use crate::config::Config;
use crate::core::haproxy::entry::Entry;
use crate::core::haproxy::runtime::replies::Row;
use crate::core::haproxy::runtime::{somebody_stays, text};
use crate::core::text::duration;
use crate::error::Error;
use crate::system::drains::{Drains, Held};
use crate::system::haproxy_socket::HaproxySocket;
use crate::system::hosts_dir::HostsDir;
use crate::system::log::Log;

/// How often the sessions are counted.
pub const COUNT_EVERY: Duration = Duration::from_millis(100);

/// A HAProxy that doesn't answer for this long, amid a drain, is not waited for any longer: a
/// reload takes less.
const SILENCE: Duration = Duration::from_secs(5);

/// The server of an entry in the running HAProxy.
pub struct Server {
    /// Its name there.
    pub server: String,
    /// Its entry's.
    name: String,
    socket: HaproxySocket,
    /// The managed ones.
    sections: Vec<String>,
    hosts: HostsDir,
    drains: Drains,
    timeout: Duration,
    /// Even if nobody else is up.
    force: bool,
    log: Log,
}

/// How a drain begins.
pub enum Begun {
    Draining(Held),
    /// It gets no requests anyway, or HAProxy can't be asked.
    NotNeeded,
    /// In this section it is the last one that is up, and is not set to drain.
    Last(String),
}

impl Server {
    pub fn of(config: &Config, entry: &Entry, force: bool, log: Log) -> Server {
        let template = template(config).unwrap_or_default();
        let sections = text::managed(&template);
        Server {
            server: entry.server(&config.haproxy.server_line),
            name: entry.name.clone(),
            socket: HaproxySocket::new(&config.haproxy.socket),
            sections: sections.into_iter().map(String::from).collect(),
            hosts: HostsDir::new(config.dir()),
            drains: Drains::new(config.dir()),
            timeout: config.scaling.drain_timeout,
            force,
            log,
        }
    }

    /// Sets it to drain wherever it is up, if somebody else stays. The caller holds the lock of
    /// `hosts.d`, so that of two that leave at once each sees the other. Whatever else keeps it from
    /// draining is said, and keeps nobody from removing it.
    ///
    /// # Errors
    /// I/O.
    pub fn begin(&self) -> Result<Begun, Error> {
        let undrained = |why: &str| {
            self.warn(&format!("removed without draining: {why}"));
            Ok(Begun::NotNeeded)
        };
        let rows = match self.socket.rows() {
            Err(why) => return undrained(&why),
            Ok(rows) => rows,
        };
        let own = self.own(&rows);
        if own.is_empty() {
            self.say("HAProxy has no such server, nothing to drain");
            return Ok(Begun::NotNeeded);
        }
        if own.iter().all(|row| row.is_down()) {
            return undrained("HAProxy has it DOWN");
        }
        // Where an earlier call of ours has set it to drain, this one goes on.
        let mut sections = self.drains.sections(&self.server).unwrap_or_default();
        sections.retain(|section| self.sections.contains(section));
        let up = own.iter().filter(|row| row.is_up()).map(|row| &row.section);
        let newly: Vec<String> = up.cloned().collect();
        for section in &newly {
            if !sections.contains(section) {
                sections.push(section.clone());
            }
        }
        if let Some(section) = self.last_in(&rows, &sections) {
            return Ok(Begun::Last(section));
        }
        let held = self.drains.begin(&self.server, &sections)?;
        for section in &newly {
            if let Err(why) = self.set(section, "drain") {
                self.undo();
                return undrained(&why);
            }
        }
        Ok(Begun::Draining(held))
    }

    /// Waits until its sessions have ended or `drain_timeout` has passed; that and a silent HAProxy
    /// are said.
    ///
    /// # Errors
    /// Busy: somebody put it back into service, or it has become the last one that is up, and was put
    /// back for that.
    pub fn wait(&self) -> Result<(), Error> {
        let timeout = duration::seconds(self.timeout);
        self.say(&format!("draining, for at most {timeout} s"));
        let ended = self.wait_for_end();
        self.log.progress_done();
        match ended? {
            Some(why) => self.warn(&format!("{why}; removed all the same")),
            None => self.say("drained"),
        }
        Ok(())
    }

    /// `Some`: why it was given up.
    fn wait_for_end(&self) -> Result<Option<String>, Error> {
        let began = Instant::now();
        let mut answered = began;
        loop {
            let left = self.timeout.saturating_sub(began.elapsed());
            let mut sessions = 0;
            match self.socket.rows() {
                Ok(rows) => {
                    answered = Instant::now();
                    self.still_drained(&rows)?;
                    let own = self.own(&rows);
                    sessions = own.iter().map(|row| row.sessions).sum();
                    let settled = own.iter().all(|row| !row.is_up());
                    if !own.is_empty() && own.iter().all(|row| row.is_down()) {
                        return Ok(Some(format!("went DOWN, sessions left: {sessions}")));
                    }
                    if settled && sessions == 0 {
                        return Ok(None);
                    }
                    if !settled {
                        self.drain_again()?;
                    }
                }
                Err(why) if answered.elapsed() > SILENCE => return Ok(Some(why)),
                Err(_) => {}
            }
            if left.is_zero() {
                return Ok(Some(format!(
                    "drain_timeout has passed, sessions left: {sessions}"
                )));
            }
            self.log.progress(&format!(
                "{}: draining, sessions left: {sessions}, seconds left: {}",
                self.name,
                duration::seconds(left)
            ));
            thread::sleep(COUNT_EVERY.min(left));
        }
    }

    /// A reload forgets a drain.
    fn drain_again(&self) -> Result<(), Error> {
        let _lock = self.hosts.lock()?;
        let Ok(rows) = self.socket.rows() else {
            return Ok(());
        };
        self.still_drained(&rows)?;
        for row in self.own(&rows).into_iter().filter(|row| row.is_up()) {
            if self.last_in(&rows, std::slice::from_ref(&row.section)).is_some() {
                return Err(self.put_back());
            }
            let _ = self.set(&row.section, "drain");
        }
        Ok(())
    }

    /// Is it still for us to drain, and is somebody else up?
    ///
    /// # Errors
    /// Busy, and it takes requests again.
    pub fn check(&self) -> Result<(), Error> {
        self.socket
            .rows()
            .map_or(Ok(()), |rows| self.still_drained(&rows))
    }

    fn still_drained(&self, rows: &[Row]) -> Result<(), Error> {
        let Some(sections) = self.drains.sections(&self.server) else {
            return Err(Error::busy(
                &self.name,
                "was put back into service meanwhile, it stays",
            ));
        };
        match self.last_in(rows, &sections) {
            Some(_) => Err(self.put_back()),
            None => Ok(()),
        }
    }

    fn put_back(&self) -> Error {
        self.undo();
        Error::busy(
            &self.name,
            "the last of the others that were UP is no longer, so it was put back into service; it stays",
        )
    }

    /// Lets it have new requests again where we set it to drain; `false` where we did not.
    pub fn undo(&self) -> bool {
        let Some(sections) = self.drains.sections(&self.server) else {
            return false;
        };
        // What can't be told or forgotten keeps no server from anything either.
        let _ = self.drains.end(&self.server);
        for section in sections {
            let _ = self.set(&section, "ready");
        }
        true
    }

    /// Its entry is gone, and it is no longer for us to end the drain.
    ///
    /// # Errors
    /// I/O.
    pub fn forget(&self) -> Result<(), Error> {
        self.drains.end(&self.server)
    }

    fn last_in(&self, rows: &[Row], sections: &[String]) -> Option<String> {
        let alone = || somebody_stays::nobody_else(rows, sections, &self.server).map(String::from);
        if self.force { None } else { alone() }
    }

    fn set(&self, section: &str, state: &str) -> Result<(), String> {
        let command = format!("set server {section}/{} state {state}", self.server);
        self.socket.order(&command, "")
    }

    /// Its rows in the managed sections.
    fn own<'a>(&self, rows: &'a [Row]) -> Vec<&'a Row> {
        let ours = |row: &&Row| row.name == self.server && self.sections.contains(&row.section);
        rows.iter().filter(ours).collect()
    }

    fn say(&self, text: &str) {
        self.log.event(&format!("{}: {text}", self.name));
    }

    fn warn(&self, text: &str) {
        self.log.warning(&format!("{}: {text}", self.name));
    }
}

/// Has the servers of `entries` take requests again whose drain was begun by a process that has
/// ended since. The caller holds the lock of `hosts.d`.
///
/// # Errors
/// I/O.
pub fn end_abandoned(config: &Config, entries: &[Entry], log: Log) -> Result<(), Error> {
    let drains = Drains::new(config.dir());
    for server in drains.abandoned() {
        let entry = entries
            .iter()
            .find(|e| e.server(&config.haproxy.server_line) == server);
        match entry {
            Some(entry) if Server::of(config, entry, false, log).undo() => {
                log.event(&format!(
                    "{}: its drain was broken off, it takes requests again",
                    entry.name
                ));
            }
            _ => drains.end(&server)?,
        }
    }
    Ok(())
}
