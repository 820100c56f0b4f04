//! Launching: as many machines as were asked for, however often it is asked.

use std::net::ToSocketAddrs;
use std::thread;
use std::time::{Duration, Instant};

use super::command::ScaleCommand;
use super::{CLUSTER_TAG, EC2_TIME, Worker, ec2_error};
use crate::aws_cli::Request;
use crate::core::haproxy::entry;
use crate::core::node::insufficient_capacity::{self, Place};
use crate::core::node::{Launched, Machine};
use crate::core::plan::client_token;
use crate::ec2::{self, Failure};
use crate::error::Error;

/// How many terminated instances may stand behind one fleet's tokens before this gives up.
const TOKENS: u32 = 100;
/// How many of them may have gone with other parameters.
const MISMATCHES: u32 = 5;
/// How long an instance that somebody else has launched may take to be listed.
const LISTED: Duration = Duration::from_secs(60);
/// In a shell command: how many machines to launch.
const COUNT: &str = "$COUNT";
const LOOK: Duration = Duration::from_secs(1);

impl Worker {
    /// Launches `count` machines, or fewer where EC2 has no more. `fleet`: the ids of the cluster's
    /// instances, sorted. `short`: what is tried last.
    pub(super) fn launch(&self, count: u32, fleet: &[String], short: &[Place]) -> Launched {
        let launched = match &self.up {
            Some(ScaleCommand::Native(request)) if self.has_group() => {
                return self.launch_in_group(request, count, fleet);
            }
            Some(ScaleCommand::Native(request)) => {
                return self.launch_natively(request, count, fleet, short);
            }
            Some(ScaleCommand::Shell(command)) => self.launch_by_shell(command, count),
            // It never is.
            None => self.check_ready().map(|()| Vec::new()),
        };
        match launched {
            Ok(machines) => Launched {
                machines,
                ..Launched::default()
            },
            Err(error) => Launched {
                error: Some(error),
                ..Launched::default()
            },
        }
    }

    /// Asks EC2 whether it would let this node launch, by a dry run where there is one: what it
    /// said. `None` where a shell command does the launching.
    pub fn rehearse(&self, time: Duration) -> Option<Result<String, Error>> {
        let Some(ScaleCommand::Native(request)) = &self.up else {
            return None;
        };
        if self.has_group() {
            return Some(self.rehearse_group(request, time));
        }
        let answer = self
            .client
            .dry_run_of(request.action, &request.params, Instant::now() + time);
        let answer = answer.map(|()| "EC2 would launch (a signed dry run)".into());
        Some(answer.map_err(|e| ec2_error("RunInstances", &e)))
    }

    /// RunInstances, for what is still missing in the next subnet or with the next type where EC2 has
    /// no capacity, and only there: whoever does not know what came of one attempt must not begin
    /// another.
    fn launch_natively(&self, request: &Request, count: u32, fleet: &[String], short: &[Place]) -> Launched {
        let machine = &self.config.machine;
        // The command's own bound, beside max_step.
        let count = request.most.map_or(count, |most| count.min(most));
        let (subnets, types) = (&machine.fallback_subnet_ids, &machine.fallback_instance_types);
        let mut places = attempts(request, subnets, types);
        insufficient_capacity::sort(&mut places, short);
        let mut launched = Launched::default();
        for place in places {
            let missing = count.saturating_sub(launched.machines.len() as u32);
            if missing == 0 {
                break;
            }
            let mut request = request.clone();
            if let Some(subnet) = &place.subnet {
                request.set_subnet(subnet);
            }
            if let Some(instance_type) = &place.instance_type {
                request.set_instance_type(instance_type);
            }
            match self.launch_once(&request, missing, fleet) {
                Err(failure @ Failure::Capacity { .. }) => {
                    self.log.event(&format!(
                        "{} in {}: {failure}",
                        request.instance_type().unwrap_or("instance"),
                        request.subnet().unwrap_or("any subnet")
                    ));
                    launched.error = Some(ec2_error("RunInstances", &failure));
                    launched.without.push(place);
                }
                Err(failure) => {
                    launched.error = Some(ec2_error("RunInstances", &failure));
                    return launched;
                }
                Ok(ids) => {
                    if (ids.len() as u32) < missing {
                        launched.without.push(place);
                    }
                    let port = machine.port;
                    let machines = ids.into_iter().map(|id| Machine {
                        instance: Some(id),
                        host: String::new(),
                        port,
                    });
                    launched.machines.extend(machines);
                }
            }
        }
        if launched.machines.len() as u32 >= count {
            launched.error = None;
        } else if launched.without.len() > 1 {
            let all = format!(
                "all {} pairs of subnet and type were tried",
                launched.without.len()
            );
            launched.error = launched.error.map(|error| error.advise(&all));
        }
        launched
    }

    /// One attempt at one subnet and type, for `count` machines at most. Whoever sees the same fleet
    /// makes the same token, and EC2 answers both with the same instances. A token whose instances
    /// are terminated, which EC2 remembers for longer than it lists them, is followed by the next of
    /// a chain that is the same for all, too. So is one that went with other parameters (another
    /// number, an INI that changed), once it is clear that nothing was launched with it.
    fn launch_once(&self, request: &Request, count: u32, fleet: &[String]) -> Result<Vec<String>, Failure> {
        let mut mismatches = 0;
        for round in 0..TOKENS {
            let token = client_token(
                &self.config.cluster.name,
                fleet,
                request.subnet(),
                request.instance_type(),
                round,
            );
            match self
                .client
                .run_instances(&request.params, count, &token, Instant::now() + EC2_TIME)
            {
                Err(Failure::TokenTerminated { .. }) => {}
                Err(failure @ Failure::TokenMismatch { .. }) if mismatches < MISMATCHES => {
                    mismatches += 1;
                    self.log.event(&format!(
                        "EC2 RunInstances: {failure} looking for what was launched"
                    ));
                    let ids = self.launched_by_another(&token)?;
                    if !ids.is_empty() {
                        return Ok(ids);
                    }
                }
                Err(failure) => return Err(failure),
                Ok(mut instances) => {
                    instances.retain(|i| !i.is_gone());
                    if !instances.is_empty() {
                        return Ok(instances.into_iter().map(|i| i.id).collect());
                    }
                }
            }
        }
        Err(Failure::Unavailable {
            cause: format!("{TOKENS} client tokens in a row have been used"),
        })
    }

    /// The live instances that were launched with `token`, by another node or before the INI changed.
    fn launched_by_another(&self, token: &str) -> Result<Vec<String>, Failure> {
        let until = Instant::now() + LISTED;
        loop {
            let found = self.client.launched_with(token, Instant::now() + EC2_TIME)?;
            if !found.is_empty() || Instant::now() >= until {
                let ours = Some(self.config.cluster.name.as_str());
                let is_ours = |i: &ec2::Instance| i.is_live() && i.tag(CLUSTER_TAG) == ours;
                return Ok(found.into_iter().filter(is_ours).map(|i| i.id).collect());
            }
            thread::sleep(LOOK);
        }
    }

    /// A command that names `$COUNT` may be asked for several, and prints a line for each.
    fn launch_by_shell(&self, command: &str, count: u32) -> Result<Vec<Machine>, Error> {
        let count = if command.contains(COUNT) { count } else { 1 };
        let done = self.shell("scale_up_command", command, &[("COUNT", &count.to_string())])?;
        let lines: Vec<&str> = done.stdout.lines().filter(|l| !l.trim().is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(count as usize)..];
        let machines: Vec<Machine> = last
            .iter()
            .rev()
            .map_while(|line| machine_of(line, self.config.machine.port))
            .collect();
        if machines.is_empty() {
            let line = last.last().copied().unwrap_or_default();
            return Err(Error::unavailable(
                "scale_up_command",
                format!(
                    "its last line is not `<host> [<port>]`: `{line}`; it succeeded, so a machine may be running that \
                     nobody knows of: look for it where it launches them"
                ),
            ));
        }
        Ok(machines.into_iter().rev().map(at_its_address).collect())
    }
}

/// HAProxy lists addresses, by which a machine without an id is known again. A name that means nothing
/// yet stays.
fn at_its_address(machine: Machine) -> Machine {
    let found = (machine.host.as_str(), machine.port).to_socket_addrs();
    let address = found.ok().and_then(|mut found| found.next());
    let host = address.map_or_else(|| machine.host.clone(), |address| address.ip().to_string());
    Machine { host, ..machine }
}

/// Reads `<host> [<port>]`.
fn machine_of(line: &str, default_port: u16) -> Option<Machine> {
    let mut words = line.split_ascii_whitespace();
    let host = words.next()?;
    let port = words.next().map_or(Ok(default_port), entry::parse_port).ok()?;
    // It goes into a command line on the HAProxy hosts.
    entry::check_host(host).ok()?;
    words.next().is_none().then(|| Machine {
        instance: None,
        host: host.into(),
        port,
    })
}

/// What to try, in this order: the command's own subnet and type, the other subnets, then the
/// other types in each of them. `None` leaves what the command says.
fn attempts(request: &Request, subnets: &[String], types: &[String]) -> Vec<Place> {
    let own_first = |own: Option<&str>, others: &[String]| -> Vec<Option<String>> {
        let others = others.iter().filter(|o| Some(o.as_str()) != own);
        std::iter::once(None).chain(others.cloned().map(Some)).collect()
    };
    let mut places = Vec::new();
    for instance_type in own_first(request.instance_type(), types) {
        for subnet in own_first(request.subnet(), subnets) {
            places.push(Place {
                subnet,
                instance_type: instance_type.clone(),
            });
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws_cli;

    fn request(command: &str) -> Request {
        aws_cli::parse(&format!("aws ec2 run-instances {command}"), &|_| unreachable!()).unwrap()
    }

    #[test]
    fn other_subnets_come_before_other_types() {
        let r = request("--subnet-id s1 --instance-type t1");
        let names = |list: &[&str]| list.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        let tried = attempts(&r, &names(&["s1", "s2"]), &names(&["t2"]));
        let shown: Vec<String> = tried
            .iter()
            .map(|place| {
                let given = |name: &Option<String>| name.clone().unwrap_or("-".into());
                format!("{} {}", given(&place.subnet), given(&place.instance_type))
            })
            .collect();
        assert_eq!(shown, ["- -", "s2 -", "- t2", "s2 t2"]);
    }

    #[test]
    fn the_last_line_of_a_shell_command() {
        assert_eq!(machine_of("10.0.0.9", 80).unwrap().port, 80);
        assert_eq!(machine_of(" app9.internal 8080 ", 80).unwrap().port, 8080);
        for line in ["", "a b", "$(x)", "-oProxyCommand=x", "a 80 c", "a;b", "a 0"] {
            assert_eq!(machine_of(line, 80), None, "{line}");
        }
    }
}
