//! What HAProxy hosts missed while they could not be reached.

use std::time::{Duration, Instant};

use super::{Action, FIRST_RETRY, LONGEST_RETRY, Machine, Node, Phase, Step, Told};
use crate::core::backoff::Backoff;
use crate::core::fleet::{self, Survey};
use crate::error::Error;

/// From a failure, or while a HAProxy host's master is not connected, to the next look.
pub const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// A machine that serves but is not in every HAProxy yet.
#[derive(Debug)]
struct Owed {
    machine: Machine,
    servers: Vec<String>,
    /// `None` while it is tried.
    next: Option<Instant>,
    retry: Backoff,
}

/// What is left to do.
#[derive(Debug, Default)]
pub struct Repairs {
    owed: Vec<Owed>,
    /// When to compare the hosts with each other.
    look: Option<Instant>,
    looking: bool,
}

impl Repairs {
    /// These hosts have not been told of `machine` yet.
    pub fn owe(&mut self, machine: Machine, servers: Vec<String>, now: Instant) {
        if !servers.is_empty() {
            let mut retry = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
            let next = Some(now + retry.failed());
            self.owed.push(Owed {
                machine,
                servers,
                next,
                retry,
            });
        }
    }

    pub fn owed(&self) -> Vec<&str> {
        self.owed
            .iter()
            .flat_map(|owed| owed.servers.iter().map(String::as_str))
            .collect()
    }

    /// Compare the hosts at `when`, or earlier if that is planned.
    pub fn look_at(&mut self, when: Instant) {
        self.look = Some(self.look.map_or(when, |planned| planned.min(when)));
    }

    pub fn deadline(&self) -> Option<Instant> {
        let look = self.look.filter(|_| !self.looking);
        self.owed.iter().filter_map(|owed| owed.next).chain(look).min()
    }
}

impl Node {
    pub(super) fn repair_when_due(&mut self, now: Instant) {
        for owed in &mut self.repairs.owed {
            if owed.next.take_if(|at| now >= *at).is_some() {
                self.out.push(Action::Run(Step::EnterLate {
                    machine: owed.machine.clone(),
                    servers: owed.servers.clone(),
                }));
            }
        }
        if self.repairs.looking || self.repairs.look.is_none_or(|at| now < at) {
            return;
        }
        // While somebody changes the cluster, the hosts differ for a good reason.
        let idle = matches!(self.phase, Phase::Watching | Phase::Waiting { .. });
        if !idle || self.masters.other_is_at_it() || !self.has_master() {
            self.repairs.look = Some(now + self.settings.repair_delay.max(FIRST_RETRY));
            return;
        }
        let someone_is_away = self.masters.connected_count() < self.settings.servers.len();
        let pause = match someone_is_away {
            true => LOOK_AGAIN + self.settings.repair_delay,
            false => self.settings.look_interval,
        };
        self.repairs.look = Some(now + pause);
        self.repairs.looking = true;
        self.out.push(Action::Run(Step::Repair));
    }

    pub(super) fn repaired(&mut self, result: Result<(Survey, Vec<String>), Error>, now: Instant) {
        self.repairs.looking = false;
        let (survey, said) = match result {
            Ok(done) => done,
            Err(error) => return self.say(error.to_string()),
        };
        for line in said {
            self.say(line);
        }
        let left = fleet::leftovers(&survey, &self.settings.fleet);
        if !left.is_empty() {
            self.say(format!(
                "not in any HAProxy, to be terminated: {}",
                left.join(", ")
            ));
            self.untidy = true;
            self.consider(now);
        }
    }

    /// A HAProxy that did not answer at first has been tried again.
    pub(super) fn entered_late(&mut self, machine: &Machine, told: &Told, now: Instant) {
        let failed = self.say_entered(machine, told);
        self.repairs.owed.retain_mut(|owed| {
            if owed.machine == *machine {
                owed.servers.clone_from(&failed);
                owed.next = Some(now + owed.retry.failed());
            }
            !owed.servers.is_empty()
        });
    }
}
