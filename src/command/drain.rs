//! A server of the running HAProxy that is to finish its requests and get no new ones.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::core::duration;
use crate::core::entry::Entry;
use crate::core::runtime::{self, replies::Row};
use crate::system::haproxy_socket::HaproxySocket;
use crate::system::log::Log;

/// How often the sessions are counted.
const COUNT_EVERY: Duration = Duration::from_millis(100);

/// How long a drain waits for another server to be up before it begins.
const SERVES_WITHIN: Duration = Duration::from_secs(10);

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
    backend: String,
    timeout: Duration,
    log: Log,
}

impl Server {
    /// The server that HAProxy has for `entry`, if it has one.
    pub fn of(config: &Config, entry: &Entry, log: Log) -> Server {
        Server {
            server: entry.server(&config.haproxy.server_line),
            name: entry.name.clone(),
            socket: HaproxySocket::new(&config.haproxy.socket),
            backend: config.haproxy.backend.clone(),
            timeout: config.scaling.drain_timeout,
            log,
        }
    }

    /// Waits until another server is up: one that was just added has to pass its check before it
    /// can take over.
    pub fn wait_for_another(&self) {
        let deadline = Instant::now() + SERVES_WITHIN;
        let leaving = BTreeSet::from([self.server.clone()]);
        let alone = || {
            let running = self.socket.servers(&self.backend);
            running.is_ok_and(|r| runtime::leaves_nobody(&r, &leaving))
        };
        while alone() {
            if Instant::now() >= deadline {
                return self.warn("no other server of HAProxy's backend is up");
            }
            thread::sleep(COUNT_EVERY);
        }
    }

    /// Drains it until its sessions have ended or `drain_timeout` has passed. Whatever keeps it
    /// from draining is said, and keeps nobody from removing it. Was it set to drain?
    pub fn drain(&self) -> bool {
        let undrained = |why: &str| self.warn(&format!("removed without draining: {why}"));
        match self.row() {
            Err(why) => undrained(&why),
            Ok(None) => self.say("HAProxy has no such server, nothing to drain"),
            Ok(Some(row)) if row.is_down() => undrained("HAProxy has it DOWN"),
            Ok(Some(_)) => match self.set("drain") {
                Err(why) => undrained(&why),
                Ok(()) => {
                    let timeout = duration::seconds(self.timeout);
                    self.say(&format!("draining, for at most {timeout} s"));
                    if let Err(why) = self.wait() {
                        self.warn(&format!("{why}; removed all the same"));
                    }
                    return true;
                }
            },
        }
        false
    }

    /// Lets it have new requests again.
    pub fn undo(&self) {
        // One that can't be told keeps no server from anything either.
        let _ = self.set("ready");
    }

    /// Waits for the end of all sessions.
    ///
    /// # Errors
    /// Why it was given up.
    fn wait(&self) -> Result<(), String> {
        let began = Instant::now();
        let mut answered = began;
        let result = loop {
            let left = self.timeout.saturating_sub(began.elapsed());
            let sessions = match self.row() {
                Ok(None) => break Ok(()),
                Ok(Some(row)) if row.is_down() => {
                    break Err(format!("went DOWN, sessions left: {}", row.sessions));
                }
                Ok(Some(row)) => {
                    answered = Instant::now();
                    // A reload forgets the drain.
                    if !row.is_set_aside() {
                        let _ = self.set("drain");
                    } else if row.sessions == 0 {
                        break Ok(());
                    }
                    row.sessions
                }
                Err(why) if answered.elapsed() > SILENCE => break Err(why),
                Err(_) => 0,
            };
            if left.is_zero() {
                break Err(format!("drain_timeout has passed, sessions left: {sessions}"));
            }
            self.log.progress(&format!(
                "{}: draining, sessions left: {sessions}, seconds left: {}",
                self.name,
                duration::seconds(left)
            ));
            thread::sleep(COUNT_EVERY.min(left));
        };
        self.log.progress_done();
        result
    }

    fn set(&self, state: &str) -> Result<(), String> {
        let command = format!("set server {}/{} state {state}", self.backend, self.server);
        self.socket.order(&command, "")
    }

    /// Its row of `show stat`; `None` where HAProxy has no such server.
    fn row(&self) -> Result<Option<Row>, String> {
        let rows = self.socket.rows()?;
        let ours = |r: &Row| r.section == self.backend && r.name == self.server;
        Ok(rows.into_iter().find(ours))
    }

    fn say(&self, text: &str) {
        self.log.event(&format!("{}: {text}", self.name));
    }

    fn warn(&self, text: &str) {
        self.log.warning(&format!("{}: {text}", self.name));
    }
}
