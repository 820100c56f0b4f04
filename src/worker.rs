//! The slow steps of a scale-up: EC2, the health gate, the HAProxy hosts. They block, so each
//! call runs on a thread of its own and brings back what came of it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::aws_cli::{self, Request};
use crate::config::{self, Config};
use crate::core::auth::hex;
use crate::core::fleet::{Instance, Listed, Survey};
use crate::core::node::{Machine, Outcome, Step};
use crate::ec2::{self, Client, Failure, State};
use crate::error::{Error, Kind};
use crate::system::child;
use crate::system::health;
use crate::system::log::Log;
use crate::system::ssh::{self, Ssh};

/// For one question to EC2, its retries included.
const EC2_TIME: Duration = Duration::from_secs(60);
/// For one command on a HAProxy host.
const SSH_TIME: Duration = Duration::from_secs(60);
/// Between two looks at a machine that boots: short at first, for those that boot fast.
const FIRST_LOOK: Duration = Duration::from_millis(250);
const LONGEST_LOOK: Duration = Duration::from_secs(2);
/// How many terminated instances may stand behind one fleet's tokens before this gives up.
const TOKENS: u32 = 100;

/// How a machine is made.
enum Launcher {
    /// One signed RunInstances.
    Native {
        request: Box<Request>,
        client: Box<Client>,
    },
    /// A command for `/bin/sh -c`.
    Shell(String),
}

/// Carries out [`Step`]s.
pub struct Worker {
    config: Arc<Config>,
    launcher: Launcher,
    ssh: Ssh,
    log: Log,
}

impl Worker {
    /// Reads `scale_up_command`.
    ///
    /// # Errors
    /// Config; nothing is opened but the files that the command names.
    pub fn new(config: Arc<Config>, log: Log) -> Result<Worker, Error> {
        let path = config.path.display();
        let command = &config.machine.scale_up_command;
        if command.is_empty() {
            return Err(Error::config(
                path,
                "[machine] scale_up_command is not set: it says what to launch",
            ));
        }
        let launcher = match aws_cli::is_native(command) {
            true => native(&config, log)?,
            false => Launcher::Shell(command.clone()),
        };
        Ok(Worker {
            ssh: Ssh::new(&config.haproxy),
            launcher,
            log,
            config,
        })
    }

    /// Are the settings enough for a scale-up, and not only for a look at its request?
    ///
    /// # Errors
    /// Config.
    pub fn check_ready(&self) -> Result<(), Error> {
        let wrong = |cause| Err(Error::config(self.config.path.display(), cause));
        if self.config.haproxy.servers.is_empty() {
            return wrong("[haproxy] servers is not set: it says which HAProxy hosts to tell");
        }
        match &self.launcher {
            Launcher::Native { request, .. } if request.count() != (1, 1) => {
                wrong("scale_up_command: --count: a scale-up is one machine, so it must be 1")
            }
            _ => Ok(()),
        }
    }

    /// Does EC2 know of the machines? Not of those that a shell command makes.
    pub fn asks_ec2(&self) -> bool {
        matches!(self.launcher, Launcher::Native { .. })
    }

    /// What a scale-up would send or run, for `--dry-run`.
    pub fn describe(&self) -> String {
        match &self.launcher {
            Launcher::Shell(command) => format!("sh {command}\n"),
            Launcher::Native { request, .. } => {
                let mut lines: Vec<String> = request
                    .params
                    .iter()
                    .map(|(name, value)| format!("{name}={}\n", ec2::form_encode(value)))
                    .collect();
                lines.sort();
                format!("action {}\n{}", request.action, lines.concat())
            }
        }
    }

    /// Carries out one step to its end.
    pub fn run(&self, step: Step) -> Outcome {
        match step {
            Step::Survey => Outcome::Surveyed(self.survey()),
            Step::Clear { ids } => Outcome::Cleared(ids.iter().try_for_each(|id| self.terminate(id))),
            Step::Launch { fleet } => Outcome::Launched(match &self.launcher {
                Launcher::Native { request, client } => self.launch(request, client, &fleet),
                Launcher::Shell(command) => self.launch_by_shell(command),
            }),
            Step::Boot { mut machine, time } => {
                let result = self.boot(&mut machine, Instant::now() + time);
                Outcome::Booted(machine, result)
            }
            Step::Enter { machine, servers } => {
                let results = self.enter(&machine, servers);
                Outcome::Entered(machine, results)
            }
            Step::Terminate { id } => Outcome::Terminated(self.terminate(&id)),
        }
    }

    fn client(&self) -> Result<&Client, Error> {
        match &self.launcher {
            Launcher::Native { client, .. } => Ok(client),
            Launcher::Shell(_) => Err(Error::config("EC2", "scale_up_command does not launch there")),
        }
    }

    fn survey(&self) -> Result<Survey, Error> {
        let client = self.client()?;
        let instances: Vec<Instance> = client
            .cluster_instances(&self.config.cluster.name, Instant::now() + EC2_TIME)
            .map_err(|e| ec2_error("DescribeInstances", &e))?
            .into_iter()
            .map(|i| Instance {
                live: matches!(i.state, State::Pending | State::Running),
                address: i.private_ip.map(|ip| ip.to_string()),
                launched_at: i.launched_at.unwrap_or(0),
                id: i.id,
            })
            .collect();
        let live = instances.iter().any(|i| i.live);
        let servers = if live {
            self.config.haproxy.servers.clone()
        } else {
            Vec::new()
        };
        let listings = self
            .on_each(servers, "list-hosts")
            .into_iter()
            .map(|(_, result)| match result {
                Ok(listing) => Some(listing.lines().filter_map(Listed::parse).collect()),
                Err(error) => {
                    self.log.warning(&error.to_string());
                    None
                }
            })
            .collect();
        Ok(Survey {
            now: client.now(),
            instances,
            listings,
        })
    }

    /// RunInstances, in the next subnet or with the next type where EC2 has no capacity.
    fn launch(&self, request: &Request, client: &Client, fleet: &[String]) -> Result<Machine, Error> {
        let machine = &self.config.machine;
        let mut last = None;
        for (subnet, instance_type) in attempts(
            request,
            &machine.fallback_subnet_ids,
            &machine.fallback_instance_types,
        ) {
            let mut request = request.clone();
            if let Some(subnet) = &subnet {
                request.set_subnet(subnet);
            }
            if let Some(instance_type) = &instance_type {
                request.set_instance_type(instance_type);
            }
            match self.launch_once(&request, client, fleet) {
                Err(failure @ Failure::Capacity { .. }) => {
                    self.log.event(&format!(
                        "{} in {}: {failure}",
                        request.instance_type().unwrap_or("instance"),
                        request.subnet().unwrap_or("any subnet")
                    ));
                    last = Some(failure);
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
        let failure = last.unwrap_or(Failure::Config("nothing to try".into()));
        Err(ec2_error("RunInstances", &failure))
    }

    /// One attempt at one subnet and type. Whoever sees the same fleet makes the same token, and
    /// EC2 answers both with the same instance. A token whose instance is terminated, which EC2
    /// remembers for longer than it lists it, is followed by the next of a chain that is the same
    /// for all, too.
    fn launch_once(&self, request: &Request, client: &Client, fleet: &[String]) -> Result<String, Failure> {
        for round in 0..TOKENS {
            let token = client_token(&self.config.cluster.name, fleet, request, round);
            match client.run_instances(&request.params, &token, Instant::now() + EC2_TIME) {
                Err(Failure::TokenTerminated { .. }) => {}
                Err(failure) => return Err(failure),
                Ok(instances) => match instances.first() {
                    Some(i) if matches!(i.state, State::Terminated | State::ShuttingDown) => {}
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
            cause: format!("{TOKENS} tokens in a row are of terminated instances"),
        })
    }

    fn launch_by_shell(&self, command: &str) -> Result<Machine, Error> {
        let aws = &self.config.aws;
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", command]);
        for (variable, value) in [
            ("AWS_ACCESS_KEY_ID", &aws.access_key),
            ("AWS_SECRET_ACCESS_KEY", &aws.secret_key),
            ("AWS_SESSION_TOKEN", &aws.session_token),
            ("AWS_REGION", &aws.region),
            ("AWS_DEFAULT_REGION", &aws.region),
            ("AWS_ENDPOINT_URL", &aws.endpoint_url),
            ("AWS_CA_BUNDLE", &aws.ca_bundle),
        ] {
            if !value.is_empty() {
                shell.env(variable, value);
            }
        }
        let failed = |cause: String| Error::unavailable("scale_up_command", cause);
        let done = child::run(&mut shell, self.config.machine.boot_timeout).map_err(failed)?;
        if !done.status.success() {
            return Err(failed(format!("{} ({})", done.complaint(), done.status)));
        }
        let line = done
            .stdout
            .lines()
            .rfind(|l| !l.trim().is_empty())
            .unwrap_or_default();
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (host, port) = match words[..] {
            [host] => (host, Ok(self.config.machine.port)),
            [host, port] => (host, crate::core::entry::parse_port(port)),
            _ => ("", Ok(0)),
        };
        // It goes into a command line on the HAProxy hosts.
        let safe = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
        match port {
            Ok(port) if !host.is_empty() && host.bytes().all(safe) && !host.starts_with('-') => Ok(Machine {
                instance: None,
                host: host.into(),
                port,
            }),
            _ => Err(failed(format!(
                "its last line is not `<host> [<port>]`: `{line}`"
            ))),
        }
    }

    /// Waits until the machine runs, has an address and passes the health check.
    fn boot(&self, machine: &mut Machine, deadline: Instant) -> Result<(), Error> {
        if machine.port == 0 {
            machine.port = self.config.machine.port;
        }
        let title = machine.title().to_string();
        let mut pause = FIRST_LOOK;
        let mut why = "did not run".to_string();
        loop {
            if machine.host.is_empty()
                && let Some(id) = &machine.instance
            {
                match self.address(id, deadline)? {
                    Some(address) => {
                        self.log.event(&format!("{id} runs at {address}"));
                        machine.host = address;
                        pause = FIRST_LOOK;
                    }
                    None => why = "did not get to run with an address".into(),
                }
            }
            if !machine.host.is_empty() {
                match health::check(&machine.host, machine.port, &self.config.machine.health_check) {
                    Ok(()) => return Ok(()),
                    Err(cause) => why = format!("{}:{}: {cause}", machine.host, machine.port),
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::unavailable(
                    title,
                    format!("not healthy within boot_timeout: {why}"),
                ));
            }
            thread::sleep(pause.min(left));
            pause = (pause * 2).min(LONGEST_LOOK);
        }
    }

    /// The private address of an instance once it runs; `None`: not yet, or EC2 could not say.
    fn address(&self, id: &str, deadline: Instant) -> Result<Option<String>, Error> {
        let deadline = deadline.min(Instant::now() + EC2_TIME);
        let instance = match self.client()?.instance(id, deadline) {
            Ok(Some(instance)) => instance,
            // Just launched: EC2's left hand does not know yet.
            Ok(None) => return Ok(None),
            Err(failure) => {
                self.log
                    .warning(&ec2_error("DescribeInstances", &failure).to_string());
                return Ok(None);
            }
        };
        match instance.state {
            State::Pending => Ok(None),
            State::Running => Ok(instance.private_ip.map(|ip| ip.to_string())),
            _ => {
                let reason = instance
                    .state_reason
                    .unwrap_or_else(|| "EC2 gives no reason".into());
                Err(Error::unavailable(id, format!("is {}: {reason}", instance.state)))
            }
        }
    }

    fn enter(&self, machine: &Machine, servers: Vec<String>) -> Vec<(String, Result<(), Error>)> {
        let id = machine
            .instance
            .as_ref()
            .map_or(String::new(), |id| format!(" --id {id}"));
        let order = format!("add-host {} {}{id} --apply", machine.host, machine.port);
        let results = self.on_each(servers, &order);
        results
            .into_iter()
            .map(|(server, result)| (server, result.map(|_| ())))
            .collect()
    }

    fn terminate(&self, id: &str) -> Result<(), Error> {
        let deadline = Instant::now() + EC2_TIME;
        self.client()?
            .terminate(id, deadline)
            .map_err(|e| ec2_error("TerminateInstances", &e))?;
        self.log.event(&format!("{id}: terminated"));
        Ok(())
    }

    /// Runs autoscaler on each HAProxy host, side by side: what it printed, or why not.
    fn on_each(&self, servers: Vec<String>, arguments: &str) -> Vec<(String, Result<String, Error>)> {
        thread::scope(|scope| {
            let calls: Vec<_> = servers
                .into_iter()
                .map(|server| (server.clone(), scope.spawn(move || self.on(&server, arguments))))
                .collect();
            let crashed = |server: &str| Err(Error::io(server, "the call crashed"));
            calls
                .into_iter()
                .map(|(server, call)| {
                    let result = call.join().unwrap_or_else(|_| crashed(&server));
                    (server, result)
                })
                .collect()
        })
    }

    fn on(&self, server: &str, arguments: &str) -> Result<String, Error> {
        let mut command = self.ssh.to(server, None, None);
        command.arg(format!("{} {arguments}", self.config.haproxy.remote_command));
        let failed = |cause: String| Error::unavailable(format!("HAProxy host {server}"), cause);
        let done = child::run(&mut command, SSH_TIME).map_err(failed)?;
        match done.status.code() {
            Some(0) => Ok(done.stdout),
            Some(ssh::UNREACHABLE) => Err(failed(format!("ssh: {}", done.complaint()))),
            _ => {
                let complaint = done.complaint();
                Err(failed(complaint.trim_start_matches("autoscaler: ").to_string()))
            }
        }
    }
}

/// Reads an `aws ec2 run-instances …` and prepares what signs it.
fn native(config: &Config, log: Log) -> Result<Launcher, Error> {
    let command = &config.machine.scale_up_command;
    let wrong = |cause: String| Error::config(config.path.display(), format!("scale_up_command: {cause}"));
    let mut request = aws_cli::parse(command, &read_for_command).map_err(wrong)?;
    if request.action != "RunInstances" {
        return Err(wrong(format!(
            "{} launches no machine; use aws ec2 run-instances",
            request.action
        )));
    }
    request.add_instance_tag("autoscaler:cluster", &config.cluster.name);
    let client = client(&config.aws, &request, log)?;
    Ok(Launcher::Native {
        request: Box::new(request),
        client: Box::new(client),
    })
}

/// Reads a `file://` of a command line; `~/` is the home directory.
fn read_for_command(path: &str) -> std::io::Result<Vec<u8>> {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => fs::read(Path::new(&home).join(rest)),
        _ => fs::read(path),
    }
}

/// The client that signs `request`, whose own options go before the INI's.
fn client(aws: &config::Aws, request: &Request, log: Log) -> Result<Client, Error> {
    let or = |option: &Option<String>, key: &String| option.clone().unwrap_or_else(|| key.clone());
    // A profile asked for by name brings its own keys.
    let unless_profile = |key: &String| {
        if request.profile.is_some() {
            String::new()
        } else {
            key.clone()
        }
    };
    let settings = ec2::Settings {
        access_key: unless_profile(&aws.access_key),
        secret_key: unless_profile(&aws.secret_key),
        session_token: unless_profile(&aws.session_token),
        region: or(&request.region, &aws.region),
        profile: request.profile.clone(),
        endpoint_url: or(&request.endpoint_url, &aws.endpoint_url),
        ca_bundle: or(&request.ca_bundle, &aws.ca_bundle),
        metadata_url: aws.metadata_url.clone(),
    };
    let mut client = Client::new(settings).map_err(|e| ec2_error("settings", &e))?;
    client.on_event(Box::new(move |text| log.event(text)));
    Ok(client)
}

/// What to try, in this order: the command's own subnet and type, the other subnets, then the
/// other types in each of them. `None` leaves what the command says.
fn attempts(
    request: &Request,
    subnets: &[String],
    types: &[String],
) -> Vec<(Option<String>, Option<String>)> {
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
        .flat_map(|t| subnets.iter().map(move |s| (s.clone(), t.clone())))
        .collect()
}

/// 64 hex digits that follow from the cluster, its fleet and the attempt alone.
fn client_token(cluster: &str, fleet: &[String], request: &Request, round: u32) -> String {
    let text = format!(
        "autoscaler {cluster}\n{}\n{} {}\n{round}",
        fleet.join(" "),
        request.subnet().unwrap_or("-"),
        request.instance_type().unwrap_or("-")
    );
    hex(&Sha256::digest(text))
}

fn ec2_error(action: &str, failure: &Failure) -> Error {
    let kind = match failure {
        Failure::Credentials { .. } => Kind::Refused,
        Failure::Config(_) | Failure::Fatal { .. } | Failure::TokenMismatch { .. } => Kind::Config,
        _ => Kind::Unavailable,
    };
    Error::new(kind, format!("EC2 {action}"), failure)
}
