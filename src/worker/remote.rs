//! autoscaler on the HAProxy hosts, over ssh.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::survey;
use crate::config::Haproxy;
use crate::core::node::Told;
use crate::core::plan::{Listed, Machine, State};
use crate::error::{Error, Kind};
use crate::system::child;
use crate::system::lock;
use crate::system::ssh::{self, Ssh};

/// For one command.
const TIME: Duration = Duration::from_secs(60);
/// Who has not answered so long after another has is out of reach.
const BEHIND: Duration = Duration::from_secs(5);
/// Between two looks at whether HAProxy has taken a machine up.
const FIRST_LOOK: Duration = Duration::from_millis(500);
const LONGEST_LOOK: Duration = Duration::from_secs(4);

/// How to run autoscaler on a HAProxy host.
#[derive(Clone)]
pub struct Remote {
    ssh: Arc<Ssh>,
    /// `[haproxy] remote_command`.
    program: Arc<str>,
    /// One change at a time for each host: sshd drops the tenth call at once.
    lanes: Arc<BTreeMap<String, Mutex<()>>>,
}

/// Calls under way, one for each host.
pub struct Asked {
    servers: Vec<String>,
    answers: Receiver<(usize, Result<String, Error>)>,
}

impl Asked {
    /// Each host's answer. Who is [`BEHIND`] another is out of reach.
    pub fn wait(self) -> Vec<(String, Result<String, Error>)> {
        let mut answers: Vec<Option<Result<String, Error>>> = self.servers.iter().map(|_| None).collect();
        let mut until = None;
        while answers.iter().any(Option::is_none) {
            let next = match until {
                Some(until) => {
                    let left = Instant::saturating_duration_since(&until, Instant::now());
                    self.answers.recv_timeout(left).ok()
                }
                None => self.answers.recv().ok(),
            };
            let Some((at, answer)) = next else { break };
            if answer.is_ok() {
                until.get_or_insert(Instant::now() + BEHIND);
            }
            answers[at] = Some(answer);
        }
        let late = |server: &str| {
            let cause = format!("no answer {} s after another's", BEHIND.as_secs());
            Err(Error::unavailable(format!("HAProxy host {server}"), cause))
        };
        let answers = self.servers.into_iter().zip(answers);
        let answers = answers.map(|(server, answer)| (answer.unwrap_or_else(|| late(&server)), server));
        answers.map(|(answer, server)| (server, answer)).collect()
    }
}

impl Remote {
    pub fn new(settings: &Haproxy) -> Remote {
        let lanes = settings
            .servers
            .iter()
            .map(|server| (server.clone(), Mutex::new(())));
        Remote {
            ssh: Arc::new(Ssh::new(settings)),
            program: settings.remote_command.as_str().into(),
            lanes: Arc::new(lanes.collect()),
        }
    }

    /// Asks each of `servers` for its entries and their states.
    pub fn listings(&self, servers: Vec<String>) -> Asked {
        let (send, answers) = mpsc::channel();
        for (at, server) in servers.iter().cloned().enumerate() {
            let (remote, send) = (self.clone(), send.clone());
            thread::spawn(move || {
                let _ = send.send((at, remote.run(&server, "list-hosts --state", TIME)));
            });
        }
        Asked { servers, answers }
    }

    /// Would each of `servers` take a machine?
    pub fn check(&self, servers: Vec<String>) -> Told {
        side_by_side(servers, |server| {
            self.run(server, "generate --check", TIME).map(drop)
        })
    }

    /// Enters `machine` on each of `servers`. `by_plan`: not where it was removed a little while ago.
    pub fn enter(&self, machine: &Machine, servers: Vec<String>, by_plan: bool) -> Told {
        let id = machine.instance.as_ref();
        let id = id.map_or(String::new(), |id| format!(" --id {id}"));
        let if_new = if by_plan { " --unless-removed" } else { "" };
        let order = format!("add-host {} {}{id}{if_new} --apply", machine.host, machine.port);
        side_by_side(servers, |server| self.change(server, &order))
    }

    /// Removes the entry `name`, whose instance is gone.
    pub fn remove(&self, server: &str, name: &str) -> Result<(), Error> {
        self.change(server, &format!("remove-host {name} --apply"))
    }

    /// Drains `machine` and removes it on each of `servers`. Where it is not listed (any more),
    /// that is done. Where it is listed with other ports, as by hand, an instance's go, for its
    /// address is its own; without one, they may be those of others. `force`: even the last one.
    pub fn drain(
        &self,
        machine: &Machine,
        servers: Vec<String>,
        drain_timeout: Duration,
        force: bool,
    ) -> Told {
        let force = if force { " --force" } else { "" };
        let order = |port: u16| match machine.host.contains(':') {
            // In quotes: the shell over there takes brackets for a pattern.
            true => format!("remove-host '[{}]:{port}' --apply{force}", machine.host),
            false => format!("remove-host {}:{port} --apply{force}", machine.host),
        };
        let time = drain_timeout + TIME;
        side_by_side(servers, |server| {
            let Err(failed) = self.run(server, &order(machine.port), time) else {
                return Ok(());
            };
            match self.ports_of(server, &machine.host) {
                Err(_) => Err(failed),
                Ok(ports) if ports.contains(&machine.port) => Err(failed),
                // None: removed before, perhaps by a call whose answer was lost.
                Ok(ports) if ports.is_empty() || machine.instance.is_some() => ports
                    .into_iter()
                    .try_for_each(|port| self.run(server, &order(port), time).map(drop)),
                Ok(_) => Err(failed.advise(&format!(
                    "{} is there with other ports, and [machine] port is {}",
                    machine.host, machine.port
                ))),
            }
        })
    }

    /// Waits until one of `servers` has `machine` UP, or until none of those that list it can say.
    ///
    /// # Errors
    /// None has within `time`; busy where nobody can tell, config where none lists it.
    pub fn confirm(&self, machine: &Machine, servers: &[String], time: Duration) -> Result<(), Error> {
        let until = Instant::now() + time;
        let mut pause = FIRST_LOOK;
        let is_it = |l: &&Listed| match (&l.instance, &machine.instance) {
            (Some(one), Some(other)) => one == other,
            _ => l.address == machine.host,
        };
        loop {
            let answers = self.listings(servers.to_vec()).wait();
            let listings: Vec<Vec<Listed>> = answers
                .into_iter()
                .filter_map(|(_, text)| survey::read(&text.ok()?).ok())
                .collect();
            let asked = !listings.is_empty();
            let lines: Vec<Listed> = listings.into_iter().flatten().filter(|l| is_it(&l)).collect();
            let up = lines.iter().any(|l| l.state == State::Up);
            if up || (!lines.is_empty() && lines.iter().all(|l| l.state == State::Unknown)) {
                return Ok(());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() && asked && lines.is_empty() {
                return Err(Error::config(machine.title(), "is listed by no HAProxy"));
            }
            if left.is_zero() && !lines.iter().any(|l| l.state == State::Down) {
                let cause = "no HAProxy could be asked about it, or a person has taken it out there";
                return Err(Error::busy(machine.title(), cause));
            }
            if left.is_zero() {
                let cause = "passes its health check from here, and no HAProxy has taken it up";
                return Err(Error::unavailable(machine.title(), cause));
            }
            thread::sleep(pause.min(left));
            pause = (pause * 2).min(LONGEST_LOOK);
        }
    }

    /// The ports at which this HAProxy host lists `host`.
    fn ports_of(&self, server: &str, host: &str) -> Result<Vec<u16>, Error> {
        let listing = self.run(server, "list-hosts", TIME)?;
        let entries = listing.lines().filter_map(Listed::parse);
        Ok(entries
            .filter(|l| l.address == host)
            .filter_map(|l| l.port)
            .collect())
    }

    /// Runs autoscaler on each host, side by side, with `time` for each: what it printed, or why not.
    pub fn on_each(
        &self,
        time: Duration,
        servers: Vec<String>,
        arguments: &str,
    ) -> Vec<(String, Result<String, Error>)> {
        side_by_side(servers, |server| self.run(server, arguments, time))
    }

    /// One of several changes that may come at once.
    fn change(&self, server: &str, arguments: &str) -> Result<(), Error> {
        let _lane = self.lanes.get(server).map(lock);
        self.run(server, arguments, TIME).map(drop)
    }

    fn run(&self, server: &str, arguments: &str, time: Duration) -> Result<String, Error> {
        let mut command = self.ssh.to(server, None, None);
        command.arg(format!("{} {arguments}", self.program));
        let subject = format!("HAProxy host {server}");
        let done = child::run(&mut command, time).map_err(|cause| Error::unavailable(&subject, cause))?;
        let said = done.complaint();
        let said = said.trim_start_matches("autoscaler: ").to_string();
        match done.status.code() {
            Some(0) => Ok(done.stdout),
            Some(ssh::UNREACHABLE) => Err(Error::unavailable(subject, format!("ssh: {}", done.complaint()))),
            // It has refused, and may take it later.
            Some(75) => Err(Error::new(Kind::Busy, subject, said)),
            _ => Err(Error::unavailable(subject, said)),
        }
    }
}

/// What `call` comes to with each of `these`, each on a thread of its own, in their order.
pub(super) fn side_by_side<T: Clone + Send, R: Send>(
    these: Vec<T>,
    call: impl Fn(&T) -> R + Sync,
) -> Vec<(T, R)> {
    let call = &call;
    thread::scope(|scope| {
        let begin = |one: T| (one.clone(), scope.spawn(move || call(&one)));
        let calls: Vec<_> = these.into_iter().map(begin).collect();
        let calls = calls.into_iter();
        calls
            .map(|(one, call)| (one, call.join().expect("it does not panic")))
            .collect()
    })
}
