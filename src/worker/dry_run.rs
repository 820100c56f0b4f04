//! `--dry-run`: what a decision by hand would send or run, and whether it would come to it.

use super::command::{INSTANCE_ID, ScaleCommand};
use super::survey::rules;
use super::{EC2_TIME, Worker};
use crate::aws_cli::Request;
use crate::core::plan::{self, Memory};
use crate::ec2;
use crate::error::Error;

impl Worker {
    /// What a scale-up would send or run.
    ///
    /// # Errors
    /// Config: there is nothing to run. Auto Scaling could not tell of its group.
    pub fn describe_up(&self) -> Result<String, Error> {
        if let Some(request) = self.group_request() {
            let mut request = request.clone();
            let group = self.group_of(&request, EC2_TIME)?;
            request.set_desired_capacity(&(group.desired + 1).to_string());
            return Ok(describe_request(&request));
        }
        let unset = "[machine] scale_up_command is not set";
        let command = self.up.as_ref().map(describe);
        command.ok_or_else(|| Error::config(self.config.path.display(), unset))
    }

    /// What a scale-down would send or run.
    ///
    /// # Errors
    /// This machine's id could not be found out.
    pub fn describe_down(&self) -> Result<String, Error> {
        let text = &self.config.machine.scale_down_command;
        match &self.down {
            Some(ScaleCommand::Native(_)) if text.contains(INSTANCE_ID) => {
                let request = self.request_to_leave(self.identify()?.title())?;
                Ok(describe_request(&request))
            }
            Some(command) => Ok(describe(command)),
            None => {
                let machine = self.identify()?;
                let id = machine.title();
                Ok(format!("action TerminateInstances\nInstanceId.1={id}\n"))
            }
        }
    }

    /// Would a decision by hand come to something now, as far as EC2 and the HAProxy hosts say?
    ///
    /// # Errors
    /// Busy, or what could not be asked.
    pub fn would_act(&self, up: bool, force: bool) -> Result<(), Error> {
        let mut rules = rules(&self.config, self.asks_ec2());
        if force {
            rules = rules.forced();
        }
        if !up {
            let myself = self.may_end()?;
            let survey = self.survey(Some(&myself))?;
            return plan::may_leave(&survey, &rules, &myself);
        }
        let survey = self.survey(None)?;
        let plan = plan::plan(&survey, &rules, &Memory::default(), None);
        plan.room.map_err(|wait| Error::busy("scale-up", wait.why))?;
        let checked = self.remote.check(self.config.haproxy.servers.clone());
        let takes = checked.iter().any(|(_, result)| result.is_ok());
        let refusal = checked.into_iter().find_map(|(_, result)| result.err());
        match refusal {
            Some(refusal) if !takes => Err(refusal.advise("no HAProxy host could take a machine")),
            _ => Ok(()),
        }
    }
}

fn describe(command: &ScaleCommand) -> String {
    match command {
        ScaleCommand::Shell(command) => format!("sh {command}\n"),
        ScaleCommand::Native(request) => describe_request(request),
    }
}

fn describe_request(request: &Request) -> String {
    let encoded = |(name, value): &(String, String)| format!("{name}={}\n", ec2::form_encode(value));
    let mut lines: Vec<String> = request.params.iter().map(encoded).collect();
    lines.sort();
    format!("action {}\n{}", request.action, lines.concat())
}
