//! The slow steps of scaling: EC2, the health gate, the HAProxy hosts. They block, so each call
//! runs on a thread of its own and brings back what came of it.

pub mod cloud;
mod command;
mod dry_run;
mod group;
mod health_gate;
mod launch;
pub mod notify;
pub mod own_machine;
pub mod remote;
pub mod survey;

use std::sync::Arc;
use std::time::Instant;

use crate::config::Config;
use crate::core::node::{Outcome, Step};
use crate::ec2::{self, Client, State};
use crate::error::Error;
use crate::system::log::Log;
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
            remote: Remote::new(&config.haproxy),
            up,
            down,
            log,
            config,
        })
    }

    /// The same, with settings that are enough for a change.
    ///
    /// # Errors
    /// Config.
    pub fn ready(config: Arc<Config>, log: Log) -> Result<Worker, Error> {
        let worker = Worker::new(config, log)?;
        worker.check_ready().map(|()| worker)
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
        let servers = || self.config.haproxy.servers.clone();
        match step {
            Step::Survey { purpose, myself } => Outcome::Surveyed(purpose, self.survey(myself.as_ref())),
            Step::Check => Outcome::Checked(self.remote.check(servers())),
            Step::Launch { count, fleet, short } => Outcome::Launched(self.launch(count, &fleet, &short)),
            Step::Find { count, fleet, time } => {
                Outcome::Found(self.find(count, &fleet, Instant::now() + time))
            }
            Step::Boot { mut machine, time } => {
                let result = self.boot(&mut machine, Instant::now() + time);
                Outcome::Booted(machine, result)
            }
            Step::Enter {
                machine,
                servers,
                by_plan,
            } => {
                let told = self.remote.enter(&machine, servers, by_plan);
                Outcome::Entered(machine, told)
            }
            Step::Confirm { machine, time } => {
                let result = self.remote.confirm(&machine, &servers(), time);
                Outcome::Confirmed(machine, result)
            }
            Step::Remove { server, name } => {
                let result = self.remote.remove(&server, &name);
                Outcome::Removed { server, name, result }
            }
            Step::Terminate { id } => {
                let result = self.terminate(&id);
                Outcome::Terminated(id, result)
            }
            Step::Identify => Outcome::Identified(self.may_end()),
            Step::Drain {
                machine,
                servers,
                force,
            } => {
                let time = self.config.scaling.drain_timeout;
                let told = self.remote.drain(&machine, servers, time, force);
                Outcome::Drained(machine, told)
            }
            Step::Depart { machine } => {
                let result = self.depart(&machine);
                Outcome::Departed(machine, result)
            }
        }
    }

    /// The instance `id`; `None` where EC2 does not know it.
    fn instance(&self, id: &str) -> Result<Option<ec2::Instance>, Error> {
        let found = self.client.instance(id, Instant::now() + EC2_TIME);
        found.map_err(|e| ec2_error("DescribeInstances", &e))
    }

    fn terminate(&self, id: &str) -> Result<(), Error> {
        // A person may have stopped it, or taken it out, since it was looked at.
        if let Some(instance) = self.instance(id)?
            && (instance.is_kept() || matches!(instance.state, State::Stopping | State::Stopped))
        {
            let cause = "is stopped, or tagged to be kept: it is left alone";
            return Err(Error::busy(id, cause));
        }
        if !self.terminate_in_group(id)? {
            self.client
                .terminate(id, Instant::now() + EC2_TIME)
                .map_err(|e| ec2_error("TerminateInstances", &e))?;
        }
        self.log.event(&format!("{id}: terminated"));
        Ok(())
    }
}
