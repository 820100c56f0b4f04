//! The slow steps of scaling: EC2, the health gate, the HAProxy hosts. They block, so each call
//! runs on a thread of its own and brings back what came of it.

mod boot;
pub mod cloud;
mod command;
mod group;
mod launch;
pub mod leave;
pub mod notify;
pub mod remote;

use std::sync::Arc;
use std::time::Instant;

use crate::config::Config;
use crate::core::fleet::{self, Listed, Survey};
use crate::core::node::{Outcome, Step};
use crate::ec2::Client;
use crate::error::Error;
use crate::system::log::Log;
use crate::system::ssh::Ssh;
use cloud::{CLUSTER_TAG, EC2_TIME, client, ec2_error};
use command::{ScaleCommand, native_request};
use remote::Remote;

/// Carries out [`Step`]s.
pub struct Worker {
    config: Arc<Config>,
    /// `None` where no `scale_up_command` is set.
    up: Option<ScaleCommand>,
    /// `None`: this instance is terminated.
    down: Option<ScaleCommand>,
    client: Client,
    remote: Remote,
    log: Log,
}

impl Worker {
    /// Reads the two commands.
    ///
    /// # Errors
    /// Config; nothing is opened but the files that the commands name.
    pub fn new(config: Arc<Config>, log: Log) -> Result<Worker, Error> {
        let up = command::scale_up(&config)?;
        let down = command::scale_down(&config)?;
        // Their own options go before the INI's.
        let request = native_request(&up).or(native_request(&down));
        Ok(Worker {
            client: client(&config.aws, request, log)?,
            remote: Remote::new(Ssh::new(&config.haproxy), config.haproxy.remote_command.clone()),
            up,
            down,
            log,
            config,
        })
    }

    /// Are the settings enough for a change, and not only for a look at its request?
    ///
    /// # Errors
    /// Config.
    pub fn check_ready(&self) -> Result<(), Error> {
        let machine = &self.config.machine;
        let wrong = |cause| Err(Error::config(self.config.path.display(), cause));
        if self.config.haproxy.servers.is_empty() {
            return wrong("[haproxy] servers is not set: it says which HAProxy hosts to tell");
        }
        let replaced = native_request(&self.down).is_some_and(|down| match down.action {
            "TerminateInstances" => self.has_group(),
            _ => down.get("ShouldDecrementDesiredCapacity") == Some("false"),
        });
        if replaced {
            return Err(machine.scale_down_at.error(
                "the group would replace the machine; leave it empty, or use aws autoscaling \
                 terminate-instance-in-auto-scaling-group --should-decrement-desired-capacity",
            ));
        }
        match &self.up {
            None => wrong("[machine] scale_up_command is not set: it says what to launch"),
            Some(ScaleCommand::Native(request))
                if request.get("Placement.AvailabilityZone").is_some()
                    && !machine.fallback_subnet_ids.is_empty() =>
            {
                wrong(
                    "fallback_subnet_ids: each is in a zone of its own; take AvailabilityZone out of scale_up_command",
                )
            }
            Some(_) => Ok(()),
        }
    }

    /// Does an Auto Scaling group launch, which also does so on its own?
    pub fn has_group(&self) -> bool {
        self.group_request().is_some()
    }

    /// Does EC2 know of the machines? Not of those that a shell command makes.
    pub fn asks_ec2(&self) -> bool {
        matches!(self.up, Some(ScaleCommand::Native(_)))
    }

    /// Carries out one step to its end.
    pub fn run(&self, step: Step) -> Outcome {
        match step {
            Step::Survey => Outcome::Surveyed(self.survey(false)),
            Step::Clear { ids } => Outcome::Cleared(ids.iter().try_for_each(|id| self.terminate(id))),
            Step::Launch { fleet, short } => {
                let mut without = Vec::new();
                let result = self.launch(&fleet, &short, &mut without);
                match without.is_empty() {
                    true => Outcome::Launched(result),
                    false => Outcome::LaunchedWithout(without, result),
                }
            }
            Step::Boot { mut machine, time } => {
                let result = self.boot(&mut machine, Instant::now() + time);
                Outcome::Booted(machine, result)
            }
            Step::Enter { machine, servers } => {
                let told = self.remote.enter(&machine, servers);
                Outcome::Entered(machine, told)
            }
            Step::EnterLate { machine, servers } => {
                let told = self.remote.enter(&machine, servers);
                Outcome::EnteredLate(machine, told)
            }
            Step::Terminate { id } => Outcome::Terminated(self.terminate(&id)),
            Step::Identify => {
                let me = self.identify().and_then(|me| self.may_shrink(me));
                Outcome::Identified(me.and_then(|me| self.may_leave(me)))
            }
            Step::Drain { machine, servers } => {
                let told = self
                    .remote
                    .drain(&machine, servers, self.config.scaling.drain_timeout);
                Outcome::Drained(machine, told)
            }
            Step::Depart { machine } => {
                let result = self.depart(&machine);
                Outcome::Departed(machine, result)
            }
            Step::Repair => Outcome::Repaired(self.repair()),
        }
    }

    /// The cluster's instances, and what each HAProxy host lists: `always`, or only where there is
    /// a live instance to look for.
    fn survey(&self, always: bool) -> Result<Survey, Error> {
        let instances = cloud::instances(&self.client, &self.config.cluster.name, EC2_TIME)?;
        let servers = match always || instances.iter().any(|i| i.live) {
            true => self.config.haproxy.servers.clone(),
            false => Vec::new(),
        };
        let listings =
            self.remote
                .on_each(servers, "list-hosts")
                .into_iter()
                .map(|(_, result)| match result {
                    Ok(listing) => Some(listing.lines().filter_map(Listed::parse).collect()),
                    Err(error) => {
                        self.log.warning(&error.to_string());
                        None
                    }
                });
        Ok(Survey {
            now: self.client.now(),
            instances,
            listings: listings.collect(),
        })
    }

    /// Brings the HAProxy hosts that missed something to what EC2 says; what it saw before, and what
    /// was done, a line each.
    fn repair(&self) -> Result<(Survey, Vec<String>), Error> {
        let survey = self.survey(true)?;
        let mut said = Vec::new();
        for (at, fix) in fleet::repairs(&survey) {
            let server = &self.config.haproxy.servers[at];
            let (order, done) = match &fix {
                fleet::Fix::Add { machine } => (
                    remote::add_order(machine),
                    format!("{} is in HAProxy on {server}, which missed it", machine.title()),
                ),
                fleet::Fix::Remove { name } => (
                    format!("remove-host {name} --apply"),
                    format!("{name} is terminated, and out of HAProxy on {server}"),
                ),
            };
            said.push(match self.remote.on(server, &order) {
                Ok(_) => done,
                Err(error) => error.to_string(),
            });
        }
        Ok((survey, said))
    }

    fn terminate(&self, id: &str) -> Result<(), Error> {
        if !self.terminate_in_group(id)? {
            self.client
                .terminate(id, Instant::now() + EC2_TIME)
                .map_err(|e| ec2_error("TerminateInstances", &e))?;
        }
        self.log.event(&format!("{id}: terminated"));
        Ok(())
    }
}
