//! The daemon's mind: samples, lines and results in, [`Action`]s out.
//!
//! ```text
//! Idle ──a need──▶ Asking ──every GRANT──▶ Working ──FINISH──▶ Idle
//!   ▲                │ WAIT: not before …     (seconds: a survey, a decision, a launch or an end)
//!   └────────────────┘
//! ```
//!
//! Beside that, without a lease: each machine that this node launched is waited for by itself
//! (`newcomers`), and a look, when a master says so, puts right what needs none (`look`).
//!
//! The steps are slow (EC2, ssh, a machine that boots), so the caller runs each beside this and brings
//! back its [`Outcome`]. `asking` gets the lease, `grow` goes by it for a launch, `leave` for this
//! machine's departure, `replace` for somebody else's. `masters` keeps the connections and leases.

mod aims;
mod asking;
mod blocked;
mod finish;
mod grow;
pub mod insufficient_capacity;
mod interruption;
mod leave;
mod look;
mod masters;
mod newcomers;
mod replace;
mod step;
mod terminate;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use crate::core::load::window::Window;
pub use crate::core::plan::Machine;
use crate::core::protocol::facts::Fact;
use crate::core::protocol::{FromMaster, FromNode};
use crate::core::text::duration::seconds;
use crate::error::Kind;
pub use aims::{Aim, Settings, Wanted};
use aims::{FIRST_BACKOFF, LONGEST_BACKOFF, Pause, Phase};
use blocked::Need;
use insufficient_capacity::InsufficientCapacity;
use interruption::Interruption;
pub use interruption::Warning;
use look::Looks;
pub use masters::HEARTBEAT;
use masters::Masters;
use newcomers::Newcomers;
pub use step::{Action, Launched, LinkId, Notice, Outcome, Purpose, Step, Told};

/// How long a master may take to answer `SCALE`.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// Between two tries of one step.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// All that a daemon knows.
#[derive(Debug)]
pub struct Node {
    settings: Settings,
    /// For scaling up, and for scaling down.
    window: Window,
    calm: Window,
    phase: Phase,
    /// By [`Aim`].
    pauses: [Pause; 4],
    masters: Masters,
    looks: Looks,
    newcomers: Newcomers,
    insufficient_capacity: InsufficientCapacity,
    next_heartbeat: Instant,
    /// Asked for by hand: the load does not matter.
    wanted: Option<Wanted>,
    /// Which machine this is, once it has been found out.
    myself: Option<Machine>,
    /// This machine is not one that autoscaler may end.
    stays: bool,
    interruption: Option<Interruption>,
    /// Whom the work under a lease has terminated last.
    ending: Option<String>,
    said_alone: bool,
    need: Need,
    out: Vec<Action>,
}

impl Node {
    /// `myself`: this machine, as far as it is known from the start.
    pub fn new(settings: Settings, myself: Option<Machine>, now: Instant) -> Node {
        Node {
            window: Window::new(settings.window, settings.sample_interval),
            calm: Window::new(settings.scale_down_window, settings.sample_interval),
            settings,
            phase: Phase::Idle,
            pauses: std::array::from_fn(|_| Pause::new()),
            masters: Masters::default(),
            looks: Looks::default(),
            newcomers: Newcomers::default(),
            insufficient_capacity: InsufficientCapacity::default(),
            next_heartbeat: now,
            wanted: None,
            myself,
            stays: false,
            interruption: None,
            ending: None,
            said_alone: false,
            need: Need::default(),
            out: Vec::new(),
        }
    }

    /// Goes by other settings from now on. The windows go on where they are as long as before.
    pub fn adopt(&mut self, settings: Settings) {
        let same = |old: Duration, new: Duration| {
            old == new && self.settings.sample_interval == settings.sample_interval
        };
        if !same(self.settings.window, settings.window) {
            self.window = Window::new(settings.window, settings.sample_interval);
        }
        if !same(self.settings.scale_down_window, settings.scale_down_window) {
            self.calm = Window::new(settings.scale_down_window, settings.sample_interval);
        }
        self.settings = settings;
    }

    /// The actions since the last call, in their order.
    pub fn actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.out)
    }

    /// Is anyone there to ask?
    pub fn has_master(&self) -> bool {
        self.masters.connected_count() > 0
    }

    /// The leases that have time left: their masters' names and their own.
    #[cfg(test)]
    pub fn leases(&self, now: Instant) -> impl Iterator<Item = (&str, &str)> {
        self.masters.leases(now)
    }

    /// Does it hold a lease, or ask for one? Settings change in between.
    pub fn is_at_it(&self) -> bool {
        !matches!(self.phase, Phase::Idle)
    }

    /// The newest CPU sample, 0 to 100.
    pub fn sampled(&mut self, percent: f64, now: Instant) {
        self.window.push(percent);
        if self.settings.scale_down_threshold > 0.0 {
            self.calm.push(percent);
        }
        self.look_at_need(now);
        match self.phase {
            Phase::Resampling => self.resampled(percent, now),
            _ => self.consider(now),
        }
    }

    /// Scale now, whatever the load: the `scale-up`, `scale-down` and `replace` commands.
    pub fn want(&mut self, wanted: Wanted, now: Instant) {
        self.wanted = Some(wanted);
        self.consider(now);
    }

    /// A master has been greeted on `link`. False: there is a connection to it already, so this
    /// one is of no use.
    pub fn connected(&mut self, link: LinkId, name: &str, now: Instant) -> bool {
        let Some(first) = self.masters.connected(link, name, now) else {
            return false;
        };
        self.out
            .extend(first.into_iter().map(|message| Action::Send(link, message)));
        self.said_alone = false;
        // It may decide otherwise, as one that was restarted with other settings does.
        self.end_soft_pauses();
        self.say(format!("master {name}: connected"));
        self.next_heartbeat = now;
        self.tick(now);
        true
    }

    /// The connection is gone.
    pub fn disconnected(&mut self, link: LinkId, why: &str, now: Instant) {
        let Some(name) = self.masters.disconnected(link) else {
            return;
        };
        self.say(format!("master {name}: connection lost: {why}"));
        if let Some(aim) = self.is_asking(&name) {
            self.ask_next(aim, now);
        }
    }

    /// A line from the master on `link`.
    pub fn heard(&mut self, link: LinkId, message: FromMaster, now: Instant) {
        let Some((name, master)) = self.masters.on(link) else {
            return;
        };
        match message {
            FromMaster::Ping => self.out.push(Action::Send(link, FromNode::Pong)),
            FromMaster::Pong => master.heard_pong(),
            FromMaster::Grant {
                lease,
                seconds,
                epoch,
                machines,
            } => self.granted(&name, lease, Duration::from_secs(seconds), (epoch, machines), now),
            FromMaster::Wait { reason, seconds } => self.told_to_wait(&name, reason, seconds, now),
            FromMaster::Scale { node } => master.other = Some(node),
            FromMaster::Finish { node } => {
                master.lease_ended(&node);
                self.end_waits_for_a_lease();
            }
            FromMaster::Set(pair) => {
                if let Some((master, pairs)) = self.masters.set(&name, pair, now) {
                    self.out.push(Action::Adopt { master, pairs });
                }
            }
            FromMaster::Fleet { up, .. } => {
                // What was measured before says nothing about the load after it.
                if master.up.replace(up).is_some_and(|before| up > before) {
                    self.begin_new_windows();
                }
            }
            FromMaster::Look => self.told_to_look(now),
            FromMaster::Fact(text) => {
                let hosts = Fact::parse(&text).filter(|_| text.starts_with("HOSTS "));
                if let Some(booting) = hosts.and_then(|fact| fact.get("booting").parse().ok())
                    && let Some(lease) = &mut master.lease
                {
                    lease.booting = booting;
                }
            }
            FromMaster::Error(text) => {
                let text = format!("master {name}: {text}");
                self.say(text.clone());
                // Perhaps of another line: what was asked stays open.
                if self.is_asking(&name).is_some() {
                    self.not_now(Kind::Unavailable, &text, ANSWER_TIME, now);
                }
            }
            FromMaster::Challenge { .. } | FromMaster::Welcome { .. } | FromMaster::End => {}
        }
    }

    /// When [`Node::tick`] has something to do.
    pub fn deadline(&self) -> Instant {
        let phase = match &self.phase {
            Phase::Idle => self.pauses.iter().filter_map(|pause| pause.until).min(),
            Phase::Resampling | Phase::Gone => None,
            Phase::Asking { since, .. } => Some(*since + ANSWER_TIME),
            Phase::Working { next, .. } => next.as_ref().map(|(at, _)| *at),
        };
        let drain = self.interruption.as_ref().and_then(Interruption::deadline);
        let due = [
            phase,
            self.newcomers.deadline(),
            self.looks.deadline(),
            self.masters.differ_deadline(),
            drain,
        ];
        due.into_iter().flatten().fold(self.next_heartbeat, Instant::min)
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        if now >= self.next_heartbeat {
            // The mean, since one sample says little of what the others would have to take over.
            let interval = self
                .masters
                .heartbeat(self.window.mean_so_far(), now, &mut self.out);
            self.next_heartbeat = now + interval;
        }
        if let Some(text) = self.masters.differ(now) {
            self.say(text);
        }
        for pause in &mut self.pauses {
            pause.until.take_if(|until| now >= *until);
        }
        match &mut self.phase {
            Phase::Asking { asked, since, .. } if now >= *since + ANSWER_TIME => {
                let why = format!("master {asked}: no answer");
                self.say(why.clone());
                self.not_now(Kind::Unavailable, &why, ANSWER_TIME, now);
            }
            Phase::Working { aim, next, .. } if next.as_ref().is_some_and(|(at, _)| now >= *at) => {
                let (aim, (_, step)) = (*aim, next.take().expect("just looked at"));
                self.work(aim, *step, now);
            }
            _ => {}
        }
        self.newcomers_when_due(now);
        self.look_when_due(now);
        self.drain_when_due(now);
        self.consider(now);
    }

    /// A step that was run is over.
    pub fn finished(&mut self, outcome: Outcome, now: Instant) {
        if let Outcome::Entered(machine, told) = &outcome {
            self.looks.mended(machine, told);
        }
        // A newcomer and the plan may both have it ended: each hears of it.
        let is_ended = matches!(&outcome, Outcome::Terminated(id, _) if self.ending.as_ref() == Some(id));
        let own = is_ended.then(|| outcome.clone());
        let others = self.of_a_newcomer(outcome, now);
        let Some(outcome) = own.or(others) else {
            return;
        };
        match outcome {
            Outcome::Surveyed(Purpose::Look, result) => return self.looked(result, now),
            Outcome::Found(result) => return self.found(result, now),
            Outcome::Entered(machine, told) => {
                self.say_entered(&machine, &told);
                return;
            }
            Outcome::Removed { server, name, result } => return self.removed(&server, &name, result),
            Outcome::Drained(machine, told) if self.is_taken_back() => {
                return self.drained_before_the_end(machine, &told);
            }
            Outcome::Departed(machine, result) if self.is_taken_back() => {
                return self.departed_before_the_end(&machine, result);
            }
            _ => {}
        }
        let Phase::Working { aim, .. } = self.phase else {
            return;
        };
        match (aim, outcome) {
            (_, Outcome::Surveyed(_, Err(error))) => {
                // Who replaces by hand hears of it at the end.
                if aim != Aim::Replace {
                    self.say(error.to_string());
                }
                self.failed(error, now);
            }
            (Aim::Grow, outcome) => self.grow(outcome, now),
            (Aim::Terminate, outcome) => self.terminate(outcome, now),
            (Aim::Leave, outcome) => self.leave(outcome, now),
            (Aim::Replace, outcome) => self.replace(outcome, now),
        }
    }

    /// Runs the next step at once.
    fn work(&mut self, aim: Aim, step: Step, now: Instant) {
        let irreversible = matches!(
            step,
            Step::Launch { .. } | Step::Terminate { .. } | Step::Drain { .. } | Step::Depart { .. }
        );
        if irreversible && !self.masters.may_act(now) {
            // A grant ran out or a master came: begin again, with its consent. What has expired
            // must not be taken for a grant on the way.
            self.masters.drop_expired(now);
            self.ask_next(aim, now);
            return;
        }
        if let Step::Terminate { id } = &step {
            self.ending = Some(id.clone());
        }
        self.out.push(Action::Run(step));
    }

    /// What was measured before a change says nothing about the load after it.
    fn begin_new_windows(&mut self) {
        self.window.clear();
        self.calm.clear();
    }

    fn survey(&mut self, purpose: Purpose) {
        let myself = self.myself.clone();
        self.out.push(Action::Run(Step::Survey { purpose, myself }));
    }

    fn say(&mut self, text: String) {
        self.out.push(Action::Say(text));
    }

    fn notify(&mut self, event: &'static str, machine: Option<Machine>, reason: String) {
        self.out.push(Action::Notify(Notice {
            event,
            machine,
            reason,
        }));
    }
}
