//! The running HAProxy: brought to what the installed file says, by commands on its admin socket
//! where that is safe, else by a reload.

mod change;

use std::collections::BTreeSet;
use std::env;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::config::{Config, Socket};
use crate::core::haproxy::runtime::replies::Process;
use crate::core::haproxy::runtime::text::{self, Configuration};
use crate::core::haproxy::runtime::{self, drift};
use crate::error::Error;
use crate::system::child::{self, Finished, Rest};
use crate::system::drains::Drains;
use crate::system::due::{Due, DueFile};
use crate::system::haproxy_socket::HaproxySocket;
use crate::system::log::Log;
use crate::system::owner;
pub use change::{Plan, plan};

/// A check or a reload that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a reload may take after its command has ended: HAProxy does it on its own time.
const RELOADED_WITHIN: Duration = Duration::from_secs(5);

/// How long a reload that had begun may take until the new process has taken over, at least.
const TAKEOVER: Duration = Duration::from_millis(250);

/// How often the running HAProxy is looked at while something is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Where haproxy is, and what cron and sshd leave out of an ordinary user's PATH.
const SBIN: &str = "/usr/local/sbin:/usr/sbin:/sbin";

/// What was installed.
pub struct Installed<'a> {
    pub template: &'a str,
    pub text: &'a str,
    /// What stood there before.
    pub before: Option<&'a str>,
    /// When HAProxy could first read it.
    pub since: Instant,
    /// How long HAProxy may take to read it, at a guess.
    pub reading: Duration,
}

impl Installed<'_> {
    fn wanted(&self) -> Result<Configuration<'_>, String> {
        text::read(self.text, &text::managed(self.template))
    }

    /// Has HAProxy to answer on its `socket` after a reload? It has where the file says so, and where
    /// it did before, unless the file has just lost the socket, or was not there yet.
    fn has_to_answer(&self, socket: &Socket, answered: bool) -> bool {
        let Some(before) = self.before else {
            return answered;
        };
        match (names(before, socket), names(self.text, socket)) {
            (_, true) => true,
            (true, false) => false,
            (false, false) => answered,
        }
    }
}

/// Does the configuration `text` name the admin socket?
fn names(text: &str, socket: &Socket) -> bool {
    let name = match socket {
        Socket::Path(path) => path.to_string_lossy().into_owned(),
        // It may listen on all addresses.
        Socket::Address(address) => format!(":{}", address.port()),
    };
    let mut lines = text.lines().map(str::trim_start);
    lines.any(|line| line.starts_with("stats") && line.contains(&name))
}

/// How the running servers differ from those of `text`, as far as either can be known; nothing where
/// HAProxy can't be asked.
pub fn differences(config: &Config, template: &str, text: &str) -> Vec<String> {
    let wanted = text::read(text, &text::managed(template));
    let running = HaproxySocket::new(&config.haproxy.socket).servers();
    match (wanted, running) {
        (Ok(wanted), Ok(running)) => drift::differences(&wanted, &running, &BTreeSet::new()),
        _ => Vec::new(),
    }
}

/// Brings the running HAProxy to what is `installed` as it is planned. `due` stands in `due_file`
/// already and goes from there when all is done.
///
/// # Errors
/// The reload failed, or HAProxy doesn't show what the file says after it; what is due is then
/// still on file.
pub fn bring(
    config: &Config,
    installed: &Installed,
    plan: Result<Plan, String>,
    mut due: Due,
    due_file: &DueFile,
    log: Log,
) -> Result<(), Error> {
    let socket = HaproxySocket::new(&config.haproxy.socket);
    let carried_out = plan.and_then(|plan| {
        let done = change::carry_out(&socket, &plan)?;
        if !plan.is_empty() {
            look_again(installed, &socket, &done.left)?;
        }
        Ok(done)
    });
    let reason = match carried_out {
        Ok(done) => {
            for line in &done.events {
                log.event(line);
            }
            due.aside = done.left;
            return match due.aside.is_empty() {
                true => due_file.clear(),
                false => due_file.save(&due),
            };
        }
        Err(reason) => reason,
    };
    log.event(&format!("HAProxy: reloading: {reason}"));
    let before = socket.process().ok();
    due.reload = true;
    due.answered |= before.is_some();
    due.kept.extend(set_by_command(config, installed, &socket, &due));
    due_file.save(&due)?;
    let look = || look_after_reload(config, installed, &socket, before.as_ref(), &due, log);
    reload(config)?;
    // Once more, for HAProxy's master loses the signal while it is busy with an earlier reload.
    look().or_else(|_| reload(config).and_then(|()| look()))?;
    due_file.clear()?;
    log.event("HAProxy: reloaded");
    Ok(())
}

/// Somebody's reload that had begun when the file was installed may have read the one before, and
/// taken over since.
///
/// # Errors
/// It has, and lacks the change.
fn look_again(installed: &Installed, socket: &HaproxySocket, left: &BTreeSet<String>) -> Result<(), String> {
    let late = (2 * installed.reading).clamp(TAKEOVER, RELOADED_WITHIN);
    thread::sleep((installed.since + late).saturating_duration_since(Instant::now()));
    let found = drift::differences(&installed.wanted()?, &socket.servers()?, left);
    match found.first() {
        None => Ok(()),
        Some(difference) => Err(format!("it {difference} after all")),
    }
}

/// What somebody has set by command on the servers of the file: a reload forgets it.
fn set_by_command(
    config: &Config,
    installed: &Installed,
    socket: &HaproxySocket,
    due: &Due,
) -> BTreeSet<(String, String)> {
    let sections = text::managed(installed.template);
    let drains = Drains::new(config.dir());
    let is_ours = |name: &String| due.aside.contains(name) || drains.sections(name).is_some();
    let servers = socket.servers().unwrap_or_default();
    let theirs = servers
        .iter()
        .filter(|server| sections.contains(&&*server.section) && !is_ours(&server.name));
    theirs
        .flat_map(|server| {
            server
                .set_by_command()
                .into_iter()
                .map(|words| (server.id(), words))
        })
        .collect()
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

/// A reload that fails leaves the old process going, or none, and says nothing: looks until a
/// process that is newer than `before` has the servers of the file, and sets again what was set by
/// command. Where no socket ever answered, nothing can be seen.
fn look_after_reload(
    config: &Config,
    installed: &Installed,
    socket: &HaproxySocket,
    before: Option<&Process>,
    due: &Due,
    log: Log,
) -> Result<(), Error> {
    let deadline = Instant::now() + RELOADED_WITHIN;
    let mut set_again = false;
    loop {
        let wrong = match (socket.process(), before) {
            (Err(why), _) if !installed.has_to_answer(&config.haproxy.socket, due.answered) => {
                log.detail(&format!("HAProxy: can't be looked at after its reload: {why}"));
                return Ok(());
            }
            (Err(why), _) => why,
            (Ok(now), Some(before)) if !now.is_newer_than(before) => {
                "the old process goes on as before".into()
            }
            (Ok(_), _) => {
                if !set_again {
                    set_again = true;
                    for (server, words) in &due.kept {
                        // One that is gone from the file needs it no more.
                        let _ = socket.order(&format!("set server {server} {words}"), "");
                    }
                }
                match differs(installed, socket, log) {
                    None => return Ok(()),
                    Some(difference) => format!("it {difference}"),
                }
            }
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

/// How the running servers differ from those of the file after a reload, as far as either can be
/// known. An address out of a server-state file is put right.
fn differs(installed: &Installed, socket: &HaproxySocket, log: Log) -> Option<String> {
    let wanted = installed.wanted().ok()?;
    let mut running = match socket.servers() {
        Ok(running) => running,
        Err(why) => return Some(format!("can't be asked: {why}")),
    };
    if wanted
        .others
        .iter()
        .any(|line| line.contains("load-server-state-from-file"))
    {
        for (id, address) in drift::misplaced(&wanted, &running) {
            log.warning(&format!(
                "HAProxy: {id} came back at its old address by load-server-state-from-file and is moved to {address}; \
                 save the state before each reload (`show servers state`), or take the line out of the template"
            ));
            let _ = socket.order(&runtime::move_to(&id, address), "");
        }
        running = socket.servers().ok()?;
    }
    drift::differences(&wanted, &running, &BTreeSet::new())
        .into_iter()
        .next()
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
