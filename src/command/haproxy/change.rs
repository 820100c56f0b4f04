//! Servers in and out of the running HAProxy by commands.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use super::LOOK_EVERY;
use crate::core::haproxy::runtime::reload::{self, Change, Commands};
use crate::core::haproxy::runtime::replies::{Process, Running};
use crate::core::haproxy::runtime::{self, somebody_stays};
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
pub struct Plan {
    process: Process,
    /// Section by section.
    commands: Vec<Commands>,
}

/// Looks what brings the servers of the HAProxy behind `socket` to `change`; nothing is done yet.
///
/// # Errors
/// Why it has to be a reload.
pub fn plan(socket: &HaproxySocket, change: &Change, due: &Due) -> Result<Plan, String> {
    if due.reload {
        return Err("one is due from before".into());
    }
    let process = socket.process()?;
    let running = socket.servers()?;
    let commands = reload::plan(change, &running, process.version, &due.aside)?;
    let sections = change.new.sections.iter();
    for section in sections.filter(|s| commands.iter().any(|c| c.section == s.name && !c.add.is_empty())) {
        if let Some(sample) = reload::sample(section, &running)
            && let Some(row) = socket.row(sample)?
        {
            reload::trust_row(section, &row)?;
        }
    }
    Ok(Plan { process, commands })
}

impl Plan {
    /// Is there nothing to do?
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// The servers that are half in or half out when it is not carried out to its end.
    pub fn touched(&self) -> impl Iterator<Item = &String> {
        self.commands.iter().flat_map(|commands| {
            let added = commands.add.iter().map(|a| &a.name);
            let removed = commands.remove.iter().map(|r| &r.name);
            added.chain(&commands.ready).chain(removed)
        })
    }
}

/// Does what is planned.
///
/// # Errors
/// Why it has to be a reload after all.
pub fn carry_out(socket: &HaproxySocket, plan: &Plan) -> Result<Done, String> {
    let mut done = Done::default();
    if plan.is_empty() {
        return Ok(done);
    }
    let admin = Admin {
        socket,
        preamble: runtime::preamble(plan.process.version),
    };
    for commands in &plan.commands {
        admin.bring_in(commands)?;
    }
    for commands in &plan.commands {
        admin.remove(commands, &mut done)?;
    }
    // Each command was answered as it should be. What no answer tells is somebody's reload amid
    // them: the new process may have read the file from before, or have missed the first ones.
    if socket.process()?.is_newer_than(&plan.process) {
        return Err("another process has taken over meanwhile".into());
    }
    let left = done.left.iter().map(|name| {
        format!("{name}: still has connections; it gets no new ones, and the next generate removes it")
    });
    done.events = std::iter::once(told(&plan.commands)).chain(left).collect();
    Ok(done)
}

fn told(commands: &[Commands]) -> String {
    // A server stands in several sections.
    let names = |of: fn(&Commands) -> Vec<&String>| -> String {
        let names: BTreeSet<&String> = commands.iter().flat_map(of).collect();
        names
            .into_iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let parts: Vec<String> = [
        ("added", names(|c| c.add.iter().map(|a| &a.name).collect())),
        (
            "moved",
            names(|c| c.move_to.iter().map(|(name, _)| name).collect()),
        ),
        ("checked again", names(|c| c.check.iter().collect())),
        ("ready again", names(|c| c.ready.iter().collect())),
        ("removed", names(|c| c.remove.iter().map(|r| &r.name).collect())),
    ]
    .into_iter()
    .filter(|(_, names)| !names.is_empty())
    .map(|(verb, names)| format!("{verb} {names}"))
    .collect();
    format!("HAProxy: {}, without a reload", parts.join("; "))
}

struct Admin<'a> {
    socket: &'a HaproxySocket,
    preamble: &'static str,
}

impl Admin<'_> {
    fn order(&self, command: &str, expected: &str) -> Result<(), String> {
        self.socket
            .order(&format!("{}{command}", self.preamble), expected)
    }

    /// All but the removals.
    fn bring_in(&self, commands: &Commands) -> Result<(), String> {
        let id = |name: &str| format!("{}/{name}", commands.section);
        for addition in &commands.add {
            // In one line, for a first check that finds it disabled comes back only after `inter`.
            let commands = format!("{}; {}", addition.add, addition.start);
            self.order(&commands, "New server registered.")?;
        }
        for (name, address) in &commands.move_to {
            // In words that differ by version: what it has come to is looked at afterwards.
            let _ = self.order(&runtime::move_to(&id(name), *address), "");
        }
        for name in &commands.check {
            self.order(&format!("enable health {}", id(name)), "")?;
        }
        for name in &commands.ready {
            self.order(&format!("set server {} state ready", id(name)), "")?;
        }
        Ok(())
    }

    fn remove(&self, commands: &Commands, done: &mut Done) -> Result<(), String> {
        let leaving = &commands.remove;
        if leaving.is_empty() {
            return Ok(());
        }
        let mut left: BTreeSet<String> = leaving.iter().map(|r| r.name.clone()).collect();
        self.wait_for_somebody(&commands.section, &left)?;
        for server in leaving {
            if server.has_agent() {
                self.order(&format!("disable agent {}", server.id()), "")?;
            }
            self.order(&format!("set server {} state maint", server.id()), "")?;
        }
        let deadline = Instant::now() + GONE_WITHIN;
        let mut pause = Duration::from_millis(2);
        loop {
            for server in leaving {
                if left.contains(&server.name) && self.delete(server)? {
                    left.remove(&server.name);
                }
            }
            if left.is_empty() || Instant::now() >= deadline {
                break;
            }
            // Idle connections are gone at once, requests take as long as they take.
            thread::sleep(pause);
            pause = LOOK_EVERY.min(pause * 2);
        }
        done.left.extend(left);
        Ok(())
    }

    /// Those that replace the leaving ones have to pass their checks first. Where more serve than
    /// leave, somebody stays, and nobody has to list a thousand servers.
    fn wait_for_somebody(&self, section: &str, leaving: &BTreeSet<String>) -> Result<(), String> {
        let deadline = Instant::now() + SERVES_WITHIN;
        loop {
            if self.socket.serving(section)? > leaving.len()
                || !somebody_stays::leaves_nobody(&self.socket.servers()?, section, leaving)
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
        if self.socket.row(server)?.is_none_or(|row| row.sessions > 0) {
            return Ok(false);
        }
        let command = format!("del server {}", server.id());
        match self.order(&command, "Server deleted.") {
            Ok(()) => Ok(true),
            Err(why) if why.contains("still has connections") => {
                let running = self.socket.servers()?;
                let found = running.iter().find(|r| r.id() == server.id());
                if let Some(command) = found.and_then(runtime::drop_idle) {
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
    use crate::core::haproxy::runtime::replies::info;
    use crate::system::haproxy_socket::tests::scripted;

    #[test]
    fn commands_that_went_to_two_processes_are_none() {
        let process = |pid| format!("Version: 2.6.12\nPid: {pid}\nUptime_sec: 7\n");
        let plan = Plan {
            process: info(&process(1)).unwrap(),
            commands: vec![Commands {
                section: "servers".into(),
                ready: vec!["app1".into()],
                ..Commands::default()
            }],
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
