//! The daemon's mind: samples, lines and results in, [`Action`]s out.
//!
//! ```text
//! Watching ──load over threshold──▶ Asking ──every GRANT──▶ Working ──▶ Watching
//!     ▲                               │ WAIT                   │ failed
//!     └────────── Waiting ◀───────────┴────────────────────────┘
//! ```
//!
//! The steps of [`Phase::Working`] are slow (EC2, ssh, a machine that boots), so the caller runs
//! each beside this and brings back its [`Outcome`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::duration::seconds;
use super::fleet::{self, Plan, Survey};
use super::protocol::{FromMaster, FromNode, Reason};
use super::window::Window;
use crate::error::{Error, Kind};

/// One connection to a master, numbered by whoever made it.
pub type LinkId = u64;

/// Between two `LOAD`s, unless the node holds a lease shorter than three of these.
pub const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long a master may take to answer `SCALE`.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// After a failed scale-up.
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
const LONGEST_BACKOFF: Duration = Duration::from_secs(3600);
/// Between two tries to enter a machine into a HAProxy that did not answer.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// A new machine on its way into service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// EC2's id; `None` where a shell command made it.
    pub instance: Option<String>,
    /// Empty until it is known.
    pub host: String,
    pub port: u16,
}

impl Machine {
    /// How the log calls it.
    pub fn title(&self) -> &str {
        self.instance.as_deref().unwrap_or(&self.host)
    }
}

/// Slow work for the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ask EC2 for the cluster's instances and, if one is live, the HAProxy hosts for their lists.
    Survey,
    /// Terminate instances that never came into service.
    Clear {
        ids: Vec<String>,
    },
    Launch {
        fleet: Vec<String>,
    },
    /// Wait until it runs, has an address and passes the health check.
    Boot {
        machine: Machine,
        time: Duration,
    },
    /// Enter it into these HAProxy hosts, side by side.
    Enter {
        machine: Machine,
        servers: Vec<String>,
    },
    /// It did not become healthy.
    Terminate {
        id: String,
    },
}

/// What came of a [`Step`].
#[derive(Debug, Clone)]
pub enum Outcome {
    Surveyed(Result<Survey, Error>),
    Cleared(Result<(), Error>),
    Launched(Result<Machine, Error>),
    Booted(Machine, Result<(), Error>),
    /// For each HAProxy host.
    Entered(Machine, Vec<(String, Result<(), Error>)>),
    Terminated(Result<(), Error>),
}

/// Something for the caller to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Send(LinkId, FromNode),
    Run(Step),
    /// Tell the operator.
    Say(String),
    /// A scale-up is over; only the `scale-up` command waits for this.
    End(Result<(), Error>),
}

/// The settings that decide.
#[derive(Debug, Clone)]
pub struct Settings {
    pub threshold: f64,
    pub window: Duration,
    pub sample_interval: Duration,
    pub servers: Vec<String>,
    pub fleet: fleet::Rules,
    /// False where a shell command launches, and EC2 is not asked about anything.
    pub ec2: bool,
}

#[derive(Debug)]
enum Phase {
    Watching,
    /// Ask no master before this. What a master said about another node's lease is over with
    /// that lease; a wait that is `firm` (back-off, EC2's own cooldown) is not.
    Waiting {
        until: Instant,
        firm: bool,
    },
    /// `asked` owes an answer since `since`.
    Asking {
        asked: String,
        since: Instant,
    },
    /// A step runs, or begins at `next`.
    Working {
        launched: Option<Instant>,
        next: Option<(Instant, Step)>,
        retry: Backoff,
    },
}

/// A lease as its holder sees it.
#[derive(Debug, Clone)]
struct Held {
    id: String,
    length: Duration,
    expires: Instant,
}

#[derive(Debug, Default)]
struct Master {
    link: Option<LinkId>,
    lease: Option<Held>,
    /// When the heartbeat was sent that its next `PONG` answers.
    heartbeat_sent: Option<Instant>,
    /// Another node that scales.
    other: Option<String>,
    /// A `FINISH` that could not be sent because the connection was lost.
    owed: Option<FromNode>,
}

/// A machine that serves but is not in every HAProxy yet.
#[derive(Debug)]
struct Owed {
    machine: Machine,
    servers: Vec<String>,
    next: Option<Instant>,
    retry: Backoff,
}

/// All that a daemon knows.
#[derive(Debug)]
pub struct Node {
    settings: Settings,
    window: Window,
    phase: Phase,
    masters: BTreeMap<String, Master>,
    owed: Vec<Owed>,
    backoff: Backoff,
    next_heartbeat: Instant,
    /// Asked for by hand: the load does not matter.
    wanted: bool,
    said_alone: bool,
    out: Vec<Action>,
}

impl Node {
    pub fn new(settings: Settings, now: Instant) -> Node {
        Node {
            window: Window::new(settings.window, settings.sample_interval),
            settings,
            phase: Phase::Watching,
            masters: BTreeMap::new(),
            owed: Vec::new(),
            backoff: Backoff::new(FIRST_BACKOFF, LONGEST_BACKOFF),
            next_heartbeat: now,
            wanted: false,
            said_alone: false,
            out: Vec::new(),
        }
    }

    /// The actions since the last call, in their order.
    pub fn actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.out)
    }

    /// The HAProxy hosts that have not been told of a machine that serves.
    pub fn owed(&self) -> Vec<&str> {
        self.owed
            .iter()
            .flat_map(|o| o.servers.iter().map(String::as_str))
            .collect()
    }

    /// Is anyone there to ask?
    pub fn has_master(&self) -> bool {
        self.masters.values().any(|m| m.link.is_some())
    }

    /// The newest CPU sample, 0 to 100.
    pub fn sampled(&mut self, percent: f64, now: Instant) {
        self.window.push(percent);
        self.consider(now);
    }

    /// Scale up now, whatever the load: the `scale-up` command.
    pub fn want(&mut self, now: Instant) {
        self.wanted = true;
        self.consider(now);
    }

    /// A master has been greeted on `link`. False: there is a connection to it already, so this
    /// one is of no use.
    pub fn connected(&mut self, link: LinkId, name: &str, now: Instant) -> bool {
        let master = self.masters.entry(name.into()).or_default();
        if master.link.is_some() {
            return false;
        }
        master.link = Some(link);
        if let Some(finish) = master.owed.take() {
            self.out.push(Action::Send(link, finish));
        } else if let Some(lease) = &master.lease {
            self.out.push(Action::Send(
                link,
                FromNode::Hold {
                    lease: lease.id.clone(),
                },
            ));
        }
        self.said_alone = false;
        self.say(format!("master {name}: connected"));
        self.next_heartbeat = now;
        self.tick(now);
        true
    }

    /// The connection is gone.
    pub fn disconnected(&mut self, link: LinkId, why: &str, now: Instant) {
        let Some((name, master)) = self.masters.iter_mut().find(|(_, m)| m.link == Some(link)) else {
            return;
        };
        let name = name.clone();
        master.link = None;
        master.heartbeat_sent = None;
        master.other = None;
        if master.lease.is_none() && master.owed.is_none() {
            self.masters.remove(&name);
        }
        self.say(format!("master {name}: connection lost: {why}"));
        if matches!(&self.phase, Phase::Asking { asked, .. } if *asked == name) {
            self.ask_next(now);
        }
    }

    /// A line from the master on `link`.
    pub fn heard(&mut self, link: LinkId, message: FromMaster, now: Instant) {
        let Some((name, master)) = self.masters.iter_mut().find(|(_, m)| m.link == Some(link)) else {
            return;
        };
        let name = name.clone();
        match message {
            FromMaster::Ping => self.out.push(Action::Send(link, FromNode::Pong)),
            FromMaster::Pong => {
                if let (Some(sent), Some(lease)) = (master.heartbeat_sent.take(), &mut master.lease) {
                    lease.expires = sent + lease.length;
                }
            }
            FromMaster::Grant {
                lease,
                seconds,
                epoch,
            } => self.granted(&name, lease, seconds, epoch, now),
            FromMaster::Wait { reason, seconds } => self.told_to_wait(&name, reason, seconds, now),
            FromMaster::Scale { node } => {
                self.out.push(Action::Say(format!(
                    "master {name}: {node} scales, holding still"
                )));
                master.other = Some(node);
            }
            FromMaster::Finish { node } => {
                if master.other.take_if(|other| *other == node).is_none() {
                    // Nobody else's: it is ours, and it ran out.
                    master.lease = None;
                }
                // What was measured before the change says nothing about the load after it.
                self.window.clear();
                if matches!(self.phase, Phase::Waiting { firm: false, .. }) {
                    self.phase = Phase::Watching;
                }
            }
            FromMaster::Error(text) => {
                self.say(format!("master {name}: {text}"));
                if matches!(&self.phase, Phase::Asking { asked, .. } if *asked == name) {
                    self.back_to_waiting(
                        Kind::Unavailable,
                        &format!("master {name}: {text}"),
                        ANSWER_TIME,
                        now,
                    );
                }
            }
            FromMaster::Challenge { .. }
            | FromMaster::Welcome { .. }
            | FromMaster::Node { .. }
            | FromMaster::Lease { .. }
            | FromMaster::Cooldown { .. }
            | FromMaster::End => {}
        }
    }

    /// When [`Node::tick`] has something to do.
    pub fn deadline(&self) -> Instant {
        let phase = match &self.phase {
            Phase::Watching => None,
            Phase::Waiting { until, .. } => Some(*until),
            Phase::Asking { since, .. } => Some(*since + ANSWER_TIME),
            Phase::Working { next, .. } => next.as_ref().map(|(at, _)| *at),
        };
        let owed = self.owed.iter().filter_map(|o| o.next).min();
        [phase, owed]
            .into_iter()
            .flatten()
            .fold(self.next_heartbeat, Instant::min)
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        if now >= self.next_heartbeat {
            self.heartbeat(now);
        }
        match &mut self.phase {
            Phase::Waiting { until, .. } if now >= *until => {
                self.phase = Phase::Watching;
                self.consider(now);
            }
            Phase::Asking { asked, since } if now >= *since + ANSWER_TIME => {
                let why = format!("master {asked}: no answer to SCALE");
                self.say(why.clone());
                self.back_to_waiting(Kind::Unavailable, &why, ANSWER_TIME, now);
            }
            Phase::Working { next, .. } if next.as_ref().is_some_and(|(at, _)| now >= *at) => {
                let (_, step) = next.take().expect("just looked at");
                self.out.push(Action::Run(step));
            }
            _ => {}
        }
        for owed in &mut self.owed {
            if owed.next.take_if(|at| now >= *at).is_some() {
                self.out.push(Action::Run(Step::Enter {
                    machine: owed.machine.clone(),
                    servers: owed.servers.clone(),
                }));
            }
        }
    }

    /// `LOAD`, and a `PING` whose answer shows that the master got it.
    fn heartbeat(&mut self, now: Instant) {
        let load = self.window.newest();
        let mut interval = HEARTBEAT;
        for master in self.masters.values_mut() {
            if let Some(lease) = &master.lease {
                interval = interval.min(lease.length / 3);
            }
            let Some(link) = master.link else { continue };
            if load.is_some() || master.lease.is_some() {
                self.out
                    .push(Action::Send(link, FromNode::Load(load.unwrap_or(0.0))));
            }
            self.out.push(Action::Send(link, FromNode::Ping));
            master.heartbeat_sent.get_or_insert(now);
        }
        self.masters
            .retain(|_, m| m.link.is_some() || m.lease.as_ref().is_some_and(|l| l.expires > now));
        self.next_heartbeat = now + interval;
    }

    /// Begins to ask when there is a need and nothing stands against it.
    fn consider(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Watching) {
            return;
        }
        if !self.wanted {
            if self.masters.values().any(|m| m.other.is_some()) {
                return;
            }
            match self.window.mean() {
                Some(mean) if mean >= self.settings.threshold => {}
                _ => return,
            }
        }
        if self.masters.values().all(|m| m.link.is_none()) {
            if !self.said_alone {
                self.said_alone = true;
                self.say("no master is connected: waiting for one before scaling up".into());
            }
            return;
        }
        if let Some(mean) = self.window.mean() {
            let (window, threshold) = (seconds(self.settings.window), self.settings.threshold);
            self.say(format!(
                "scale-up: CPU at {mean:.0}% over {window} s, threshold {threshold:.0}%"
            ));
        }
        self.ask_next(now);
    }

    /// Asks the first master, by name, that has not granted; with all of them granted, begins.
    fn ask_next(&mut self, now: Instant) {
        let missing = self
            .masters
            .iter()
            .find(|(_, m)| m.link.is_some() && m.lease.is_none());
        if let Some((name, Master { link: Some(link), .. })) = missing {
            self.out.push(Action::Send(*link, FromNode::Scale));
            self.phase = Phase::Asking {
                asked: name.clone(),
                since: now,
            };
        } else if self.masters.values().any(|m| m.lease.is_some()) {
            let first = if self.settings.ec2 {
                Step::Survey
            } else {
                Step::Launch { fleet: Vec::new() }
            };
            self.phase = Phase::Working {
                launched: None,
                next: None,
                retry: Backoff::new(FIRST_RETRY, LONGEST_RETRY),
            };
            self.out.push(Action::Run(first));
        } else {
            self.back_to_waiting(Kind::Unavailable, "every master is gone", ANSWER_TIME, now);
        }
    }

    fn granted(&mut self, name: &str, id: String, secs: u64, epoch: u64, now: Instant) {
        let Some(master) = self.masters.get_mut(name) else {
            return;
        };
        let asked = matches!(&self.phase, Phase::Asking { asked, .. } if asked == name);
        let held = master.lease.as_ref().is_some_and(|l| l.id == id);
        if !asked && !held {
            // An answer that came after its time: nobody waits for it any more.
            if let Some(link) = master.link {
                let text = "the answer came too late".into();
                self.out.push(Action::Send(
                    link,
                    FromNode::Finish {
                        lease: id,
                        ok: false,
                        text,
                    },
                ));
            }
            return;
        }
        let length = Duration::from_secs(secs);
        // Counted from the question, so that it ends here no later than there.
        let since = match &self.phase {
            Phase::Asking { since, .. } if asked => *since,
            _ => now,
        };
        master.lease = Some(Held {
            id,
            length,
            expires: since + length,
        });
        self.next_heartbeat = self.next_heartbeat.min(now + length / 3);
        self.say(format!("master {name}: granted, epoch {epoch}"));
        if asked {
            self.ask_next(now);
        }
    }

    fn told_to_wait(&mut self, name: &str, reason: Reason, secs: u64, now: Instant) {
        if matches!(&self.phase, Phase::Asking { asked, .. } if asked == name) {
            let why = format!("master {name}: {}", explain(reason, secs));
            self.say(format!("{why}; asking again then"));
            self.back_to_waiting(Kind::Busy, &why, Duration::from_secs(secs.max(1)), now);
        } else if let Some(master) = self.masters.get_mut(name) {
            // The answer to HOLD.
            if master.lease.take().is_some() {
                self.say(format!("master {name}: the lease is lost"));
            }
        }
    }

    /// Gives back what was granted and asks nobody for a while.
    fn back_to_waiting(&mut self, kind: Kind, why: &str, wait: Duration, now: Instant) {
        // Only EC2's reasons come up at work; a master's do while asking.
        let firm = matches!(self.phase, Phase::Working { .. });
        self.give_back(false, why);
        self.phase = Phase::Waiting {
            until: now + wait,
            firm,
        };
        self.end(Err(Error::new(kind, "scale-up", why)));
    }

    fn give_back(&mut self, ok: bool, text: &str) {
        for master in self.masters.values_mut() {
            let Some(lease) = master.lease.take() else {
                continue;
            };
            let finish = FromNode::Finish {
                lease: lease.id,
                ok,
                text: text.into(),
            };
            match master.link {
                Some(link) => self.out.push(Action::Send(link, finish)),
                None => master.owed = Some(finish),
            }
        }
    }

    /// May an irreversible step be taken: every master's grant is there and has time left?
    fn may_act(&self, now: Instant) -> bool {
        let leased = |m: &Master| m.lease.as_ref().is_some_and(|l| l.expires > now);
        self.masters.values().any(leased) && self.masters.values().all(|m| leased(m) || m.link.is_none())
    }

    /// A step that was run is over.
    pub fn finished(&mut self, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::Entered(machine, results) if self.owed.iter().any(|o| o.machine == machine) => {
                self.entered_late(&machine, results, now);
            }
            Outcome::Surveyed(Ok(survey)) => self.surveyed(&survey, now),
            Outcome::Cleared(Ok(())) => self.work(Step::Survey, now),
            Outcome::Launched(Ok(machine)) => {
                self.say(format!("launched {}", machine.title()));
                if let Phase::Working { launched, .. } = &mut self.phase {
                    *launched = Some(now);
                }
                let time = self.settings.fleet.boot_timeout;
                self.work(Step::Boot { machine, time }, now);
            }
            Outcome::Booted(machine, Ok(())) => {
                self.say(format!(
                    "{} is healthy at {}:{}",
                    machine.title(),
                    machine.host,
                    machine.port
                ));
                let servers = self.settings.servers.clone();
                self.work(Step::Enter { machine, servers }, now);
            }
            Outcome::Booted(machine, Err(error)) => {
                self.say(error.to_string());
                match machine.instance {
                    Some(id) if self.may_act(now) => self.work(Step::Terminate { id }, now),
                    _ => self.failed(error, now),
                }
            }
            Outcome::Entered(machine, results) => self.entered(machine, results, now),
            Outcome::Terminated(Ok(())) => {
                self.failed(
                    Error::unavailable("scale-up", "the new machine did not become healthy"),
                    now,
                );
            }
            Outcome::Surveyed(Err(error))
            | Outcome::Cleared(Err(error))
            | Outcome::Launched(Err(error))
            | Outcome::Terminated(Err(error)) => {
                self.say(error.to_string());
                self.failed(error, now);
            }
        }
    }

    /// Runs the next step of a scale-up at once.
    fn work(&mut self, step: Step, now: Instant) {
        let irreversible = matches!(
            step,
            Step::Clear { .. } | Step::Launch { .. } | Step::Terminate { .. }
        );
        if irreversible && !self.may_act(now) {
            // A grant ran out or a master came: begin again, with its consent. What has expired
            // must not be taken for a grant on the way.
            for master in self.masters.values_mut() {
                master.lease.take_if(|l| l.expires <= now);
            }
            self.ask_next(now);
            return;
        }
        self.out.push(Action::Run(step));
    }

    fn surveyed(&mut self, survey: &Survey, now: Instant) {
        match fleet::plan(survey, &self.settings.fleet) {
            Plan::Launch { fleet } => {
                let over = self
                    .window
                    .mean()
                    .is_none_or(|mean| mean >= self.settings.threshold);
                if over || self.wanted {
                    self.work(Step::Launch { fleet }, now);
                } else {
                    self.back_to_waiting(Kind::Busy, "the load fell before the launch", Duration::ZERO, now);
                }
            }
            Plan::Adopt {
                instance,
                boot_time_left,
            } => {
                self.say(format!(
                    "{} was launched but not entered: finishing that",
                    instance.id
                ));
                let machine = Machine {
                    instance: Some(instance.id),
                    host: String::new(),
                    port: 0,
                };
                self.work(
                    Step::Boot {
                        machine,
                        time: boot_time_left,
                    },
                    now,
                );
            }
            Plan::Clear { ids } => {
                self.say(format!(
                    "never came into service, terminating: {}",
                    ids.join(", ")
                ));
                self.work(Step::Clear { ids }, now);
            }
            Plan::Wait { why, wait } => {
                self.say(why.clone());
                self.back_to_waiting(Kind::Busy, &why, wait, now);
            }
        }
    }

    fn entered(&mut self, machine: Machine, results: Vec<(String, Result<(), Error>)>, now: Instant) {
        let failed = self.say_entered(&machine, &results);
        if failed.len() < results.len() {
            if !failed.is_empty() {
                let mut retry = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
                let next = Some(now + retry.failed());
                self.owed.push(Owed {
                    machine,
                    servers: failed,
                    next,
                    retry,
                });
            }
            self.give_back(true, "");
            self.backoff.reset();
            self.window.clear();
            self.phase = Phase::Watching;
            self.end(Ok(()));
            return;
        }
        let boot_timeout = self.settings.fleet.boot_timeout;
        match &mut self.phase {
            Phase::Working {
                launched,
                next,
                retry,
            } if launched.is_none_or(|at| now < at + boot_timeout) => {
                launched.get_or_insert(now);
                *next = Some((
                    now + retry.failed(),
                    Step::Enter {
                        machine,
                        servers: failed,
                    },
                ));
            }
            _ => {
                let what = format!("{} serves, but no HAProxy could be told of it", machine.title());
                self.failed(Error::unavailable("scale-up", what), now);
            }
        }
    }

    /// A HAProxy that did not answer at first has been tried again.
    fn entered_late(&mut self, machine: &Machine, results: Vec<(String, Result<(), Error>)>, now: Instant) {
        let failed = self.say_entered(machine, &results);
        self.owed.retain_mut(|owed| {
            if owed.machine == *machine {
                owed.servers = failed.clone();
                owed.next = Some(now + owed.retry.failed());
            }
            !owed.servers.is_empty()
        });
    }

    /// Says how it went, and returns the hosts that failed.
    fn say_entered(&mut self, machine: &Machine, results: &[(String, Result<(), Error>)]) -> Vec<String> {
        let mut failed = Vec::new();
        for (server, result) in results {
            match result {
                Ok(()) => self.say(format!("{} is in HAProxy on {server}", machine.title())),
                Err(error) => {
                    self.say(format!("{error}; trying again"));
                    failed.push(server.clone());
                }
            }
        }
        failed
    }

    fn failed(&mut self, error: Error, now: Instant) {
        let wait = self.backoff.failed();
        self.say(format!(
            "scale-up failed, next try in {} s at the earliest",
            seconds(wait)
        ));
        self.give_back(false, &error.to_string());
        self.window.clear();
        self.phase = Phase::Waiting {
            until: now + wait,
            firm: true,
        };
        self.end(Err(error));
    }

    fn end(&mut self, result: Result<(), Error>) {
        self.wanted = false;
        self.out.push(Action::End(result));
    }

    fn say(&mut self, text: String) {
        self.out.push(Action::Say(text));
    }
}

fn explain(reason: Reason, secs: u64) -> String {
    match reason {
        Reason::Holder => format!("another node scales, {secs} s of its lease left"),
        Reason::Cooldown => format!("cooldown, {secs} s left"),
        Reason::Full => "hosts.d has as many entries as max_hosts allows".into(),
        Reason::Starting => format!("it has just started, {secs} s until it grants"),
    }
}
