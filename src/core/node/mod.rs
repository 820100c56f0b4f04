//! The daemon's mind: samples, lines and results in, [`Action`]s out.
//!
//! ```text
//! Watching ──load over or under──▶ Asking ──every GRANT──▶ Working ──▶ Watching
//!     ▲                              │ WAIT                  │ failed
//!     └──────── Waiting ◀────────────┴───────────────────────┘
//! ```
//!
//! The steps of [`Phase::Working`] are slow (EC2, ssh, a machine that boots), so the caller runs
//! each beside this and brings back its [`Outcome`]. `asking` gets the lease, `grow` follows a scale-up through them,
//! `shrink` a scale-down. `masters` keeps the connections and leases, `repair` what is left to
//! tell HAProxy hosts that could not be reached.

mod asking;
mod ending;
mod grow;
mod interruption;
mod masters;
mod notice;
mod repair;
mod shrink;
mod step;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::duration::seconds;
use super::fleet;
use super::lease::Wish;
use super::protocol::{FromMaster, FromNode, Reason};
use super::shortage::Shortages;
use super::window::Window;
use crate::error::{Error, Kind};
use interruption::Interruption;
pub use masters::HEARTBEAT;
use masters::Masters;
use notice::Need;
pub use notice::Notice;
use repair::Repairs;
pub use step::{Action, LinkId, Machine, Outcome, Step, Told};

/// How long a master may take to answer `SCALE`.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// A lease that was given back within this time changed nothing: another master had said no.
const MERE_QUESTION: Duration = Duration::from_secs(2);
/// After a failed scale-up.
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
const LONGEST_BACKOFF: Duration = Duration::from_secs(3600);
/// Between two tries of one step.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// The settings that decide.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Percent, over 0.
    pub threshold: f64,
    pub window: Duration,
    /// Percent; 0: never leave.
    pub scale_down_threshold: f64,
    pub scale_down_window: Duration,
    pub sample_interval: Duration,
    pub servers: Vec<String>,
    pub fleet: fleet::Rules,
    /// False where a shell command launches, and EC2 is not asked about anything.
    pub ec2: bool,
    /// How long after a master's coming this node looks whether its HAProxy missed anything:
    /// another time for every node, so that the first one finds all the work.
    pub repair_delay: Duration,
    /// Between two looks for what was left behind, while all goes well.
    pub look_interval: Duration,
    /// How long a need may last before it is said to be blocked; zero: never.
    pub blocked_after: Duration,
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
        wish: Wish,
        asked: String,
        since: Instant,
    },
    /// Granted: the next sample has to say that leaving is still right.
    Resampling,
    /// A step runs, or begins at `next`.
    Working {
        wish: Wish,
        launched: Option<Instant>,
        /// How the text of `FINISH` begins: which machine was launched, or adopted.
        did: String,
        /// Why the new machine has to go.
        sick: Option<Box<Error>>,
        next: Option<(Instant, Step)>,
        retry: Backoff,
    },
    /// This machine has been terminated.
    Gone,
}

/// All that a daemon knows.
#[derive(Debug)]
pub struct Node {
    settings: Settings,
    /// For scaling up, and for scaling down.
    window: Window,
    calm: Window,
    phase: Phase,
    masters: Masters,
    repairs: Repairs,
    shortages: Shortages,
    backoff: Backoff,
    next_heartbeat: Instant,
    /// Asked for by hand: the load does not matter.
    wanted: Option<Wish>,
    /// What was asked for last, and why it was refused; said once and not at every question.
    refused: Option<(Wish, Reason)>,
    /// Which machine this is, once it has been found out.
    myself: Option<Machine>,
    /// Instances were left behind, which the next holder of the lease clears up.
    untidy: bool,
    /// This machine is not one that autoscaler may end.
    stays: bool,
    interruption: Option<Interruption>,
    said_alone: bool,
    need: Need,
    out: Vec<Action>,
}

impl Node {
    pub fn new(settings: Settings, now: Instant) -> Node {
        let mut repairs = Repairs::default();
        if settings.ec2 {
            repairs.look_at(now + settings.look_interval);
        }
        Node {
            window: Window::new(settings.window, settings.sample_interval),
            calm: Window::new(settings.scale_down_window, settings.sample_interval),
            settings,
            phase: Phase::Watching,
            masters: Masters::default(),
            repairs,
            shortages: Shortages::default(),
            backoff: Backoff::new(FIRST_BACKOFF, LONGEST_BACKOFF),
            next_heartbeat: now,
            wanted: None,
            refused: None,
            myself: None,
            untidy: false,
            stays: false,
            interruption: None,
            said_alone: false,
            need: Need::default(),
            out: Vec::new(),
        }
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

    /// The HAProxy hosts that have not been told of a machine that serves.
    pub fn owed(&self) -> Vec<&str> {
        self.repairs.owed()
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

    /// Scale now, whatever the load: the `scale-up` and `scale-down` commands.
    pub fn want(&mut self, wish: Wish, now: Instant) {
        self.wanted = Some(wish);
        self.consider(now);
    }

    /// A master has been greeted on `link`. False: there is a connection to it already, so this
    /// one is of no use.
    pub fn connected(&mut self, link: LinkId, name: &str, now: Instant) -> bool {
        let Some(first) = self.masters.connected(link, name) else {
            return false;
        };
        self.out.extend(first.map(|message| Action::Send(link, message)));
        self.said_alone = false;
        if matches!(self.phase, Phase::Waiting { firm: false, .. }) {
            // It may decide otherwise, as one that was restarted with other settings does.
            self.phase = Phase::Watching;
        }
        self.say(format!("master {name}: connected"));
        if self.settings.ec2 && self.settings.servers.len() > 1 {
            self.repairs.look_at(now + self.settings.repair_delay);
        }
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
        if let Some(wish) = self.is_asking(&name) {
            self.ask_next(wish, now);
        }
    }

    /// A line from the master on `link`.
    pub fn heard(&mut self, link: LinkId, message: FromMaster, now: Instant) {
        let Some(name) = self.masters.name_of(link) else {
            return;
        };
        match message {
            FromMaster::Ping => self.out.push(Action::Send(link, FromNode::Pong)),
            FromMaster::Pong => self.masters.heard_pong(&name),
            FromMaster::Grant {
                lease,
                seconds,
                epoch,
                ..
            } => self.granted(link, &name, lease, seconds, epoch, now),
            FromMaster::Wait { reason, seconds } => self.told_to_wait(&name, reason, seconds, now),
            FromMaster::Scale { node } => {
                self.masters.other_began(&name, node, now);
            }
            FromMaster::Finish { node } => {
                let lasted = self.masters.lease_ended(&name, &node, now);
                if lasted.is_none_or(|lasted| lasted >= MERE_QUESTION) {
                    self.begin_new_windows();
                }
                if matches!(self.phase, Phase::Waiting { firm: false, .. }) {
                    self.phase = Phase::Watching;
                }
            }
            FromMaster::Error(text) => {
                let text = format!("master {name}: {text}");
                self.say(text.clone());
                if self.is_asking(&name).is_some() {
                    self.back_to_waiting(Kind::Unavailable, &text, ANSWER_TIME, now);
                }
            }
            FromMaster::Challenge { .. }
            | FromMaster::Welcome { .. }
            | FromMaster::Node { .. }
            | FromMaster::Lease { .. }
            | FromMaster::Cooldown { .. }
            | FromMaster::Set(_)
            | FromMaster::Fleet { .. }
            | FromMaster::Look
            | FromMaster::Fact(_)
            | FromMaster::End => {}
        }
    }

    /// When [`Node::tick`] has something to do.
    pub fn deadline(&self) -> Instant {
        let phase = match &self.phase {
            Phase::Watching | Phase::Resampling | Phase::Gone => None,
            Phase::Waiting { until, .. } => Some(*until),
            Phase::Asking { since, .. } => Some(*since + ANSWER_TIME),
            Phase::Working { next, .. } => next.as_ref().map(|(at, _)| *at),
        };
        let drain = self.interruption.as_ref().and_then(Interruption::deadline);
        let due = [phase, self.repairs.deadline(), drain];
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
        match &mut self.phase {
            Phase::Waiting { until, .. } if now >= *until => {
                self.phase = Phase::Watching;
                self.consider(now);
            }
            Phase::Asking { asked, since, .. } if now >= *since + ANSWER_TIME => {
                let why = format!("master {asked}: no answer");
                self.say(why.clone());
                self.back_to_waiting(Kind::Unavailable, &why, ANSWER_TIME, now);
            }
            Phase::Working { wish, next, .. } if next.as_ref().is_some_and(|(at, _)| now >= *at) => {
                let (wish, (_, step)) = (*wish, next.take().expect("just looked at"));
                self.work(wish, step, now);
            }
            _ => {}
        }
        self.repair_when_due(now);
        self.drain_when_due(now);
    }

    /// A step that was run is over.
    pub fn finished(&mut self, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::Repaired(result) => self.repaired(result, now),
            Outcome::EnteredLate(machine, told) => self.entered_late(&machine, &told, now),
            Outcome::Drained(machine, told) if self.interruption.is_some() => {
                self.drained_before_the_end(machine, &told);
            }
            Outcome::Departed(machine, result) if self.interruption.is_some() => {
                self.departed_before_the_end(&machine, result);
            }
            outcome => match &self.phase {
                Phase::Working { wish: Wish::Grow, .. } => self.grow(outcome, now),
                Phase::Working {
                    wish: Wish::Shrink, ..
                } => self.shrink(outcome, now),
                _ => {}
            },
        }
    }

    /// Runs the next step at once.
    fn work(&mut self, wish: Wish, step: Step, now: Instant) {
        let irreversible = matches!(
            step,
            Step::Clear { .. }
                | Step::Launch { .. }
                | Step::Terminate { .. }
                | Step::Drain { .. }
                | Step::Depart { .. }
        );
        if irreversible && !self.masters.may_act(now) {
            // A grant ran out or a master came: begin again, with its consent. What has expired
            // must not be taken for a grant on the way.
            self.masters.drop_expired(now);
            self.ask_next(wish, now);
            return;
        }
        self.out.push(Action::Run(step));
    }

    /// Runs `step` again after a pause that grows with each call.
    fn work_later(&mut self, step: Step, now: Instant) {
        if let Phase::Working { next, retry, .. } = &mut self.phase {
            *next = Some((now + retry.failed(), step));
        }
    }

    /// What was measured before a change says nothing about the load after it.
    fn begin_new_windows(&mut self) {
        self.window.clear();
        self.calm.clear();
    }

    fn say(&mut self, text: String) {
        self.out.push(Action::Say(text));
    }
}
