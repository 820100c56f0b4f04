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
    /// that is done.
    pub fn drain(&self, machine: &Machine, servers: Vec<String>, drain_timeout: Duration) -> Told {
        let host = match machine.host.contains(':') {
            // In quotes: the shell over there takes brackets for a pattern.
            true => format!("'[{}]:{}'", machine.host, machine.port),
            false => format!("{}:{}", machine.host, machine.port),
        };
        let order = format!("remove-host {host} --apply");
        let time = drain_timeout + TIME;
        without_output(side_by_side(servers, |server| {
            match self.run(server, &order, time) {
                // Removed before, perhaps by a call whose answer was lost.
                Err(_) if self.lists(server, machine) == Ok(false) => Ok(String::new()),
                result => result,
            }
        }))
    }

    /// Does this host list `machine`?
    fn lists(&self, server: &str, machine: &Machine) -> Result<bool, Error> {
        let listing = self.on(server, "list-hosts")?;
        let here = |l: Listed| l.address == machine.host && l.port == Some(machine.port);
        Ok(listing.lines().filter_map(Listed::parse).any(here))
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
