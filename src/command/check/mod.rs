//! `check`: everything that has to be right before the first start, and after.

mod app_server;
mod cloud;
mod findings;
mod haproxy_host;
mod remote;

use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use super::ini::{load, mode_of};
use super::{print, template_path};
use crate::config::{Config, others_may_read};
use crate::core::plan::Instance;
use crate::ec2::Client;
use crate::error::Error;
use crate::system::hosts_dir::HostsDir;
use crate::system::log::Log;
use crate::system::machine;
use crate::worker;
use findings::{Finding, ssh_step, verdict};

/// For one call to EC2 or one HAProxy host.
const TIME: Duration = Duration::from_secs(15);
/// A wait that is longer is told to a person at a terminal.
const QUIET: Duration = Duration::from_secs(1);

/// How often it is looked whether a part has finished.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What the parts share.
struct Check {
    config: Arc<Config>,
    client: Result<Client, Error>,
    /// Is this an app server, which launches machines?
    launches: bool,
    /// The cluster's instances, asked for once.
    instances: OnceLock<Result<Vec<Instance>, Error>>,
    log: Log,
}

/// Some of the findings, and what they are about.
type Part = (&'static str, fn(&Check) -> Vec<Finding>);

pub fn run(path: &Path, host: Option<&str>, log: Log) -> Result<(), Error> {
    if let Some(host) = host {
        return remote::run(&load(path)?, host, log);
    }
    let config = match load(path) {
        Ok(config) => config,
        Err(error) => {
            let found = [Finding::Fail(error)];
            show(&found)?;
            return verdict(&found);
        }
    };
    let sides = Sides::of(&config);
    let mut found = vec![ini(&config)];
    found.extend(sides.skipped(&config));
    show(&found)?;
    let check = Check {
        client: worker::cloud::observer(&config, log),
        config: Arc::new(config),
        launches: sides.app_server,
        instances: OnceLock::new(),
        log,
    };
    found.extend(side_by_side(&check, &sides.parts())?);
    verdict(&found)
}

fn show(findings: &[Finding]) -> Result<(), Error> {
    print(&findings.iter().map(|f| format!("{f}\n")).collect::<String>())
}

fn ini(config: &Config) -> Finding {
    let path = config.path.display();
    let mode = mode_of(&config.path).and_then(|mode| config.may_have_mode(mode).map(|()| mode));
    match mode {
        Err(error) => error.into(),
        Ok(mode) if others_may_read(mode) => Finding::Warn(format!(
            "{path}: others can read it (mode {mode:04o}); before it holds a secret, run: chmod 600 {path}"
        )),
        Ok(mode) => Finding::Ok(format!("{path}: valid, mode {mode:04o}")),
    }
}

/// What this host is, as far as can be told; one machine may be both.
struct Sides {
    haproxy_host: bool,
    app_server: bool,
}

impl Sides {
    fn of(config: &Config) -> Sides {
        let hosts = HostsDir::new(config.dir());
        let names = hosts.names().unwrap_or_default();
        let scales = scales(config);
        let haproxy_host = config.haproxy.config.as_ref().is_some_and(|file| {
            // An app server's image may hold HAProxy's file as well, and `init` leaves a template there.
            let looks = !scales && (file.exists() || template_path(config).exists());
            looks || !names.is_empty() || is_haproxy_host(config)
        });
        let is_entered = || {
            let entries = names.iter().filter_map(|name| hosts.entry(name).ok());
            let mut addresses = entries.filter_map(|e| e.address().parse::<IpAddr>().ok());
            addresses.any(machine::is_own)
        };
        Sides {
            haproxy_host,
            app_server: scales && (!haproxy_host || is_entered()),
        }
    }

    /// Why one side is not looked at.
    fn skipped(&self, config: &Config) -> Vec<Finding> {
        let mut said = Vec::new();
        if !self.haproxy_host {
            said.push(Finding::Skip(match &config.haproxy.config {
                None => "HAProxy host: [haproxy] config is not set".into(),
                Some(file) if !file.exists() => {
                    format!("HAProxy host: this is none, {} is not here", file.display())
                }
                Some(_) => {
                    "HAProxy host: this is none, [haproxy] servers does not name it and hosts.d has no entry"
                        .into()
                }
            }));
        }
        if !self.app_server {
            let why = match scales(config) {
                true => {
                    "this is a HAProxy host and none of its entries; run check on the app servers as well"
                }
                false => "[machine] scale_up_command and [haproxy] servers are not both set",
            };
            said.push(Finding::Skip(format!("app server: {why}")));
        }
        said
    }

    fn parts(&self) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        if self.haproxy_host || self.app_server {
            parts.push(("EC2", cloud::access));
        }
        if self.haproxy_host {
            parts.extend(haproxy_host::PARTS);
        }
        if self.app_server {
            parts.extend(app_server::PARTS);
        }
        parts
    }
}

/// Do the other nodes know this machine as a HAProxy host?
fn is_haproxy_host(config: &Config) -> bool {
    let name = machine::host_name().unwrap_or_default();
    config.haproxy.servers.iter().any(|server| {
        let addresses = || (server.as_str(), 22).to_socket_addrs().into_iter().flatten();
        *server == name || addresses().any(|address| machine::is_own(address.ip()))
    })
}

/// Is the INI one of a node that launches machines?
fn scales(config: &Config) -> bool {
    !config.machine.scale_up_command.is_empty() && !config.haproxy.servers.is_empty()
}

/// Runs all parts at once, and shows what they find in their order.
fn side_by_side(check: &Check, parts: &[Part]) -> Result<Vec<Finding>, Error> {
    thread::scope(|scope| {
        let begin = |(name, part): &Part| {
            let part = *part;
            (*name, scope.spawn(move || part(check)))
        };
        let running: Vec<_> = parts.iter().map(begin).collect();
        let mut all = Vec::new();
        for (name, running) in running {
            let mut quiet_until = Some(Instant::now() + QUIET);
            while !running.is_finished() {
                if quiet_until.is_some_and(|until| Instant::now() >= until) {
                    check.log.progress(&format!("waiting for {name}"));
                    quiet_until = None;
                }
                thread::sleep(LOOK_EVERY);
            }
            check.log.progress_done();
            let found = running.join().expect("it does not panic");
            show(&found)?;
            all.extend(found);
        }
        Ok(all)
    })
}
