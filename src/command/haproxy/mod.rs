//! The running HAProxy: brought to what the installed file says, by commands on its admin socket
//! where that is safe, else by a reload.

mod change;

use std::collections::BTreeSet;
use std::env;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::core::runtime::replies::Process;
use crate::core::runtime::{self, Change, text};
use crate::error::Error;
use crate::system::child::{self, Finished, Rest};
use crate::system::due::{Due, DueFile};
use crate::system::haproxy_socket::HaproxySocket;
use crate::system::log::Log;
use crate::system::owner;
pub use change::Plan;

/// A check or a reload that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a reload may take after its command has ended: HAProxy does it on its own time.
const RELOADED_WITHIN: Duration = Duration::from_secs(5);

/// How often the running HAProxy is looked at while something is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Where haproxy is, and what cron and sshd leave out of an ordinary user's PATH.
const SBIN: &str = "/usr/local/sbin:/usr/sbin:/sbin";

/// Looks how the running HAProxy can be brought to `change`, if that is one of servers alone (else
/// why not). Nothing is done yet.
///
/// # Errors
/// Why it has to be a reload.
pub fn plan<'a>(config: &Config, change: Result<Change<'a>, String>, due: &Due) -> Result<Plan<'a>, String> {
    change::plan(&HaproxySocket::new(&config.haproxy.socket), change?, due)
}

/// Brings the running HAProxy to the installed `text` as it is planned. `due` stands in `due_file`
/// already and goes from there when all is done.
///
/// # Errors
/// The reload failed, or HAProxy doesn't show what the file says after it; what is due is then
/// still on file.
pub fn bring(
    config: &Config,
    text: &str,
    plan: Result<Plan, String>,
    mut due: Due,
    due_file: &DueFile,
    log: Log,
) -> Result<(), Error> {
    let socket = HaproxySocket::new(&config.haproxy.socket);
    let reason = match plan.and_then(|plan| change::carry_out(&socket, &plan)) {
        Ok(done) => {
            for line in &done.events {
                log.event(line);
            }
            if done.left.is_empty() {
                return due_file.clear();
            }
            due.aside = done.left;
            return due_file.save(&due);
        }
        Err(reason) => reason,
    };
    log.event(&format!("HAProxy: reloading: {reason}"));
    due.reload = true;
    due_file.save(&due)?;
    let before = socket.process().ok();
    let look = || look_after_reload(config, text, &socket, before.as_ref(), log);
    reload(config)?;
    // Once more, for HAProxy's master loses the signal while it is busy with an earlier reload.
    look().or_else(|_| reload(config).and_then(|()| look()))?;
    due_file.clear()?;
    log.event("HAProxy: reloaded");
    Ok(())
}

fn reload(config: &Config) -> Result<(), Error> {
    let command = &config.haproxy.reload_command;
    let target = config.haproxy.config.as_deref().unwrap_or(Path::new(""));
    let done = shell(config, "reload_command", command, target).map_err(|e| e.advise(NEXT))?;
    match done.status.success() {
        true => Ok(()),
        false => {
            let cause = format!("`{command}`: {}; {NEXT}", done.complaint());
            Err(Error::io("reload_command", cause))
        }
    }
}

/// What happens after a failed reload.
const NEXT: &str = "the file is installed, and the next `autoscaler generate` reloads again";

/// A reload that fails leaves the old process going and says nothing: looks until a process that
/// is newer than `before` has the servers of `text`. Where no socket answers, nothing can be seen.
fn look_after_reload(
    config: &Config,
    text: &str,
    socket: &HaproxySocket,
    before: Option<&Process>,
    log: Log,
) -> Result<(), Error> {
    let deadline = Instant::now() + RELOADED_WITHIN;
    loop {
        let process = socket.process();
        let wrong = match (&process, before) {
            (Err(why), None) => {
                log.detail(&format!("HAProxy: can't be looked at after its reload: {why}"));
                return Ok(());
            }
            // The socket may have gone from the configuration.
            (Err(_), Some(_)) if !text.contains(&*config.haproxy.socket.to_string_lossy()) => return Ok(()),
            (Err(why), Some(_)) => why.clone(),
            (Ok(now), Some(before)) if !now.is_newer_than(before) => {
                "the old process goes on as before".into()
            }
            (Ok(_), _) => match differs(text, socket, &config.haproxy.backend) {
                None => return Ok(()),
                Some(difference) => format!("it {difference}"),
            },
        };
        if Instant::now() >= deadline {
            let command = &config.haproxy.reload_command;
            let seconds = RELOADED_WITHIN.as_secs();
            return Err(Error::unavailable(
                "HAProxy",
                format!("not reloaded {seconds} s after `{command}`: {wrong}; {NEXT}"),
            ));
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// How the running servers differ from those of `text`, as far as either can be known.
fn differs(text: &str, socket: &HaproxySocket, backend: &str) -> Option<String> {
    let wanted = text::read(text, backend).ok()?;
    if wanted.unclear.is_some() {
        return None;
    }
    match socket.servers(backend) {
        Ok(running) => runtime::difference(&wanted, &running, &BTreeSet::new()),
        Err(why) => Some(format!("can't be asked: {why}")),
    }
}

/// Runs one of the INI's commands on `file`.
///
/// # Errors
/// It could not be started, did not end, or is not root's to run.
pub fn shell(config: &Config, key: &str, command: &str, file: &Path) -> Result<Finished, Error> {
    let path = match env::var("PATH") {
        Ok(path) if !path.is_empty() => format!("{path}:{SBIN}"),
        _ => format!("/usr/bin:/bin:{SBIN}"),
    };
    let mut shell = child::guard(owner::shell(&config.path)?, command);
    shell.env("FILE", file).env("PATH", path);
    let done = child::run_script(child::without_credentials(&mut shell), PATIENCE, Rest::Lives);
    done.map_err(|cause| Error::io(key, format!("`{command}`: {cause}")))
}
