//! EC2 takes this machine back. A spot interruption is a fact: this machine asks for its replacement and
//! drains, in good time, even as the last. A rebalance recommendation is a hint: it leaves once its
//! replacement serves, as after a quiet time.

use std::time::{Duration, Instant};

use super::{Action, Aim, Machine, Node, Phase, Step, Told};
use crate::core::protocol::{NOT_NOW, Reason};
use crate::error::Error;

/// From the draining to the end that EC2 has named.
const BEFORE_THE_END: Duration = Duration::from_secs(20);

/// What EC2 has announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warning {
    /// It ends this machine after so long.
    Interruption(Duration),
    /// It may, sooner than others.
    Rebalance,
}

/// A warning that has been heard.
#[derive(Debug)]
pub struct Interruption {
    /// When to drain at the latest; `None`: it is a hint.
    drain_by: Option<Instant>,
    replaced: bool,
    draining: bool,
}

impl Interruption {
    /// What a lease is wanted for.
    pub fn aim(&self) -> Option<Aim> {
        match (self.replaced, self.drain_by) {
            _ if self.draining => None,
            (false, _) => Some(Aim::Grow),
            (true, None) => Some(Aim::Leave),
            (true, Some(_)) => None,
        }
    }

    /// Does EC2 end this machine for certain?
    pub fn is_fact(&self) -> bool {
        self.drain_by.is_some()
    }

    pub fn replaced(&mut self) {
        self.replaced = true;
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.drain_by.filter(|_| !self.draining)
    }
}

impl Node {
    /// EC2 has announced, in the words of `notice`, that it takes this machine back.
    pub fn interrupted(&mut self, warning: Warning, notice: &str, machine: Machine, now: Instant) {
        let drain_by = match warning {
            Warning::Interruption(left) => Some(now + left.saturating_sub(BEFORE_THE_END)),
            Warning::Rebalance => None,
        };
        match &mut self.interruption {
            Some(known) if known.drain_by.is_some() || drain_by.is_none() => return,
            Some(hint) => hint.drain_by = drain_by,
            none => {
                *none = Some(Interruption {
                    drain_by,
                    replaced: false,
                    draining: false,
                });
            }
        }
        let then = match drain_by {
            Some(_) => format!("asking for a replacement, then {} drains itself", machine.title()),
            None => format!(
                "asking for a replacement, {} leaves once that serves",
                machine.title()
            ),
        };
        self.say(format!("{notice}: {then}"));
        self.myself = Some(machine);
        // Its own departure is overtaken by this one.
        let leaving = matches!(
            self.phase,
            Phase::Resampling
                | Phase::Asking { aim: Aim::Leave, .. }
                | Phase::Working { aim: Aim::Leave, .. }
        );
        if leaving && drain_by.is_some() {
            self.masters
                .give_back(false, 0, &format!("{NOT_NOW}{notice}"), &mut self.out);
            self.phase = Phase::Idle;
        }
        let pause = self.pause(Aim::Grow);
        (pause.until, pause.refused) = (None, None);
        self.consider(now);
    }

    /// Is EC2 about to end this machine, which is draining?
    pub(super) fn is_taken_back(&self) -> bool {
        self.interruption.as_ref().is_some_and(|i| i.draining)
    }

    /// A master has said no: at `max_hosts` a mere hint is not followed.
    pub(super) fn refused_replacement(&mut self, reason: Reason) {
        if reason == Reason::Full {
            self.drop_hint("there may be no machine more");
        }
    }

    /// A mere hint is not followed, for `why`; what EC2 takes back for certain is.
    pub(super) fn drop_hint(&mut self, why: &str) {
        if self.interruption.as_ref().is_some_and(|i| i.drain_by.is_none()) {
            self.interruption = None;
            self.say(format!("{why}, so the recommendation is not followed"));
        }
    }

    pub(super) fn drain_when_due(&mut self, now: Instant) {
        let (Some(interruption), Some(machine)) = (&mut self.interruption, &self.myself) else {
            return;
        };
        let due = |by: Instant| interruption.replaced || now >= by;
        if interruption.draining || !interruption.drain_by.is_some_and(due) {
            return;
        }
        interruption.draining = true;
        let drain = self.drain(machine.clone(), true);
        self.out.push(Action::Run(drain));
    }

    pub(super) fn drained_before_the_end(&mut self, machine: Machine, told: &Told) {
        self.say_drained(&machine, told);
        let why = "EC2 takes this machine back".into();
        self.notify("retired", Some(machine.clone()), why);
        let replaced = self.interruption.as_ref().is_some_and(|i| i.replaced);
        if replaced && self.settings.by_group {
            // Its group would replace it once more.
            self.out.push(Action::Run(Step::Depart { machine }));
        } else {
            self.say(format!("{} waits for its end", machine.title()));
        }
    }

    pub(super) fn departed_before_the_end(&mut self, machine: &Machine, result: Result<(), Error>) {
        self.say(match result {
            Ok(()) => format!("{} is terminated", machine.title()),
            Err(error) => format!("{error}; {} waits for its end", machine.title()),
        });
    }
}
