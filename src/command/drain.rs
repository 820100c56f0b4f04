//! A server of the running HAProxy that is to finish its requests and get no new ones.

use std::thread;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::core::duration;
use crate::core::entry::Entry;
use crate::core::runtime::replies::Row;
use crate::system::haproxy_socket::HaproxySocket;
use crate::system::log::Log;

/// How often the sessions are counted.
const COUNT_EVERY: Duration = Duration::from_millis(100);

/// A HAProxy that doesn't answer for this long, amid a drain, is not waited for any longer: a
/// reload takes less.
const SILENCE: Duration = Duration::from_secs(5);

/// A server that was set to drain.
pub struct Drained {
    /// Its name in HAProxy.
    pub server: String,
    socket: HaproxySocket,
    backend: String,
}

impl Drained {
    /// Lets it have new requests again.
    pub fn undo(&self) {
        // One that can't be told keeps no server from anything either.
        let _ = self.set("ready");
    }

    fn set(&self, state: &str) -> Result<(), String> {
        let command = format!("set server {}/{} state {state}", self.backend, self.server);
        self.socket
            .order(crate::core::runtime::NO_EXPERIMENT, &command, "")
    }

    /// Its row of `show stat`; `None` where HAProxy has no such server.
    fn row(&self) -> Result<Option<Row>, String> {
        let rows = self.socket.rows(&self.backend)?;
        Ok(rows.into_iter().find(|r| r.name == self.server))
    }
}

/// Drains the server of `entry` until its sessions have ended or `drain_timeout` has passed.
/// Whatever keeps it from draining is said, and keeps nobody from removing it. `None`: it was not
/// set to drain.
pub fn drain(config: &Config, entry: &Entry, log: Log) -> Option<Drained> {
    let line = entry.server_line(&config.haproxy.server_line);
    let server = Drained {
        server: line.split_ascii_whitespace().nth(1)?.into(),
        socket: HaproxySocket::new(&config.haproxy.socket),
        backend: config.haproxy.backend.clone(),
    };
    let name = &entry.name;
    let undrained = |why: &str| log.warning(&format!("{name}: removed without draining: {why}"));
    match server.row() {
        Err(why) => undrained(&why),
        Ok(None) => log.event(&format!("{name}: HAProxy has no such server, nothing to drain")),
        Ok(Some(row)) if row.is_down() => undrained("HAProxy has it DOWN"),
        Ok(Some(_)) => match server.set("drain") {
            Err(why) => undrained(&why),
            Ok(()) => {
                if let Err(why) = wait(&server, name, config.scaling.drain_timeout, log) {
                    log.warning(&format!("{name}: {why}; removed all the same"));
                }
                return Some(server);
            }
        },
    }
    None
}

/// Waits for the end of all sessions.
///
/// # Errors
/// Why it was given up.
fn wait(server: &Drained, name: &str, timeout: Duration, log: Log) -> Result<(), String> {
    log.event(&format!(
        "{name}: draining, for at most {} s",
        duration::seconds(timeout)
    ));
    let began = Instant::now();
    let mut answered = began;
    let result = loop {
        let left = timeout.saturating_sub(began.elapsed());
        let sessions = match server.row() {
            Ok(None) => break Ok(()),
            Ok(Some(row)) if row.is_down() => {
                break Err(format!("went DOWN with {} sessions", row.sessions));
            }
            Ok(Some(row)) => {
                answered = Instant::now();
                // A reload forgets the drain.
                if !row.is_set_aside() {
                    let _ = server.set("drain");
                } else if row.sessions == 0 {
                    break Ok(());
                }
                row.sessions
            }
            Err(why) if answered.elapsed() > SILENCE => break Err(why),
            Err(_) => 0,
        };
        if left.is_zero() {
            let timeout = duration::seconds(timeout);
            break Err(format!(
                "still has {sessions} sessions after drain_timeout, {timeout} s"
            ));
        }
        log.progress(&format!(
            "{name}: draining, {sessions} sessions, {} s left",
            duration::seconds(left)
        ));
        thread::sleep(COUNT_EVERY.min(left));
    };
    log.progress_done();
    result
}
