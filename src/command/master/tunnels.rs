//! One tunnel per entry of `hosts.d`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant, SystemTime};

use super::{Event, LOOK};
use crate::config::Config;
use crate::core::haproxy::entry::Entry;
use crate::system::files;
use crate::system::hosts_dir::HostsDir;
use crate::system::log::Log;
use crate::system::ssh::Ssh;
use crate::system::tunnel::{Change, Route, Tunnel};

/// How often entries are read of which the directory says that they are as they were.
const READ: Duration = Duration::from_secs(10);

/// A tunnel as it was last heard of.
pub struct TunnelState {
    pub name: String,
    pub since: Instant,
    pub state: &'static str,
    pub port: Option<u16>,
    /// Why it is not up, or was not before.
    pub error: String,
}

impl TunnelState {
    /// Of the entry `name`, not up yet.
    fn new(name: &str) -> TunnelState {
        TunnelState {
            name: name.into(),
            since: Instant::now(),
            state: "starting",
            port: None,
            error: String::new(),
        }
    }

    /// Up with `port`, or down and why.
    fn went(&mut self, port: Option<u16>, error: &str) {
        let state = if port.is_some() { "up" } else { "down" };
        if self.state != state {
            self.since = Instant::now();
        }
        (self.state, self.port) = (state, port);
        if !error.is_empty() {
            self.error = error.into();
        }
    }
}

/// The tunnels, and the entries that they follow.
pub struct Tunnels {
    config: Arc<Config>,
    log: Log,
    events: SyncSender<Event>,
    hosts_dir: HostsDir,
    known_hosts: PathBuf,
    running: BTreeMap<String, Tunnel>,
    states: Vec<TunnelState>,
    /// What was said of each tunnel, so that the same trouble is not said again and again.
    said: BTreeMap<String, String>,
    seen: Option<SystemTime>,
    /// When the entries are read again, whatever the directory says: one may be edited in place.
    next_read: Instant,
    /// The entries that can be read.
    pub entries: Vec<Entry>,
}

impl Tunnels {
    pub fn new(config: Arc<Config>, log: Log, events: SyncSender<Event>) -> Tunnels {
        Tunnels {
            log,
            events,
            hosts_dir: HostsDir::new(config.dir()),
            known_hosts: config.master.known_hosts(),
            config,
            running: BTreeMap::new(),
            states: Vec::new(),
            said: BTreeMap::new(),
            seen: None,
            next_read: Instant::now(),
            entries: Vec::new(),
        }
    }

    /// Goes by other settings from now on. Where ssh is called otherwise, all are opened anew.
    pub fn set_config(&mut self, config: Arc<Config>) {
        let (old, new) = (&self.config.haproxy, &config.haproxy);
        let same = old.ssh_user == new.ssh_user
            && old.ssh_params == new.ssh_params
            && old.ssh_command == new.ssh_command;
        self.config = config;
        if !same {
            self.running.clear();
            self.next_read = Instant::now();
        }
    }

    /// Each tunnel, and where it leads.
    pub fn states(&self) -> impl Iterator<Item = (&TunnelState, &str)> {
        let host = |state: &TunnelState| self.running.get(&state.name).map_or("-", Tunnel::host);
        self.states.iter().map(move |state| (state, host(state)))
    }

    /// Makes the tunnels follow `hosts.d`. While a node is `leaving`, tunnels outlive their entries:
    /// it has drained itself and still has to say `FINISH`. True: the entries may have changed.
    pub fn follow(&mut self, leaving: bool, now: Instant) -> bool {
        let changed = self.hosts_dir.changed().ok();
        // A change within the clock's tick of the last one leaves the same time: look again
        // while it is fresh.
        let fresh = changed
            .and_then(|at| at.elapsed().ok())
            .is_none_or(|age| age < 3 * LOOK);
        if changed == self.seen && !fresh && now < self.next_read {
            return false;
        }
        self.next_read = now + READ;
        let names = match self.hosts_dir.names() {
            Ok(names) => names,
            Err(error) => {
                // No listing is not an empty one: what runs goes on.
                self.say_once("hosts.d", &error.to_string());
                return false;
            }
        };
        if self.seen.is_none() {
            self.forget_keys_but_of(&names);
        }
        let gone: Vec<String> = self
            .running
            .keys()
            .filter(|n| !names.contains(*n))
            .cloned()
            .collect();
        self.seen = changed.filter(|_| gone.is_empty() || !leaving);
        for name in gone.into_iter().filter(|_| !leaving) {
            if let Some(tunnel) = self.running.remove(&name) {
                self.log.event(&format!("tunnel {name}: entry removed, closing"));
                tunnel.forget();
                self.said.remove(&name);
            }
        }
        self.states
            .retain(|s| names.contains(&s.name) || self.running.contains_key(&s.name));
        self.entries.clear();
        for name in names {
            match self.hosts_dir.entry(&name) {
                Ok(entry) => {
                    self.open(name, entry.address(), entry.instance());
                    self.entries.push(entry);
                }
                Err(error) => {
                    self.state(&name).went(None, &error.to_string());
                    self.say_once(&name, &error.to_string());
                }
            }
        }
        true
    }

    /// Entries may have gone while no master ran.
    fn forget_keys_but_of(&self, names: &BTreeSet<String>) {
        let files = fs::read_dir(&self.known_hosts).into_iter().flatten().flatten();
        for file in files.filter(|file| !names.contains(&*file.file_name().to_string_lossy())) {
            let _ = fs::remove_file(file.path());
        }
    }

    fn open(&mut self, name: String, host: String, instance: Option<&str>) {
        if let Some(tunnel) = self.running.remove(&name) {
            if tunnel.leads_to(&host, instance) {
                self.running.insert(name, tunnel);
                return;
            }
            self.log
                .event(&format!("tunnel {name}: entry changed, opening it anew"));
            tunnel.give_way(&host, instance);
        }
        if let Err(error) = files::make_dir(&self.known_hosts, 0o700) {
            self.say_once("known_hosts", &error.to_string());
        }
        *self.state(&name) = TunnelState::new(&name);
        let route = Route {
            host,
            instance: instance.map(String::from),
            ports: self.config.master.tunnel_ports.clone(),
            target: super::reachable(self.config.master.listen).to_string(),
            known_hosts: self.known_hosts.join(&name),
        };
        let (events, of) = (self.events.clone(), name.clone());
        let changed = move |change| {
            let _ = events.send(Event::Tunnel {
                name: of.clone(),
                change,
            });
        };
        self.running
            .insert(name, Tunnel::keep(Ssh::new(&self.config.haproxy), route, changed));
    }

    /// How the tunnel to `name` does.
    fn state(&mut self, name: &str) -> &mut TunnelState {
        let at = self.states.iter().position(|s| s.name == name);
        let at = at.unwrap_or_else(|| {
            self.states.push(TunnelState::new(name));
            self.states.len() - 1
        });
        &mut self.states[at]
    }

    pub fn say(&mut self, name: &str, change: &Change) {
        if self.running.contains_key(name) {
            match change {
                Change::Up { port } => self.state(name).went(Some(*port), ""),
                Change::Down { why, .. } => self.state(name).went(None, why),
            }
        }
        match change {
            Change::Up { port } => {
                self.said.remove(name);
                self.log
                    .event(&format!("tunnel {name}: up, port {port} of the app server"));
            }
            Change::Down { why, .. } => self.say_once(name, &format!("down: {why}; trying again")),
        }
    }

    fn say_once(&mut self, name: &str, text: &str) {
        if self.said.get(name).is_none_or(|said| said != text) {
            self.said.insert(name.into(), text.into());
            self.log.warning(&format!("tunnel {name}: {text}"));
        }
    }
}
