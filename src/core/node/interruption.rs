//! EC2 takes this machine back: ask for its replacement, then drain, in good time.

use std::time::{Duration, Instant};

use super::{Action, Machine, Node, Step, Told};
use crate::error::Error;

/// From the notice to the draining at the latest. EC2 gives two minutes; half of them are for a
/// replacement that boots, the other half for requests that have begun.
const UNTIL_DRAIN: Duration = Duration::from_secs(60);

/// A notice that has been heard.
#[derive(Debug)]
pub struct Interruption {
    drain_by: Instant,
    replaced: bool,
    draining: bool,
}

impl Interruption {
    /// Is a machine to be added in place of this one?
    pub fn wants_replacement(&self) -> bool {
        !self.replaced
    }

    pub fn replaced(&mut self) {
        self.replaced = true;
    }

    pub fn deadline(&self) -> Option<Instant> {
        (!self.draining).then_some(self.drain_by)
    }
}

impl Node {
    /// EC2 has announced, in the words of `notice`, that it takes this machine back. What ends it
    /// in the end is EC2, or the next holder, who finds that no HAProxy lists it.
    pub fn interrupted(&mut self, notice: &str, machine: Machine, now: Instant) {
        if self.interruption.is_some() {
            return;
        }
        self.say(format!(
            "{notice}: asking for a replacement, then {} drains itself",
            machine.title()
        ));
        self.myself = Some(machine);
        self.interruption = Some(Interruption {
            drain_by: now + UNTIL_DRAIN,
            replaced: false,
            draining: false,
        });
        self.consider(now);
    }

    pub(super) fn drain_when_due(&mut self, now: Instant) {
        let (Some(interruption), Some(machine)) = (&mut self.interruption, &self.myself) else {
            return;
        };
        if interruption.draining || !(interruption.replaced || now >= interruption.drain_by) {
            return;
        }
        interruption.draining = true;
        let servers = self.settings.servers.clone();
        self.out.push(Action::Run(Step::Drain {
            machine: machine.clone(),
            servers,
        }));
    }

    pub(super) fn drained_before_the_end(&mut self, machine: Machine, told: &Told) {
        let drained = self.say_drained(&machine, told);
        let why = "EC2 takes this machine back".into();
        self.notify("retired", Some(machine.clone()), why);
        let replaced = self.interruption.as_ref().is_some_and(|i| i.replaced);
        if drained && replaced && self.settings.fleet.by_group {
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
