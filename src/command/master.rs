//! `master`: the protocol's sockets, the tunnels and the state file around [`Master`].

mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant, SystemTime};

use crate::config::Config;
use crate::core::lease::{Arbiter, Rules, Wish};
use crate::core::master::{Master, Output};
use crate::error::Error;
use crate::system::files;
use crate::system::hosts_dir::HostsDir;
use crate::system::lines::End;
use crate::system::listener::{self, News, Writers};
use crate::system::log::Log;
use crate::system::machine::{self, Random};
use crate::system::ssh::Ssh;
use crate::system::state::StateFile;
use crate::system::tunnel::{Change, Route, Tunnel};
use report::{Reporter, TunnelState};

/// How far under the threshold the others must stay with the load of a machine that leaves: what
/// they take over must not make them scale up again.
const ROOM: f64 = 0.8;
/// Events that may wait. Then readers wait too, and TCP holds back whoever sends too fast.
const EVENTS: usize = 64;
/// Connections at most. Each takes a thread and about 8 KB.
const MOST_CONNECTIONS: usize = 16_384;
/// The limit on open files that POSIX promises and no system has; for where `/proc` says nothing.
const FEWEST_FILES: usize = 256;
/// How often `hosts.d` is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often its entries are read again: one that is edited in place leaves no mark on the directory.
const REREAD: Duration = Duration::from_secs(10);

enum Event {
    Net(News),
    Tunnel {
        name: String,
        change: Change,
    },
    /// What HAProxy runs, in lines of `REPORT`.
    Servers(Vec<String>),
}

/// The settings that decide in a master.
pub fn rules(config: &Config) -> Rules {
    Rules {
        lease: config.master.lease,
        cooldown: config.scaling.cooldown,
        scale_down_cooldown: config.scaling.scale_down_cooldown,
        max_hosts: config.scaling.max_hosts,
        max_launches_per_day: config.scaling.max_launches_per_day,
        min_hosts: config.scaling.min_hosts,
        room: ROOM * config.scaling.threshold,
    }
}

pub fn run(config: Config, log: Log) -> Result<(), Error> {
    let config = &Arc::new(config);
    let name = machine::host_name()?;
    let state = StateFile::in_dir(&config.master.state)?;
    let now = Instant::now();
    let (saved, decisions) = state.load()?.unzip();
    let restarted = saved.is_some();
    let arbiter = Arbiter::new(rules(config), saved, now);
    let mut master = Master::new(name.clone(), config.cluster.secret.clone(), arbiter);
    master.history.recall(&decisions.unwrap_or_default(), now);
    master.limit(most_connections());
    let random = Random::open()?;
    // For the next line, and for that one alone: drawn beforehand, so that no answer waits for it.
    let mut nonce = random.nonce()?;
    let (send, events) = mpsc::sync_channel(EVENTS);
    let mut reporter = Reporter::new(Arc::clone(config), send.clone(), now);
    let to_net = send.clone();
    listener::listen(config.master.listen, move |news| {
        to_net.send(Event::Net(news)).is_ok()
    })?;
    log.event(&format!("master {name}: serving on {}", config.master.listen));
    if restarted {
        log.event("waiting one lease for a holder to come back");
    }
    let mut saver = Saver {
        state,
        log,
        failing: false,
    };
    // A first run leaves its mark, so that the next one knows that it is not the first.
    saver.save(&master, now);
    let mut tunnels = Tunnels::new(config, log, send);
    let mut writers = Writers::default();
    let mut next_look = now;
    loop {
        let now = Instant::now();
        if now >= next_look {
            let leaving = master
                .arbiter
                .lease()
                .is_some_and(|lease| lease.wish == Wish::Shrink);
            tunnels.follow(leaving);
            next_look = now + LOOK;
        }
        carry_out(master.tick(now), &master, &mut writers, &mut saver, now);
        let deadline = master.deadline().map_or(next_look, |at| at.min(next_look));
        let event = match events.recv_timeout(deadline.saturating_duration_since(now)) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        let now = Instant::now();
        match event {
            Event::Tunnel { name, change } => tunnels.say(&name, &change),
            Event::Net(News::Opened(peer, stream)) => {
                writers.opened(peer, stream);
                carry_out(master.opened(peer, now), &master, &mut writers, &mut saver, now);
            }
            Event::Net(News::Line(peer, line)) => {
                if !writers.has(peer) {
                    // Cut off, and this was still on its way.
                    continue;
                }
                let out = master.line(peer, &line, tunnels.hosts, &nonce, now);
                let asked = out.contains(&Output::Report(peer));
                carry_out(out, &master, &mut writers, &mut saver, now);
                nonce = random.nonce()?;
                if asked {
                    let epoch = master.arbiter.save(now).epoch;
                    reporter.answer(peer, epoch, &tunnels, &mut writers, now);
                }
            }
            Event::Servers(lines) => reporter.servers(&lines, &mut writers),
            Event::Net(News::Closed(peer, end)) => {
                // One that has only stopped sending (`… | nc`) has done nothing wrong.
                if end != End::Closed {
                    writers.send(peer, &format!("ERROR {}", end.text()));
                }
                writers.close(peer);
                master.closed(peer);
            }
        }
    }
}

/// What this process may have open bounds them, too: a tunnel takes three files.
fn most_connections() -> usize {
    MOST_CONNECTIONS.min(machine::most_open_files().unwrap_or(FEWEST_FILES) / 3)
}

fn carry_out(out: Vec<Output>, master: &Master, writers: &mut Writers, saver: &mut Saver, now: Instant) {
    let mut out = out.into_iter().peekable();
    while let Some(output) = out.next() {
        match output {
            Output::Send(peer, message) => {
                // What goes to the same peer goes at once: `STATUS` has a line per node.
                let mut lines = message.to_string();
                while let Some(Output::Send(_, message)) =
                    out.next_if(|next| matches!(next, Output::Send(to, _) if *to == peer))
                {
                    lines += &format!("\n{message}");
                }
                writers.send(peer, &lines);
            }
            Output::Close(peer) => writers.close(peer),
            Output::Tell { except, message } => {
                let line = message.to_string();
                for peer in master.welcome().filter(|peer| Some(*peer) != except) {
                    writers.send(peer, &line);
                }
            }
            Output::Save => saver.save(master, now),
            Output::Note => saver
                .state
                .note(&master.arbiter.save(now), master.history.lines(now).next()),
            Output::Say(text) => saver.log.event(&text),
            Output::Report(_) => {}
        }
    }
}

/// Writes the state, and says once when that fails: a full disk must not stop the cluster.
struct Saver {
    state: StateFile,
    log: Log,
    failing: bool,
}

impl Saver {
    fn save(&mut self, master: &Master, now: Instant) {
        match self
            .state
            .save(&master.arbiter.save(now), &master.history.lines(now).collect())
        {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                self.log.warning(&format!(
                    "{error}; going on without: a restart would forget the cooldown"
                ));
            }
            Err(_) => {}
        }
    }
}

/// One tunnel per entry of `hosts.d`.
struct Tunnels<'a> {
    config: &'a Config,
    log: Log,
    events: SyncSender<Event>,
    hosts_dir: HostsDir,
    known_hosts: PathBuf,
    running: BTreeMap<String, Tunnel>,
    states: Vec<TunnelState>,
    /// What was said of each tunnel, so that the same trouble is not said again and again.
    said: BTreeMap<String, String>,
    seen: Option<SystemTime>,
    read: Instant,
    /// How many entries there are.
    hosts: usize,
}

impl<'a> Tunnels<'a> {
    fn new(config: &'a Config, log: Log, events: SyncSender<Event>) -> Tunnels<'a> {
        Tunnels {
            config,
            log,
            events,
            hosts_dir: HostsDir::new(config.dir()),
            known_hosts: config.master.state.join("known_hosts"),
            running: BTreeMap::new(),
            states: Vec::new(),
            said: BTreeMap::new(),
            seen: None,
            read: Instant::now(),
            hosts: 0,
        }
    }

    /// Makes the tunnels follow `hosts.d`. While a node is `leaving`, tunnels outlive their entries:
    /// it has drained itself and still has to say `FINISH`.
    fn follow(&mut self, leaving: bool) {
        let changed = self.hosts_dir.changed().ok();
        // A change within the clock's tick of the last one leaves the same time: look again
        // while it is fresh.
        let fresh = changed
            .and_then(|at| at.elapsed().ok())
            .is_none_or(|age| age < 3 * LOOK);
        if changed == self.seen && !fresh && self.read.elapsed() < REREAD {
            return;
        }
        self.read = Instant::now();
        let names = match self.hosts_dir.names() {
            Ok(names) => names,
            Err(error) => {
                // No listing is not an empty one: what runs goes on.
                self.say_once("hosts.d", &error.to_string());
                return;
            }
        };
        self.hosts = names.len();
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
        for name in names {
            match self.hosts_dir.entry(&name) {
                Ok(entry) => self.open(name, entry.address(), entry.instance()),
                Err(error) => {
                    self.state(&name).went(None, &error.to_string());
                    self.say_once(&name, &error.to_string());
                }
            }
        }
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
            target: reachable(self.config.master.listen).to_string(),
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

    fn say(&mut self, name: &str, change: &Change) {
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

/// Where this host reaches what listens on `listen`.
pub fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
