//! `check --host`: the same on another host, over ssh.

use std::time::Duration;

use super::{print, ssh_step};
use crate::config::Config;
use crate::error::{Error, Kind};
use crate::system::child;
use crate::system::log::Log;
use crate::system::ssh::{self, Ssh};

/// A whole `check` there; each of its parts has its own limit.
const TIME: Duration = Duration::from_secs(120);

/// What a key that may do one thing alone leaves to do.
const OTHER_KEY: &str = "use a key that may run it, by -c with an INI whose ssh_params name it";

/// Has `host` check itself, and shows what it found, each line after its name.
///
/// # Errors
/// That of the check there; unavailable where it could not be run.
pub fn run(config: &Config, host: &str, log: Log) -> Result<(), Error> {
    let place = format!("check on {host}");
    let mut command = Ssh::new(&config.haproxy).to(host, None, None);
    command.arg(format!("{} check", config.haproxy.remote_command));
    log.progress(&format!("waiting for {host}"));
    let done = child::run(&mut command, TIME);
    log.progress_done();
    let done = done.map_err(|cause| Error::unavailable(&place, &cause).advise(ssh_step(&cause)))?;
    let line = |line: &str| format!("{host}: {}\n", line.replace(char::is_control, " "));
    print(&done.stdout.lines().map(line).collect::<String>())?;
    let complaint = done.complaint().trim_start_matches("autoscaler: ").to_string();
    let code = done.status.code().unwrap_or(ssh::UNREACHABLE);
    match Kind::of_exit_code(code) {
        _ if code == 0 && done.stdout.is_empty() => {
            let cause = "nothing was said: the key is tied to another command there";
            Err(Error::unavailable(&place, cause).advise(OTHER_KEY))
        }
        _ if code == 0 => Ok(()),
        Some(kind) if !done.stdout.is_empty() => {
            Err(Error::new(kind, &place, complaint.trim_start_matches("check: ")))
        }
        _ => {
            let gate = complaint.contains("ssh-gate");
            let step = if gate { OTHER_KEY } else { ssh_step(&complaint) };
            Err(Error::unavailable(&place, complaint).advise(step))
        }
    }
}
