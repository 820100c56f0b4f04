//! A scale-up, step by step: survey → launch → boot → enter.

use std::time::{Duration, Instant};

use super::{Machine, Node, Outcome, Phase, Step, Told};
use crate::core::duration::seconds;
use crate::core::fleet::{self, Plan, Survey};
use crate::core::lease::{ADOPTED, LAUNCHED, Wish};
use crate::error::{Error, Kind};

impl Node {
    /// What came of the step that ran: the next one, or the end.
    pub(super) fn grow(&mut self, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::Surveyed(Ok(survey)) => self.surveyed(&survey, now),
            Outcome::Cleared(Ok(())) => self.work(Wish::Grow, Step::Survey, now),
            Outcome::LaunchedWithout(places, result) => {
                self.shortages.note(places, now);
                self.grow(Outcome::Launched(result), now);
            }
            Outcome::Launched(Ok(machine)) => {
                self.say(format!("launched {}", machine.title()));
                if let Phase::Working { launched, did, .. } = &mut self.phase {
                    *launched = Some(now);
                    *did = format!("{LAUNCHED} {}", machine.title());
                }
                let time = self.settings.fleet.boot_timeout;
                self.work(Wish::Grow, Step::Boot { machine, time }, now);
            }
            Outcome::Booted(machine, Ok(())) => {
                self.say(format!(
                    "{} is healthy at {}:{}",
                    machine.title(),
                    machine.host,
                    machine.port
                ));
                let servers = self.settings.servers.clone();
                self.work(Wish::Grow, Step::Enter { machine, servers }, now);
            }
            Outcome::Booted(machine, Err(error)) => {
                self.say(error.to_string());
                match machine.instance {
                    Some(id) if self.masters.may_act(now) => {
                        if let Phase::Working { sick, .. } = &mut self.phase {
                            *sick = Some(Box::new(error));
                        }
                        self.work(Wish::Grow, Step::Terminate { id }, now)
                    }
                    _ => self.failed(error, now),
                }
            }
            Outcome::Entered(machine, told) => self.entered(machine, &told, now),
            Outcome::Terminated(Ok(())) => {
                if let Phase::Working { sick, .. } = &mut self.phase
                    && let Some(why) = sick.take()
                {
                    self.failed(*why, now);
                }
            }
            Outcome::Surveyed(Err(error))
            | Outcome::Cleared(Err(error))
            | Outcome::Launched(Err(error))
            | Outcome::Terminated(Err(error)) => {
                self.say(error.to_string());
                self.failed(error, now);
            }
            _ => {}
        }
    }

    fn surveyed(&mut self, survey: &Survey, now: Instant) {
        match fleet::plan(survey, &self.settings.fleet) {
            Plan::Launch { fleet } => {
                let over = self
                    .window
                    .mean()
                    .map_or(!self.untidy, |mean| mean >= self.settings.threshold);
                if over || self.wanted.is_some() || self.interruption.is_some() {
                    // With a grant of every master there is, nobody else launches, and the order is
                    // free. Otherwise it must be the one that others begin with, too.
                    let alone = self.masters.granted_count(now) >= self.settings.servers.len();
                    let short = match alone {
                        true => self.shortages.lately(now),
                        false => Vec::new(),
                    };
                    self.work(Wish::Grow, Step::Launch { fleet, short }, now);
                } else {
                    let why = match std::mem::take(&mut self.untidy) {
                        true => "no more to clear up",
                        false => "the load fell before the launch",
                    };
                    self.back_to_waiting(Kind::Busy, why, Duration::ZERO, now);
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
                if let Phase::Working { did, .. } = &mut self.phase {
                    *did = format!("{ADOPTED} {}", instance.id);
                }
                let machine = Machine {
                    instance: Some(instance.id),
                    host: String::new(),
                    port: 0,
                };
                self.work(
                    Wish::Grow,
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
                self.work(Wish::Grow, Step::Clear { ids }, now);
            }
            Plan::Wait { why, wait } => {
                self.say(format!("{why}; asking again in {} s", seconds(wait)));
                self.back_to_waiting(Kind::Busy, &why, wait, now);
            }
        }
    }

    fn entered(&mut self, machine: Machine, told: &Told, now: Instant) {
        let failed = self.say_entered(&machine, told);
        if failed.len() < told.len() {
            self.repairs.owe(machine.clone(), failed, now);
            self.notify("launched", Some(machine), self.need.why.clone());
            self.succeeded(Phase::Watching);
            if let Some(interruption) = &mut self.interruption {
                interruption.replaced();
                self.drain_when_due(now);
            }
            return;
        }
        let boot_timeout = self.settings.fleet.boot_timeout;
        match &mut self.phase {
            Phase::Working { launched, .. } if launched.is_none_or(|at| now < at + boot_timeout) => {
                launched.get_or_insert(now);
                self.work_later(
                    Step::Enter {
                        machine,
                        servers: failed,
                    },
                    now,
                );
            }
            _ => {
                let what = format!("{} serves, but no HAProxy could be told of it", machine.title());
                self.failed(Error::unavailable("scale-up", what), now);
            }
        }
    }

    /// Says how it went, and returns the hosts that failed.
    pub(super) fn say_entered(&mut self, machine: &Machine, told: &Told) -> Vec<String> {
        let mut failed = Vec::new();
        for (server, result) in told {
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
}
