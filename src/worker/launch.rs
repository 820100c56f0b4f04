//! Launching one machine, exactly one, however often it is asked for.

use std::thread;
use std::time::{Duration, Instant};

use super::command::ScaleCommand;
use super::{CLUSTER_TAG, EC2_TIME, Worker, ec2_error};
use crate::aws_cli::Request;
use crate::core::entry;
use crate::core::fleet::client_token;
use crate::core::node::Machine;
use crate::core::shortage::{self, Place};
use crate::ec2::Failure;
use crate::error::Error;

/// How many terminated instances may stand behind one fleet's tokens before this gives up.
const TOKENS: u32 = 100;
/// How many of them may have gone with other parameters.
const MISMATCHES: u32 = 5;
/// How long an instance that somebody else has launched may take to be listed.
const LISTED: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_secs(1);

impl Worker {
    /// `fleet`: the ids of the cluster's instances, sorted. `short`: what is tried last. What turns
    /// out to have no capacity is added to `without`.
    pub(super) fn launch(
        &self,
        fleet: &[String],
        short: &[Place],
        without: &mut Vec<Place>,
    ) -> Result<Machine, Error> {
        match &self.up {
            Some(ScaleCommand::Native(request)) => match self.has_group() {
                true => self.launch_in_group(request, fleet),
                false => self.launch_natively(request, fleet, short, without),
            },
            Some(ScaleCommand::Shell(command)) => self.launch_by_shell(command),
            None => self
                .check_ready()
                .and(Err(Error::config("scale_up_command", "is not set"))),
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

    /// RunInstances, in the next subnet or with the next type where EC2 has no capacity, and only
    /// there: whoever does not know what came of one attempt must not begin another.
    fn launch_natively(
        &self,
        request: &Request,
        fleet: &[String],
        short: &[Place],
        without: &mut Vec<Place>,
    ) -> Result<Machine, Error> {
        let machine = &self.config.machine;
        let mut last = Failure::Config("nothing to try".into());
        let (subnets, types) = (&machine.fallback_subnet_ids, &machine.fallback_instance_types);
        let mut places = attempts(request, subnets, types);
        shortage::sort(&mut places, short);
        for place in places {
            let mut request = request.clone();
            if let Some(subnet) = &place.subnet {
                request.set_subnet(subnet);
            }
            if let Some(instance_type) = &place.instance_type {
                request.set_instance_type(instance_type);
            }
            match self.launch_once(&request, fleet) {
                Err(failure @ Failure::Capacity { .. }) => {
                    self.log.event(&format!(
                        "{} in {}: {failure}",
                        request.instance_type().unwrap_or("instance"),
                        request.subnet().unwrap_or("any subnet")
                    ));
                    last = failure;
                    without.push(place);
                }
                Err(failure) => return Err(ec2_error("RunInstances", &failure)),
                Ok(id) => {
                    return Ok(Machine {
                        instance: Some(id),
                        host: String::new(),
                        port: machine.port,
                    });
                }
            }
        }
        let error = ec2_error("RunInstances", &last);
        Err(match without.len() {
            0 | 1 => error,
            tried => error.advise(&format!("all {tried} pairs of subnet and type were tried")),
        })
    }

    /// One attempt at one subnet and type. Whoever sees the same fleet makes the same token, and
    /// EC2 answers both with the same instance. A token whose instance is terminated, which EC2
    /// remembers for longer than it lists it, is followed by the next of a chain that is the same
    /// for all, too. So is one that went with other parameters (an INI that changed, a file that
    /// differs), once it is clear that nothing was launched with it.
    fn launch_once(&self, request: &Request, fleet: &[String]) -> Result<String, Failure> {
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
                .run_instances(&request.params, 1, &token, Instant::now() + EC2_TIME)
            {
                Err(Failure::TokenTerminated { .. }) => {}
                Err(failure @ Failure::TokenMismatch { .. }) if mismatches < MISMATCHES => {
                    mismatches += 1;
                    self.log.event(&format!(
                        "EC2 RunInstances: {failure} looking for what was launched"
                    ));
                    if let Some(id) = self.launched_by_another(&token)? {
                        return Ok(id);
                    }
                }
                Err(failure) => return Err(failure),
                Ok(instances) => match instances.first() {
                    Some(i) if i.is_gone() => {}
                    Some(instance) => return Ok(instance.id.clone()),
                    None => {
                        return Err(Failure::Unavailable {
                            cause: "EC2 answered without an instance".into(),
                        });
                    }
                },
            }
        }
        Err(Failure::Unavailable {
            cause: format!("{TOKENS} client tokens in a row have been used"),
        })
    }

    /// The live instance that was launched with `token`, by another node or before the INI changed.
    fn launched_by_another(&self, token: &str) -> Result<Option<String>, Failure> {
        let until = Instant::now() + LISTED;
        loop {
            let found = self.client.launched_with(token, Instant::now() + EC2_TIME)?;
            if !found.is_empty() {
                let ours = found
                    .into_iter()
                    .find(|i| i.is_live() && i.tag(CLUSTER_TAG) == Some(&self.config.cluster.name));
                return Ok(ours.map(|i| i.id));
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            thread::sleep(LOOK);
        }
    }

    fn launch_by_shell(&self, command: &str) -> Result<Machine, Error> {
        let done = self.shell("scale_up_command", command, &[])?;
        let line = done
            .stdout
            .lines()
            .rfind(|l| !l.trim().is_empty())
            .unwrap_or_default();
        machine_of(line, self.config.machine.port).ok_or_else(|| {
            Error::unavailable(
                "scale_up_command",
                format!("its last line is not `<host> [<port>]`: `{line}`"),
            )
        })
    }
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
        let others = others
            .iter()
            .filter(|o| Some(o.as_str()) != own)
            .cloned()
            .map(Some);
        std::iter::once(None).chain(others).collect()
    };
    let subnets = own_first(request.subnet(), subnets);
    own_first(request.instance_type(), types)
        .into_iter()
        .flat_map(|instance_type| {
            subnets.iter().map(move |subnet| Place {
                subnet: subnet.clone(),
                instance_type: instance_type.clone(),
            })
        })
        .collect()
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
