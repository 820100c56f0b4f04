//! This machine: which one it is, whether it may be ended, the notices of its end, and its end.

use std::net::ToSocketAddrs;
use std::thread;
use std::time::{Duration, Instant};

use super::command::ScaleCommand;
use super::{CLUSTER_TAG, EC2_TIME, Worker, ec2_error};
use crate::config::Config;
use crate::core::node::{Machine, Warning};
use crate::ec2::{KEEP_TAG, Lack, Notice};
use crate::error::Error;
use crate::system::machine;

/// The default of `[aws] metadata_url`.
const METADATA_URL: &str = "http://169.254.169.254";
/// Between two looks for a notice; the EC2 User Guide says every 5 s.
const NOTICE_INTERVAL: Duration = Duration::from_secs(5);

impl Worker {
    /// This machine, if autoscaler may end it: an instance that carries the cluster's tag, or any
    /// machine where a shell command does the ending.
    ///
    /// # Errors
    /// Config where it may not, now and later.
    pub(super) fn identify(&self) -> Result<Machine, Error> {
        let port = self.config.machine.port;
        let metadata = self.client.metadata();
        if let Some(ScaleCommand::Shell(_)) = self.down {
            let instance = metadata.instance_id().ok().flatten();
            let host = address(&self.config)?;
            return Ok(Machine { instance, host, port });
        }
        let stays = |cause: String| Error::config("this machine", format!("{cause}; it stays"));
        let id = match metadata.instance_id() {
            Ok(Some(id)) => id,
            Ok(None) => return Err(stays("instance metadata gives no instance id".into())),
            // One answer that came too late says nothing of the next.
            Err(none) if none.is_trouble() || none.lack == Lack::Silent && has_metadata(&self.config) => {
                return Err(Error::busy("this machine", none.cause));
            }
            Err(none) => {
                let cause = format!("can't tell which EC2 instance it is ({})", none.cause);
                return Err(stays(cause));
            }
        };
        let instance = self
            .instance(&id)
            .map_err(|e| Error::unavailable("this machine", e))?
            .ok_or_else(|| Error::unavailable(&id, "EC2 does not know it"))?;
        let cluster = &self.config.cluster.name;
        if instance.tag(CLUSTER_TAG) != Some(cluster) {
            return Err(stays(format!(
                "{id} is not tagged {CLUSTER_TAG}={cluster}: autoscaler did not launch it"
            )));
        }
        if instance.is_kept() {
            let cause = format!("{id} is tagged {KEEP_TAG}: it stays until that is taken off");
            return Err(Error::busy("this machine", cause));
        }
        let host = match self.config.machine.address.or(instance.private_ip) {
            Some(address) => address.to_string(),
            None => address(&self.config)?,
        };
        Ok(Machine {
            instance: Some(id),
            host,
            port,
        })
    }

    /// Would EC2 let this node terminate `id`? `None` where it is not EC2 that is asked to.
    pub fn rehearse_leaving(&self, id: &str, time: Duration) -> Option<Result<(), Error>> {
        let by_ec2 = match &self.down {
            None => !self.has_group(),
            Some(ScaleCommand::Native(request)) => request.action == "TerminateInstances",
            Some(ScaleCommand::Shell(_)) => false,
        };
        by_ec2.then(|| {
            let answer = self.client.may_terminate(id, Instant::now() + time);
            answer.map_err(|e| ec2_error("TerminateInstances", &e))
        })
    }

    /// The machine, if EC2 would let it go: told before the drain, and not after.
    pub(super) fn may_leave(&self, machine: Machine) -> Result<Machine, Error> {
        let id = machine.instance.as_deref();
        match id.and_then(|id| self.rehearse_leaving(id, EC2_TIME)) {
            // It may end: rights are given, protection is taken away.
            Some(Err(refusal)) => Err(Error::unavailable("a dry run of this machine's end", refusal)),
            _ => Ok(machine),
        }
    }

    /// This machine, if autoscaler may end it and EC2 would let it, as far as a dry run can tell.
    ///
    /// # Errors
    /// As [`Worker::identify`]; its group is as small as it may be; EC2 would refuse.
    pub(super) fn may_end(&self) -> Result<Machine, Error> {
        self.may_leave(self.may_shrink(self.identify()?)?)
    }

    /// Watches for EC2 taking this machine back, and tells of each kind of warning once, until `tell`
    /// says no.
    pub fn watch_for_warnings(&self, mut tell: impl FnMut(Warning, &'static str, Machine) -> bool) {
        let metadata = self.client.metadata();
        let mut is_spot = false;
        let mut told_hint = false;
        loop {
            // Without an answer, it is asked again: metadata may be late at boot.
            let notice = match is_spot {
                true => metadata.notice().ok().flatten(),
                false => match metadata.is_spot() {
                    Ok(true) => {
                        is_spot = true;
                        continue;
                    }
                    Ok(false) => return,
                    Err(_) => None,
                },
            };
            let warning = notice.map(|notice| match notice {
                Notice::Interruption { at } => {
                    // EC2 gives two minutes.
                    let left = at.map_or(120, |at| at.saturating_sub(self.client.now()));
                    (
                        Warning::Interruption(Duration::from_secs(left)),
                        "spot interruption notice",
                    )
                }
                Notice::Rebalance => (Warning::Rebalance, "rebalance recommendation"),
            });
            if let Some((warning, text)) = warning.filter(|(w, _)| *w != Warning::Rebalance || !told_hint) {
                match self.identify() {
                    Ok(machine) => {
                        let is_fact = warning != Warning::Rebalance;
                        told_hint = true;
                        if !tell(warning, text, machine) || is_fact {
                            return;
                        }
                    }
                    Err(error) => self.log.warning(&format!("{text}: {error}")),
                }
            }
            thread::sleep(NOTICE_INTERVAL);
        }
    }

    /// Ends this machine.
    pub(super) fn depart(&self, machine: &Machine) -> Result<(), Error> {
        let id = machine.instance.as_deref();
        match (&self.down, id) {
            (Some(ScaleCommand::Shell(command)), _) => {
                let variables = [
                    ("INSTANCE_ID", id.unwrap_or("")),
                    ("INSTANCE_ADDRESS", &machine.host),
                ];
                self.shell("scale_down_command", command, &variables).map(|_| ())
            }
            (Some(ScaleCommand::Native(_)), Some(id)) => {
                let request = self.request_to_leave(id)?;
                let deadline = Instant::now() + EC2_TIME;
                let answer = self
                    .client
                    .call(request.service, request.action, &request.params, deadline);
                answer.map(|_| ()).map_err(|e| ec2_error(request.action, &e))
            }
            (None, Some(id)) => self.terminate(id),
            (_, None) => Err(Error::config(
                "this machine",
                "has no instance id to terminate it by",
            )),
        }
    }
}

/// For the metadata service to answer, at the start.
const PATIENCE: Duration = Duration::from_secs(5);

/// The id of the EC2 instance that this machine is, if it is one and says so in time.
pub fn instance(config: &Config, worker: &Worker) -> Option<String> {
    let until = Instant::now() + PATIENCE;
    while has_metadata(config) {
        match worker.client.metadata().instance_id() {
            Ok(id) => return id,
            Err(none) if none.lack != Lack::Off && Instant::now() < until => {
                thread::sleep(Duration::from_secs(1))
            }
            Err(_) => return None,
        }
    }
    None
}

/// This machine's address as HAProxy knows it: the INI's, else the one that packets to the first
/// HAProxy host leave from.
///
/// # Errors
/// There is no way to that host.
pub fn address(config: &Config) -> Result<String, Error> {
    if let Some(address) = config.machine.address {
        return Ok(address.to_string());
    }
    let server = config.haproxy.servers.first().map_or("", String::as_str);
    let failed =
        |e: std::io::Error| Error::unavailable(server, format!("no way there: {e}; set [machine] address"));
    let towards = (server, 22).to_socket_addrs().map_err(failed)?.next();
    let towards = towards.ok_or_else(|| Error::unavailable(server, "has no address"))?;
    Ok(machine::address_towards(towards).map_err(failed)?.to_string())
}

/// May there be metadata here? Elsewhere its address is somebody else's, and not to be asked.
pub fn has_metadata(config: &Config) -> bool {
    // EC2 User Guide, "Detect whether a host is an EC2 instance": Nitro, and Xen before it.
    let says =
        |file: &str, word: &str| std::fs::read_to_string(file).is_ok_and(|text| text.starts_with(word));
    config.aws.metadata_url != METADATA_URL
        || says("/sys/class/dmi/id/sys_vendor", "Amazon EC2")
        || says("/sys/hypervisor/uuid", "ec2")
}
