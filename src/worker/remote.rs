//! autoscaler on the HAProxy hosts, over ssh.

use std::thread;
use std::time::Duration;

use crate::core::fleet::Listed;
use crate::core::node::{Machine, Told};
use crate::error::Error;
use crate::system::child;
use crate::system::ssh::{self, Ssh};

/// For one command.
const TIME: Duration = Duration::from_secs(60);

/// How to run autoscaler on a HAProxy host.
pub struct Remote {
    ssh: Ssh,
    /// `[haproxy] remote_command`.
    program: String,
}

impl Remote {
    pub fn new(ssh: Ssh, program: String) -> Remote {
        Remote { ssh, program }
    }

    /// Enters `machine` on each of `servers`.
    pub fn enter(&self, machine: &Machine, servers: Vec<String>) -> Told {
        without_output(self.on_each(servers, &add_order(machine)))
    }

    /// Drains `machine` and removes it on each of `servers`. Where it is not listed (any more),
    /// that is done. Where it is listed with other ports, as by hand, an instance's go, for its
    /// address is its own; without one, they may be those of others.
    pub fn drain(&self, machine: &Machine, servers: Vec<String>, drain_timeout: Duration) -> Told {
        let order = |port: u16| match machine.host.contains(':') {
            // In quotes: the shell over there takes brackets for a pattern.
            true => format!("remove-host '[{}]:{port}' --apply", machine.host),
            false => format!("remove-host {}:{port} --apply", machine.host),
        };
        let time = drain_timeout + TIME;
        without_output(side_by_side(servers, |server| {
            let failed = match self.run(server, &order(machine.port), time) {
                Err(error) => error,
                done => return done,
            };
            match self.ports_of(server, &machine.host) {
                Err(_) => Err(failed),
                Ok(ports) if ports.contains(&machine.port) => Err(failed),
                // None: removed before, perhaps by a call whose answer was lost.
                Ok(ports) if ports.is_empty() || machine.instance.is_some() => ports
                    .into_iter()
                    .try_for_each(|port| self.run(server, &order(port), time).map(drop))
                    .map(|()| String::new()),
                Ok(_) => Err(failed.advise(&format!(
                    "{} is there with other ports, and [machine] port is {}",
                    machine.host, machine.port
                ))),
            }
        }))
    }

    /// The ports at which this HAProxy host lists `host`.
    fn ports_of(&self, server: &str, host: &str) -> Result<Vec<u16>, Error> {
        let listing = self.on(server, "list-hosts")?;
        let entries = listing.lines().filter_map(Listed::parse);
        Ok(entries
            .filter(|l| l.address == host)
            .filter_map(|l| l.port)
            .collect())
    }

    /// Runs autoscaler on each host, side by side: what it printed, or why not.
    pub fn on_each(&self, servers: Vec<String>, arguments: &str) -> Vec<(String, Result<String, Error>)> {
        self.on_each_within(TIME, servers, arguments)
    }

    /// The same, with `time` for each host.
    pub fn on_each_within(
        &self,
        time: Duration,
        servers: Vec<String>,
        arguments: &str,
    ) -> Vec<(String, Result<String, Error>)> {
        side_by_side(servers, |server| self.run(server, arguments, time))
    }

    /// Runs autoscaler on one host: what it printed, or why not.
    pub fn on(&self, server: &str, arguments: &str) -> Result<String, Error> {
        self.run(server, arguments, TIME)
    }

    fn run(&self, server: &str, arguments: &str, time: Duration) -> Result<String, Error> {
        let mut command = self.ssh.to(server, None, None);
        command.arg(format!("{} {arguments}", self.program));
        let failed = |cause: String| Error::unavailable(format!("HAProxy host {server}"), cause);
        let done = child::run(&mut command, time).map_err(failed)?;
        match done.status.code() {
            Some(0) => Ok(done.stdout),
            Some(ssh::UNREACHABLE) => Err(failed(format!("ssh: {}", done.complaint()))),
            _ => Err(failed(
                done.complaint().trim_start_matches("autoscaler: ").to_string(),
            )),
        }
    }
}

/// The arguments that enter `machine` on a HAProxy host.
pub fn add_order(machine: &Machine) -> String {
    let id = machine
        .instance
        .as_ref()
        .map_or(String::new(), |id| format!(" --id {id}"));
    format!("add-host {} {}{id} --apply", machine.host, machine.port)
}

fn side_by_side<T: Send>(
    servers: Vec<String>,
    call: impl Fn(&str) -> Result<T, Error> + Sync,
) -> Vec<(String, Result<T, Error>)> {
    let call = &call;
    thread::scope(|scope| {
        let calls: Vec<_> = servers
            .into_iter()
            .map(|server| (server.clone(), scope.spawn(move || call(&server))))
            .collect();
        let result = |(server, call): (String, thread::ScopedJoinHandle<_>)| {
            let result = call
                .join()
                .unwrap_or_else(|_| Err(Error::io(&server, "the call crashed")));
            (server, result)
        };
        calls.into_iter().map(result).collect()
    })
}

fn without_output(results: Vec<(String, Result<String, Error>)>) -> Told {
    results
        .into_iter()
        .map(|(server, result)| (server, result.map(|_| ())))
        .collect()
}
