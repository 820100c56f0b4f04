//! `master`: the protocol's sockets, the tunnels and the state file around [`Master`].

mod report;
mod sight;
mod tunnels;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::list_hosts::Running;
use super::watched_ini::Watched;
use crate::config::Config;
use crate::core::master::lease::{Arbiter, Rules, Wish};
use crate::core::master::{Master, Output};
use crate::error::Error;
use crate::system::lines::End;
use crate::system::listener::{self, News, Writers};
use crate::system::log::Log;
use crate::system::machine::{self, Random};
use crate::system::state::StateFile;
use crate::system::tunnel::Change;
use report::Reporter;
use sight::Sight;
use tunnels::Tunnels;

/// Events that may wait. Then readers wait too, and TCP holds back whoever sends too fast.
const EVENTS: usize = 64;
/// Connections at most. Each takes a thread and about 8 KB.
const MOST_CONNECTIONS: usize = 16_384;
/// The limit on open files that POSIX promises and no system has; for where `/proc` says nothing.
const FEWEST_FILES: usize = 256;
/// How often `hosts.d` is looked at.
const LOOK: Duration = Duration::from_secs(1);

enum Event {
    Net(News),
    Tunnel {
        name: String,
        change: Change,
    },
    /// What HAProxy runs, in lines of `REPORT`.
    Servers(Vec<String>),
    /// How HAProxy has the servers; `None` where it can't be asked.
    Running(Option<Running>),
}

/// The settings that decide in a master.
pub fn rules(config: &Config) -> Rules {
    Rules {
        lease: config.master.lease,
        cooldown: config.scaling.cooldown,
        scale_down_cooldown: config.scaling.scale_down_cooldown,
        scale_down_window: config.scaling.scale_down_window,
        boot_timeout: config.machine.boot_timeout,
        max_hosts: config.scaling.max_hosts,
        max_launches_per_day: config.scaling.max_launches_per_day,
        max_step: config.scaling.max_step,
        min_hosts: config.scaling.min_hosts,
        threshold: config.scaling.threshold,
    }
}

pub fn run(mut file: Watched, config: Config, log: Log) -> Result<(), Error> {
    let mut config = Arc::new(config);
    let name = machine::host_name()?;
    let state = StateFile::in_dir(&config.master.state)?;
    let now = Instant::now();
    let (saved, decisions) = state.load()?.unzip();
    let restarted = saved.is_some();
    let arbiter = Arbiter::new(rules(&config), saved, now);
    let mut master = Master::new(name.clone(), config.cluster.secrets().to_vec(), arbiter);
    master.history.recall(&decisions.unwrap_or_default(), now);
    master.limit(most_connections());
    master.set(handed_out(&config));
    let random = Random::open()?;
    // For the next line, and for that one alone: drawn beforehand, so that no answer waits for it.
    let mut nonce = random.nonce()?;
    let (send, events) = mpsc::sync_channel(EVENTS);
    let mut reporter = Reporter::new(send.clone(), now);
    let mut sight = Sight::new(send.clone());
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
    let mut tunnels = Tunnels::new(Arc::clone(&config), log, send);
    let mut writers = Writers::default();
    let mut next_look = now;
    loop {
        let now = Instant::now();
        let mut out = Vec::new();
        if now >= next_look {
            next_look = now + LOOK;
            let lease = master.arbiter.lease();
            let leaving = lease.is_some_and(|lease| lease.wish == Wish::Leave);
            if let Some(new) = file.look(&config, lease.is_some(), log, now) {
                config = Arc::new(new);
                master.arbiter.set_rules(rules(&config), now);
                master.set_secrets(config.cluster.secrets().to_vec());
                out.extend(master.set(handed_out(&config)));
                tunnels.set_config(Arc::clone(&config));
            }
            if tunnels.follow(leaving, now) {
                out.extend(sight.entries(&config, &tunnels.entries, &mut master, now));
            }
            sight.ask(&config);
        }
        out.extend(master.tick(now));
        carry_out(out, &master, &mut writers, &mut saver, now);
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
                let out = master.line(peer, &line, &nonce, now);
                let asked = out.contains(&Output::Report(peer));
                carry_out(out, &master, &mut writers, &mut saver, now);
                nonce = random.nonce()?;
                if asked {
                    let epoch = master.arbiter.save(now).epoch;
                    reporter.answer(peer, &config, epoch, &tunnels, &mut writers, now);
                }
            }
            Event::Servers(lines) => reporter.servers(&lines, &mut writers),
            Event::Running(running) => {
                let out = sight.running(&config, running, &tunnels.entries, &mut master, now);
                carry_out(out, &master, &mut writers, &mut saver, now);
            }
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

/// What `SET` tells: no value has a space that would mean something, and none may stand in a line's
/// way.
fn handed_out(config: &Config) -> Vec<(String, String)> {
    let pair = |(key, value): (&str, &str)| (key.to_string(), value.split_whitespace().collect());
    config.handed_out().map(pair).collect()
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

/// Where this host reaches what listens on `listen`.
pub fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
