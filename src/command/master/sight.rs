//! What the master sees of this host: the entries, and how HAProxy has them.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::{Duration, Instant};

use super::Event;
use crate::command::list_hosts::Running;
use crate::config::Config;
use crate::core::haproxy::entry::Entry;
use crate::core::haproxy::listing::Listed;
use crate::core::haproxy::state::State;
use crate::core::master::{Master, Output};

/// For so long the last word of a HAProxy holds that does not answer: one that is being reloaded is
/// there again within it.
const PATIENCE: Duration = Duration::from_secs(10);

/// The last look.
pub struct Sight {
    events: SyncSender<Event>,
    /// HAProxy is being asked.
    asking: bool,
    running: Option<(Running, Instant)>,
    /// What the master was told.
    told: Option<Vec<Listed>>,
}

impl Sight {
    pub fn new(events: SyncSender<Event>) -> Sight {
        Sight {
            events,
            asking: false,
            running: None,
            told: None,
        }
    }

    /// Asks HAProxy, on a thread: it may take its time.
    pub fn ask(&mut self, config: &Arc<Config>) {
        if self.asking {
            return;
        }
        let (config, events) = (Arc::clone(config), self.events.clone());
        let asked = thread::Builder::new().spawn(move || {
            let _ = events.send(Event::Running(Running::ask(&config).ok()));
        });
        self.asking = asked.is_ok();
    }

    /// HAProxy has answered, or not.
    pub fn running(
        &mut self,
        config: &Config,
        running: Option<Running>,
        entries: &[Entry],
        master: &mut Master,
        now: Instant,
    ) -> Vec<Output> {
        self.asking = false;
        master.requests(running.as_ref().map(|running| running.requests), now);
        match running {
            Some(running) => self.running = Some((running, now)),
            None => {
                self.running
                    .take_if(|(_, at)| now.saturating_duration_since(*at) > PATIENCE);
            }
        }
        self.entries(config, entries, master, now)
    }

    /// Tells the master of the `entries` as they are now, where something is another than before.
    pub fn entries(
        &mut self,
        config: &Config,
        entries: &[Entry],
        master: &mut Master,
        now: Instant,
    ) -> Vec<Output> {
        let running = self.running.as_ref().map(|(running, _)| running);
        let listed = listed(config, entries, running);
        let same = |(a, b): (&Listed, &Listed)| {
            (&a.name, &a.address, a.port, &a.instance, a.state)
                == (&b.name, &b.address, b.port, &b.instance, b.state)
        };
        let told = self.told.as_ref();
        if told.is_some_and(|told| told.len() == listed.len() && told.iter().zip(&listed).all(same)) {
            return Vec::new();
        }
        let out = master.saw(&listed, now);
        self.told = Some(listed);
        out
    }
}

/// The entries, each as the running HAProxy has it.
fn listed(config: &Config, entries: &[Entry], running: Option<&Running>) -> Vec<Listed> {
    let servers: Vec<String> = entries
        .iter()
        .map(|entry| entry.server(&config.haproxy.server_line))
        .collect();
    // One that has none of them is asked in the wrong place, or has its reload still before it.
    let running = running.filter(|running| servers.iter().any(|server| running.has(server)));
    let listed = |(entry, server): (&Entry, &String)| {
        let (state, since) = match running {
            None => (State::Unknown, None),
            // It sends nothing there, whatever the machine does.
            Some(running) if !running.has(server) => (State::Maint, None),
            Some(running) => running.state_of(server).unwrap_or((State::Unknown, None)),
        };
        Listed::of(entry, state, since)
    };
    entries.iter().zip(&servers).map(listed).collect()
}
