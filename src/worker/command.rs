//! `scale_up_command` and `scale_down_command`: carried out by autoscaler itself, or by a shell.

use std::fs;
use std::path::Path;

use super::{CLUSTER_TAG, Worker};
use crate::aws_cli::{self, Kind, Request};
use crate::config::{Config, Place};
use crate::error::Error;
use crate::system::child::{self, Finished, Rest};
use crate::system::machine;

pub const SET_DESIRED_CAPACITY: &str = "SetDesiredCapacity";

/// In `scale_down_command`: the id of the instance that leaves.
pub const INSTANCE_ID: &str = "$INSTANCE_ID";
/// In `scale_up_command`: the desired capacity of the group, one more than it is.
pub const DESIRED: &str = "$DESIRED";
/// Stands for [`DESIRED`] while it is not known.
const UNKNOWN: &str = "0";

/// One of the two commands.
pub enum ScaleCommand {
    /// One signed request.
    Native(Box<Request>),
    /// For `/bin/sh -c`.
    Shell(String),
}

/// Reads `scale_up_command`; `None` where it is not set.
pub fn scale_up(config: &Config) -> Result<Option<ScaleCommand>, Error> {
    let place = &config.machine.scale_up_at;
    let command = read(place, &config.machine.scale_up_command)?;
    let Some(ScaleCommand::Native(mut request)) = command else {
        return Ok(command);
    };
    match request.action {
        "RunInstances" => request.add_instance_tag(CLUSTER_TAG, &config.cluster.name),
        SET_DESIRED_CAPACITY if request.get("DesiredCapacity") == Some(UNKNOWN) => {
            request.set_desired_capacity(DESIRED);
        }
        SET_DESIRED_CAPACITY => {
            return Err(place.error(&format!(
                "--desired-capacity: a scale-up is one machine more, so write {DESIRED} for the number"
            )));
        }
        action => {
            return Err(place.error(&format!(
                "{action} launches no machine; use aws ec2 run-instances or aws autoscaling set-desired-capacity"
            )));
        }
    }
    Ok(Some(ScaleCommand::Native(request)))
}

/// Reads `scale_down_command`; `None` where it is not set. [`INSTANCE_ID`] stays in it.
pub fn scale_down(config: &Config) -> Result<Option<ScaleCommand>, Error> {
    let (place, text) = (&config.machine.scale_down_at, &config.machine.scale_down_command);
    let command = read(place, &text.replace(INSTANCE_ID, "i-0"))?;
    match native_request(&command).map(|request| request.action) {
        Some("RunInstances") => Err(place.error("RunInstances is no way to leave")),
        Some(SET_DESIRED_CAPACITY) => Err(place.error(
            "SetDesiredCapacity lets the group choose who leaves; use aws autoscaling \
             terminate-instance-in-auto-scaling-group --should-decrement-desired-capacity",
        )),
        _ => Ok(command),
    }
}

/// The request of a command that is carried out natively.
pub fn native_request(command: &Option<ScaleCommand>) -> Option<&Request> {
    match command {
        Some(ScaleCommand::Native(request)) => Some(request),
        _ => None,
    }
}

/// The request of `scale_up_command`, as far as it can be told without the files that it names.
pub fn outline(config: &Config) -> Option<Request> {
    parse(&config.machine.scale_up_command, &|_| Ok(Vec::new())).ok()
}

fn parse(text: &str, read: &dyn Fn(&str) -> std::io::Result<Vec<u8>>) -> Result<Request, String> {
    aws_cli::parse(&text.replace(DESIRED, UNKNOWN), read)
}

fn read(place: &Place, text: &str) -> Result<Option<ScaleCommand>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    match aws_cli::kind(text) {
        Kind::Refused(why) => Err(place.error(&why)),
        Kind::Shell => Ok(Some(ScaleCommand::Shell(text.into()))),
        Kind::Native => {
            let request = parse(text, &read_file).map_err(|cause| place.error(&cause))?;
            Ok(Some(ScaleCommand::Native(Box::new(request))))
        }
    }
}

/// Reads a `file://` of a command line; `~/` is the home directory.
fn read_file(path: &str) -> std::io::Result<Vec<u8>> {
    let home = || std::env::var("HOME").ok().or_else(machine::home);
    match path.strip_prefix("~/").zip(home()) {
        Some((rest, home)) => fs::read(Path::new(&home).join(rest)),
        None => fs::read(path),
    }
}

impl Worker {
    /// The request of `scale_down_command` for the instance `id`.
    pub(super) fn request_to_leave(&self, id: &str) -> Result<Request, Error> {
        let text = self.config.machine.scale_down_command.replace(INSTANCE_ID, id);
        let place = &self.config.machine.scale_down_at;
        let request = aws_cli::parse(&text, &read_file).map_err(|cause| place.error(&cause))?;
        let others = |(name, value): &&(String, String)| name.starts_with("InstanceId") && value != id;
        match request.params.iter().find(others) {
            Some((_, other)) => Err(place.error(&format!(
                "names {other}, and this is {id}; write {INSTANCE_ID} in its place"
            ))),
            None => Ok(request),
        }
    }

    /// Runs a command by the shell, with the INI's credentials in its environment.
    pub(super) fn shell(&self, key: &str, command: &str, more: &[(&str, &str)]) -> Result<Finished, Error> {
        let aws = &self.config.aws;
        let mut shell = child::script(command);
        shell.envs(more.iter().copied());
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
        let failed = |cause: String| Error::unavailable(key, cause);
        let done = child::run_script(&mut shell, self.config.machine.boot_timeout, Rest::Lives);
        let done = done.map_err(failed)?;
        match done.status.success() {
            true => Ok(done),
            false => Err(failed(format!("{} ({})", done.complaint(), done.status))),
        }
    }
}
