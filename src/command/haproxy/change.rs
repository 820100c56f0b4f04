//! Servers in and out of the running HAProxy by commands.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use super::LOOK_EVERY;
use crate::core::runtime::replies::{Process, Running};
use crate::core::runtime::{self, Change, Commands};
use crate::system::due::Due;
use crate::system::haproxy_socket::HaproxySocket;

/// How long a removal waits for the requests in flight; later ones finish all the same.
const GONE_WITHIN: Duration = Duration::from_secs(2);

/// How long a removal waits for one of those that stay to pass its check.
const SERVES_WITHIN: Duration = Duration::from_secs(5);

/// What was done.
#[derive(Debug, Default)]
pub struct Done {
    /// To be told.
    pub events: Vec<String>,
    /// Servers in maintenance that still have connections.
    pub left: BTreeSet<String>,
}

/// What is to be done to a running HAProxy by commands.
pub struct Plan<'a> {
    process: Process,
    backend: &'a str,
    commands: Commands,
}

/// Looks what brings the servers of the HAProxy behind `socket` to `change`; nothing is done yet.
///
/// # Errors
/// Why it has to be a reload.
pub fn plan<'a>(socket: &HaproxySocket, change: Change<'a>, due: &Due) -> Result<Plan<'a>, String> {
    if due.reload {
        return Err("one is due from before".into());
    }
    let process = socket.process()?;
    let backend = change.backend.name;
    let running = socket.servers(backend)?;
    Ok(Plan {
        process,
        backend,
        commands: runtime::plan(&change, &running, process.version, &due.aside)?,
    })
}

impl Plan<'_> {
    /// The servers that are half in or half out when it is not carried out to its end.
    pub fn touched(&self) -> impl Iterator<Item = &String> {
        let commands = &self.commands;
        let added = commands.add.iter().map(|a| &a.name);
        let removed = commands.remove.iter().map(|r| &r.name);
        added.chain(&commands.ready).chain(removed)
    }
}

/// Does what is planned.
///
/// # Errors
/// Why it has to be a reload after all.
pub fn carry_out(socket: &HaproxySocket, plan: &Plan) -> Result<Done, String> {
    let commands = &plan.commands;
    let mut done = Done::default();
    if commands.is_empty() {
        return Ok(done);
    }
    let admin = Admin {
        socket,
        preamble: runtime::preamble(plan.process.version),
        backend: plan.backend,
    };
    admin.add(commands)?;
    admin.remove(&commands.remove, &mut done)?;
    // Each command was answered as it should be. What no answer tells is somebody's reload amid
    // them: the new process may have read the file from before, or have missed the first ones.
    if socket.process()?.is_newer_than(&plan.process) {
        return Err("another process has taken over meanwhile".into());
    }
    done.events.insert(0, told(commands));
    Ok(done)
}

fn told(commands: &Commands) -> String {
    let added: Vec<&str> = commands.add.iter().map(|a| &*a.name).collect();
    let removed: Vec<&str> = commands.remove.iter().map(|r| &*r.name).collect();
    let mut parts = Vec::new();
    for (verb, names) in [
        ("added", added.join(", ")),
        ("ready again", commands.ready.join(", ")),
        ("removed", removed.join(", ")),
    ] {
        if !names.is_empty() {
            parts.push(format!("{verb} {names}"));
        }
    }
    format!("HAProxy: {}, without a reload", parts.join("; "))
}

struct Admin<'a> {
    socket: &'a HaproxySocket,
    preamble: &'static str,
    backend: &'a str,
}

impl Admin<'_> {
    fn order(&self, command: &str, expected: &str) -> Result<(), String> {
        self.socket
            .order(&format!("{}{command}", self.preamble), expected)
    }

    fn set_state(&self, server: &str, state: &str) -> Result<(), String> {
        self.order(&format!("set server {}/{server} state {state}", self.backend), "")
    }

    fn add(&self, commands: &Commands) -> Result<(), String> {
        for addition in &commands.add {
            // In one line, for a first check that finds it disabled comes back only after `inter`.
            let commands = format!("{}; {}", addition.add, addition.start);
            self.order(&commands, "New server registered.")?;
        }
        commands
            .ready
            .iter()
            .try_for_each(|name| self.set_state(name, "ready"))
    }

    fn remove(&self, leaving: &[Running], done: &mut Done) -> Result<(), String> {
        if leaving.is_empty() {
            return Ok(());
        }
        done.left = leaving.iter().map(|r| r.name.clone()).collect();
        self.wait_for_somebody(&done.left)?;
        for server in leaving {
            self.set_state(&server.name, "maint")?;
        }
        let deadline = Instant::now() + GONE_WITHIN;
        let mut pause = Duration::from_millis(2);
        loop {
            for server in leaving {
                if done.left.contains(&server.name) && self.delete(server)? {
                    done.left.remove(&server.name);
                }
            }
            if done.left.is_empty() || Instant::now() >= deadline {
                break;
            }
            // Idle connections are gone at once, requests take as long as they take.
            thread::sleep(pause);
            pause = LOOK_EVERY.min(pause * 2);
        }
        done.events.extend(done.left.iter().map(|name| {
            format!("{name}: still has connections; it gets no new ones, and the next generate removes it")
        }));
        Ok(())
    }

    /// Those that replace the leaving ones have to pass their checks first. Where more serve than
    /// leave, somebody stays, and nobody has to list a thousand servers.
    fn wait_for_somebody(&self, leaving: &BTreeSet<String>) -> Result<(), String> {
        let deadline = Instant::now() + SERVES_WITHIN;
        loop {
            if self.socket.serving(self.backend)? > leaving.len()
                || !runtime::leaves_nobody(&self.socket.servers(self.backend)?, leaving)
            {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err("none of the servers that stay has passed its check".into());
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Deletes a server in maintenance; `false` while it has requests or connections.
    fn delete(&self, server: &Running) -> Result<bool, String> {
        if self.socket.sessions(self.backend, server)? != Some(0) {
            return Ok(false);
        }
        let command = format!("del server {}/{}", self.backend, server.name);
        match self.order(&command, "Server deleted.") {
            Ok(()) => Ok(true),
            Err(why) if why.contains("still has connections") => {
                let running = self.socket.servers(self.backend)?;
                let found = running.iter().find(|r| r.name == server.name);
                if let Some(command) = found.and_then(|r| runtime::drop_idle(self.backend, r)) {
                    // Answered by what changed, in words that differ by version.
                    let _ = self.order(&command, "");
                }
                Ok(false)
            }
            Err(why) => Err(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::runtime::replies::info;
    use crate::system::haproxy_socket::tests::scripted;

    #[test]
    fn commands_that_went_to_two_processes_are_none() {
        let process = |pid| format!("Version: 2.6.12\nPid: {pid}\nUptime_sec: 7\n");
        let plan = Plan {
            process: info(&process(1)).unwrap(),
            backend: "servers",
            commands: Commands {
                ready: vec!["app1".into()],
                ..Commands::default()
            },
        };
        let carried_out = |answers: [&str; 2]| {
            let (asked, outcome) = scripted(&answers, |socket| carry_out(socket, &plan));
            assert_eq!(asked, ["set server servers/app1 state ready\n", "show info\n"]);
            outcome.map(|done| done.events)
        };
        let told = "HAProxy: ready again app1, without a reload".to_string();
        assert_eq!(carried_out(["\n", &process(1)]), Ok(vec![told]));
        let taken_over = "another process has taken over meanwhile".to_string();
        assert_eq!(carried_out(["\n", &process(2)]), Err(taken_over));
    }
}
