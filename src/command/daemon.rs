//! `daemon`: the CPU, the links to the masters and the worker around [`Node`].

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::watched_ini::Watched;
use crate::config::{Config, Scaling};
use crate::core::load::cpu::Counters;
use crate::core::node::{Action, LinkId, Machine, Node, Outcome, Settings, Step, Warning};
use crate::core::protocol::{self, FromNode};
use crate::error::Error;
use crate::system::links::{self, Identity, LOOPBACK, News};
use crate::system::lock;
use crate::system::log::Log;
use crate::system::machine::{self, StatFile};
use crate::worker::notify::Notifier;
use crate::worker::{Worker, own_machine, survey};

/// For a master to see that a command takes its leave.
const FAREWELL: Duration = Duration::from_secs(1);
/// Events that may wait. Then readers wait too, and TCP holds back whoever sends too fast.
const EVENTS: usize = 64;

pub fn run(mut file: Watched, config: Config, log: Log) -> Result<(), Error> {
    let mut sampler = Sampler::new(&config.scaling, log);
    let mut body = Body::start(config, &file.text, log)?;
    log.event(&format!(
        "daemon: watching the CPU, threshold {:.0}%, window {} s",
        body.config.scaling.threshold,
        body.config.scaling.window.as_secs_f64()
    ));
    body.watch_for_warnings();
    loop {
        if let Some(percent) = sampler.sample_when_due(Instant::now()) {
            body.node.sampled(percent, Instant::now());
        }
        if let Some(new) = file.look(&body.config, body.node.is_at_it(), log, Instant::now()) {
            body.take_file(new, &file.text);
            sampler.set(&body.config.scaling);
        }
        for action in body.step(sampler.next) {
            if let Action::Say(text) = action {
                log.event(&text);
            }
        }
    }
}

/// The settings that decide in a daemon; see [`Settings`] for what is no setting of the INI.
pub fn settings(config: &Config, ec2: bool, by_group: bool) -> Settings {
    let scaling = &config.scaling;
    Settings {
        threshold: scaling.threshold,
        window: scaling.window,
        scale_down_threshold: scaling.scale_down_threshold,
        scale_down_window: scaling.scale_down_window,
        sample_interval: scaling.sample_interval,
        servers: config.haproxy.servers.clone(),
        plan: survey::rules(config, ec2),
        by_group,
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

    /// Goes by other settings.
    fn set(&mut self, settings: &Scaling) {
        self.stat = StatFile::new(&settings.procfs);
        self.interval = settings.sample_interval;
        self.next = self.next.min(Instant::now() + self.interval);
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
    Warned(Warning, &'static str, Machine),
    Net(News),
    Stepped(Outcome),
}

/// What carries out a [`Node`]'s actions: for `daemon` and `scale-up` alike.
pub struct Body {
    pub config: Arc<Config>,
    /// The text of its file.
    text: String,
    /// What the masters set beside that: whose word it is, and the keys.
    set: Option<(String, Vec<(String, String)>)>,
    secrets: Arc<Mutex<Vec<String>>>,
    pub node: Node,
    worker: Arc<Worker>,
    writers: BTreeMap<LinkId, TcpStream>,
    send: SyncSender<Event>,
    events: Receiver<Event>,
    refusals: BTreeMap<u16, String>,
    complained: BTreeSet<(u16, String)>,
    /// Ports that were said to be open to the network.
    opened: BTreeSet<u16>,
    /// How many connections were found, once every tunnel port has been looked at, and how many greetings
    /// have ended, one way or other.
    found: Option<usize>,
    greeted: usize,
    pub notifier: Notifier,
    log: Log,
}

impl Body {
    /// Reads what can be wrong in the settings, and begins to look for masters.
    ///
    /// # Errors
    /// Config, before anything has begun.
    pub fn start(config: Config, text: &str, log: Log) -> Result<Body, Error> {
        let config = Arc::new(config);
        let worker = Arc::new(Worker::ready(Arc::clone(&config), log)?);
        let settings = settings(&config, worker.asks_ec2(), worker.has_group());
        let instance = own_machine::instance(&config, &worker);
        let host = machine::host_name()?;
        let node = match &instance {
            Some(id) => format!("{host}/{id}"),
            None => format!("{host}/{}", machine::fingerprint()),
        };
        if !protocol::is_word(&node) {
            return Err(Error::config("host name", format!("`{host}` is too long")));
        }
        let secrets = Arc::new(Mutex::new(config.cluster.secrets().to_vec()));
        let identity = Identity {
            node,
            secrets: Arc::clone(&secrets),
        };
        // Where there is no way to HAProxy yet, its listings do not tell which entry this is.
        let myself = own_machine::address(&config).ok().map(|host| Machine {
            instance,
            host,
            port: config.machine.port,
        });
        let notifier = Notifier::start(Arc::clone(&config), host, log);
        let (send, events) = mpsc::sync_channel(EVENTS);
        let to_net = send.clone();
        links::look(
            LOOPBACK,
            config.master.tunnel_ports.clone(),
            identity,
            move |news| to_net.send(Event::Net(news)).is_ok(),
        );
        Ok(Body {
            node: Node::new(settings, myself, Instant::now()),
            config,
            text: text.into(),
            set: None,
            secrets,
            worker,
            writers: BTreeMap::new(),
            send,
            events,
            refusals: BTreeMap::new(),
            complained: BTreeSet::new(),
            opened: BTreeSet::new(),
            found: None,
            greeted: 0,
            notifier,
            log,
        })
    }

    /// Looks out for EC2 taking this machine back.
    fn watch_for_warnings(&self) {
        if !self.worker.asks_ec2() || !own_machine::has_metadata(&self.config) {
            return;
        }
        let (worker, send) = (Arc::clone(&self.worker), self.send.clone());
        thread::spawn(move || {
            worker.watch_for_warnings(|warning, notice, machine| {
                send.send(Event::Warned(warning, notice, machine)).is_ok()
            });
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
            Event::Net(News::Looked { found }) => self.found = Some(found),
            Event::Warned(warning, notice, machine) => self.node.interrupted(warning, notice, machine, now),
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
                Action::Adopt { master, pairs } => {
                    self.set = Some((master, pairs));
                    self.adopt();
                }
                Action::Say(_) | Action::End(_) => left.push(action),
            }
        }
        left
    }

    /// Goes by a changed file.
    fn take_file(&mut self, config: Config, text: &str) {
        let config = Arc::new(config);
        match Worker::ready(Arc::clone(&config), self.log) {
            Ok(worker) => self.worker = Arc::new(worker),
            Err(error) => return self.say_kept(&error),
        }
        *lock(&self.secrets) = config.cluster.secrets().to_vec();
        self.notifier.set_config(Arc::clone(&config));
        self.config = config;
        self.text = text.into();
        self.adopt();
    }

    /// Goes by its own settings, and by what the masters' file sets of `[scaling]` before them.
    fn adopt(&mut self) {
        let path = &self.config.path;
        let config = match &self.set {
            None => Config::parse(path, &self.text),
            Some((master, pairs)) => {
                let pairs: Vec<(&str, &str)> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
                Config::parse_under(path, &self.text, master, &pairs)
            }
        };
        match config {
            Ok(mut config) => {
                config.keep_until_next_start(&self.config);
                let (ec2, by_group) = (self.worker.asks_ec2(), self.worker.has_group());
                self.node.adopt(settings(&config, ec2, by_group));
            }
            Err(error) => self.say_kept(&error),
        }
    }

    fn say_kept(&self, error: &Error) {
        self.log
            .warning(&format!("{error}; the settings stay as they were"));
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

    /// Takes leave of the masters, so that what was said last arrives: a connection that is closed while
    /// there is something to read on it is reset, and loses that.
    pub fn farewell(&mut self) {
        for stream in self.writers.values() {
            let _ = stream.shutdown(Shutdown::Write);
        }
        let until = Instant::now() + FAREWELL;
        while !self.writers.is_empty() {
            match self
                .events
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(Event::Net(News::Lost(link, _))) => _ = self.writers.remove(&link),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    /// Has everyone who was there at the start been greeted?
    pub fn all_greeted(&self) -> bool {
        self.found.is_some_and(|found| self.greeted >= found)
    }

    /// The reasons why no master could be greeted, for a person who waits for one.
    pub fn refusals(&self) -> String {
        self.refusals.values().cloned().collect::<Vec<_>>().join("; ")
    }
}
