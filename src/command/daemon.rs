//! `daemon`: the CPU, the links to the masters and the worker around [`Node`].

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use crate::config::{Config, Scaling};
use crate::core::cpu::Counters;
use crate::core::fleet;
use crate::core::node::{Action, LinkId, Machine, Node, Outcome, Settings, Step};
use crate::core::protocol::FromNode;
use crate::error::Error;
use crate::system::links::{self, Identity, LOOPBACK, News};
use crate::system::log::Log;
use crate::system::machine::{self, StatFile};
use crate::worker::notify::Notifier;
use crate::worker::{Worker, leave};

/// Events that may wait. Then readers wait too, and TCP holds back whoever sends too fast.
const EVENTS: usize = 64;

/// Between two looks for instances that were left behind, by one daemon.
const LOOK_INTERVAL: Duration = Duration::from_secs(3600);

pub fn run(config: Config, log: Log) -> Result<(), Error> {
    let config = Arc::new(config);
    let mut sampler = Sampler::new(&config.scaling, log);
    let mut body = Body::start(config, log)?;
    log.event(&format!(
        "daemon: watching the CPU, threshold {:.0}%, window {} s",
        body.config.scaling.threshold,
        body.config.scaling.window.as_secs_f64()
    ));
    body.watch_for_notice();
    loop {
        if let Some(percent) = sampler.sample_when_due(Instant::now()) {
            body.node.sampled(percent, Instant::now());
        }
        for action in body.step(sampler.next) {
            if let Action::Say(text) = action {
                log.event(&text);
            }
        }
    }
}

/// The settings that decide in a daemon; see [`Settings`] for what is no setting of the INI.
pub fn settings(config: &Config, ec2: bool, by_group: bool, repair_delay: Duration) -> Settings {
    Settings {
        threshold: config.scaling.threshold,
        window: config.scaling.window,
        scale_down_threshold: config.scaling.scale_down_threshold,
        scale_down_window: config.scaling.scale_down_window,
        sample_interval: config.scaling.sample_interval,
        servers: config.haproxy.servers.clone(),
        fleet: fleet::Rules {
            boot_timeout: config.machine.boot_timeout,
            cooldown: config.scaling.cooldown,
            max_hosts: config.scaling.max_hosts,
            min_hosts: config.scaling.min_hosts,
            max_launches_per_day: config.scaling.max_launches_per_day,
            by_group,
        },
        ec2,
        repair_delay,
        look_interval: LOOK_INTERVAL,
        blocked_after: config.notify.blocked_after,
    }
}

/// Takes a sample every interval.
struct Sampler {
    stat: StatFile,
    interval: Duration,
    log: Log,
    last: Option<Counters>,
    next: Instant,
    failing: bool,
}

impl Sampler {
    fn new(settings: &Scaling, log: Log) -> Sampler {
        Sampler {
            stat: StatFile::new(&settings.procfs),
            interval: settings.sample_interval,
            log,
            last: None,
            next: Instant::now(),
            failing: false,
        }
    }

    /// The CPU's use since the last sample, 0 to 100, if one is due and can be told.
    fn sample_when_due(&mut self, now: Instant) -> Option<f64> {
        if now < self.next {
            return None;
        }
        self.next += self.interval;
        if self.next <= now {
            // It overslept (a suspended machine): what was missed is not made up for.
            self.next = now + self.interval;
        }
        match self.stat.read() {
            Ok(counters) => {
                self.failing = false;
                let busy = self.last.as_ref().and_then(|last| counters.busy_since(last));
                self.last = Some(counters);
                busy
            }
            Err(error) => {
                if !self.failing {
                    self.failing = true;
                    self.log
                        .warning(&format!("{error}; no samples until it can be read again"));
                }
                self.last = None;
                None
            }
        }
    }
}

enum Event {
    Interrupted(&'static str, Machine),
    Net(News),
    Stepped(Outcome),
}

/// What carries out a [`Node`]'s actions: for `daemon` and `scale-up` alike.
pub struct Body {
    pub config: Arc<Config>,
    pub node: Node,
    worker: Arc<Worker>,
    writers: BTreeMap<LinkId, TcpStream>,
    send: SyncSender<Event>,
    events: Receiver<Event>,
    refusals: BTreeMap<u16, String>,
    complained: BTreeSet<(u16, String)>,
    /// Ports that were said to be open to the network.
    opened: BTreeSet<u16>,
    /// Every tunnel port has been looked at once.
    looked: bool,
    /// How many connections have been found and how many greetings have ended, one way or other.
    found: usize,
    greeted: usize,
    pub notifier: Notifier,
    log: Log,
}

impl Body {
    /// Reads what can be wrong in the settings, and begins to look for masters.
    ///
    /// # Errors
    /// Config, before anything has begun.
    pub fn start(config: Arc<Config>, log: Log) -> Result<Body, Error> {
        let worker = Arc::new(Worker::new(Arc::clone(&config), log)?);
        worker.check_ready()?;
        let repair_delay = config.master.lease.mul_f64(machine::random_share()?);
        let settings = settings(&config, worker.asks_ec2(), worker.has_group(), repair_delay);
        let identity = Identity {
            node: machine::host_name()?,
            secret: config.cluster.secret.clone(),
        };
        let notifier = Notifier::start(Arc::clone(&config), identity.node.clone(), log);
        let (send, events) = mpsc::sync_channel(EVENTS);
        let to_net = send.clone();
        links::look(
            links::addresses(LOOPBACK, config.master.tunnel_ports.clone()),
            identity,
            move |news| to_net.send(Event::Net(news)).is_ok(),
        );
        Ok(Body {
            node: Node::new(settings, Instant::now()),
            config,
            worker,
            writers: BTreeMap::new(),
            send,
            events,
            refusals: BTreeMap::new(),
            complained: BTreeSet::new(),
            opened: BTreeSet::new(),
            looked: false,
            found: 0,
            greeted: 0,
            notifier,
            log,
        })
    }

    /// Looks out for EC2 taking this machine back.
    fn watch_for_notice(&self) {
        if !self.worker.asks_ec2() || !leave::has_metadata(&self.config) {
            return;
        }
        let (worker, send) = (Arc::clone(&self.worker), self.send.clone());
        thread::spawn(move || {
            if let Some((notice, machine)) = worker.wait_for_notice() {
                let _ = send.send(Event::Interrupted(notice, machine));
            }
        });
    }

    /// Waits for the next event, at most until `until`, and lets the node act on it. Returns
    /// what is left for the caller: what to say, and the end of a scale-up.
    pub fn step(&mut self, until: Instant) -> Vec<Action> {
        let mut left = self.carry_out();
        let until = until.min(self.node.deadline());
        let wait = until.saturating_duration_since(Instant::now());
        match self.events.recv_timeout(wait) {
            Ok(event) => self.take(event),
            Err(RecvTimeoutError::Timeout) => self.node.tick(Instant::now()),
            Err(RecvTimeoutError::Disconnected) => unreachable!("this holds a sender itself"),
        }
        left.extend(self.carry_out());
        left
    }

    fn take(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Net(News::Connected { link, master, stream }) => {
                self.refusals.clear();
                self.complained.clear();
                self.greeted += 1;
                if self.node.connected(link, &master, now) {
                    self.writers.insert(link, stream);
                } else {
                    let _ = stream.shutdown(Shutdown::Both);
                }
            }
            Event::Net(News::Line(link, message)) => self.node.heard(link, message, now),
            Event::Net(News::Lost(link, why)) => {
                self.writers.remove(&link);
                self.node.disconnected(link, &why, now);
            }
            Event::Net(News::Refused { port, why }) => {
                self.greeted += 1;
                // Each kind of trouble once: the words after a colon are those of whoever listens.
                let kind = why.split(':').next().unwrap_or_default().to_string();
                let why = format!("127.0.0.1:{port}: not a master to go by: {why}");
                if self.complained.insert((port, kind)) {
                    self.log.warning(&why);
                }
                self.refusals.insert(port, why);
            }
            Event::Net(News::Open { port }) => {
                if !links::is_own(port, &self.config.master) && self.opened.insert(port) {
                    self.log.warning(&links::open_port(port));
                }
            }
            Event::Net(News::Looked { found }) => {
                self.looked = true;
                self.found = found;
            }
            Event::Interrupted(notice, machine) => self.node.interrupted(notice, machine, now),
            Event::Stepped(outcome) => self.node.finished(outcome, now),
        }
    }

    /// Does what the node wants done, and returns the rest.
    fn carry_out(&mut self) -> Vec<Action> {
        let mut left = Vec::new();
        for action in self.node.actions() {
            match action {
                Action::Send(link, message) => self.write(link, &message),
                Action::Run(step) => {
                    let (worker, send) = (Arc::clone(&self.worker), self.send.clone());
                    let told = self.notifier.pending();
                    thread::spawn(move || {
                        if matches!(step, Step::Depart { .. }) {
                            told.wait();
                        }
                        let _ = send.send(Event::Stepped(worker.run(step)));
                    });
                }
                Action::Notify(notice) => self.notifier.tell(notice),
                Action::Say(_) | Action::End(_) => left.push(action),
            }
        }
        left
    }

    fn write(&mut self, link: LinkId, message: &FromNode) {
        self.log.detail(&format!("> {message}"));
        if let Some(stream) = self.writers.get_mut(&link)
            && stream.write_all(format!("{message}\n").as_bytes()).is_err()
        {
            // Its reader notices, and says so.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Has everyone who was there at the start been greeted?
    pub fn all_greeted(&self) -> bool {
        self.looked && self.greeted >= self.found
    }

    /// The reasons why no master could be greeted, for a person who waits for one.
    pub fn refusals(&self) -> String {
        self.refusals.values().cloned().collect::<Vec<_>>().join("; ")
    }
}
