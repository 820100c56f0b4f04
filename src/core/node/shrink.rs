//! A scale-down, step by step: re-sample → identify → survey → drain → depart. A node that dies
//! half way leaves a machine that no HAProxy lists, which the next holder terminates.

use std::time::{Duration, Instant};

use super::{Machine, Node, Outcome, Phase, Step, Told};
use crate::core::fleet;
use crate::core::lease::Wish;
use crate::error::{Error, Kind};

/// Machines may have come by then.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

impl Node {
    /// The sample after the last grant.
    pub(super) fn resampled(&mut self, percent: f64, now: Instant) {
        if percent <= self.settings.scale_down_threshold {
            self.begin(Wish::Shrink);
        } else {
            self.back_to_waiting(Kind::Busy, "the load rose before leaving", Duration::ZERO, now);
            self.calm.clear();
        }
    }

    /// What came of the step that ran: the next one, or the end.
    pub(super) fn shrink(&mut self, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::Identified(Ok(machine)) => {
                self.myself = Some(machine.clone());
                match self.settings.ec2 {
                    true => self.work(Wish::Shrink, Step::Survey, now),
                    false => self.drain(machine, now),
                }
            }
            Outcome::Identified(Err(error)) => {
                self.say(error.to_string());
                match error.kind() {
                    // Nothing went wrong that more waiting would mend.
                    Kind::Config => {
                        self.stays = true;
                        self.masters.give_back(false, &error.to_string(), &mut self.out);
                        self.phase = Phase::Watching;
                        self.end(Err(error));
                    }
                    // Its group is as small as it may be, for now.
                    Kind::Busy => {
                        self.back_to_waiting(Kind::Busy, &error.to_string(), Duration::ZERO, now);
                        self.calm.clear();
                    }
                    _ => self.failed(error, now),
                }
            }
            Outcome::Surveyed(Ok(survey)) => {
                let Some(machine) = self.myself.clone() else {
                    return;
                };
                let mut ids = fleet::leftovers(&survey, &self.settings.fleet);
                ids.retain(|id| Some(id) != machine.instance.as_ref());
                if ids.is_empty() && fleet::is_needed(&machine, &survey, &self.settings.fleet) {
                    let why = "no more than min_hosts would be left to serve";
                    self.back_to_waiting(Kind::Busy, why, LOOK_AGAIN, now);
                    self.calm.clear();
                } else if ids.is_empty() {
                    self.drain(machine, now);
                } else {
                    self.say(format!(
                        "never came into service, terminating: {}",
                        ids.join(", ")
                    ));
                    self.work(Wish::Shrink, Step::Clear { ids }, now);
                }
            }
            Outcome::Cleared(Ok(())) => self.work(Wish::Shrink, Step::Survey, now),
            Outcome::Drained(machine, told) => self.drained(machine, &told, now),
            Outcome::Departed(machine, Ok(())) => {
                self.say(format!("{} is terminated", machine.title()));
                self.succeeded(Phase::Gone);
            }
            Outcome::Departed(machine, Err(error)) => {
                self.say(error.to_string());
                match self.masters.may_act(now) {
                    true => self.work_later(Step::Depart { machine }, now),
                    false => self.failed(error, now),
                }
            }
            Outcome::Surveyed(Err(error)) | Outcome::Cleared(Err(error)) => {
                self.say(error.to_string());
                self.failed(error, now);
            }
            _ => {}
        }
    }

    fn drain(&mut self, machine: Machine, now: Instant) {
        self.say(format!("{} leaves: draining it in HAProxy", machine.title()));
        let servers = self.settings.servers.clone();
        self.work(Wish::Shrink, Step::Drain { machine, servers }, now);
    }

    fn drained(&mut self, machine: Machine, told: &Told, now: Instant) {
        if self.say_drained(&machine, told) {
            // Now, for it ends with what comes next.
            self.notify("retired", Some(machine.clone()), self.need.why.clone());
            self.work(Wish::Shrink, Step::Depart { machine }, now);
        } else {
            let why = told.iter().find_map(|(_, result)| result.as_ref().err());
            let why = why.map_or(String::new(), |error| format!(": {error}"));
            let cause = format!("no HAProxy could be told to drain this machine{why}");
            self.failed(Error::unavailable("scale-down", cause), now);
        }
    }

    /// Says how it went; is it out of one HAProxy at least?
    pub(super) fn say_drained(&mut self, machine: &Machine, told: &Told) -> bool {
        for (server, result) in told {
            self.say(match result {
                Ok(()) => format!("{} is out of HAProxy on {server}", machine.title()),
                Err(error) => error.to_string(),
            });
        }
        told.iter().any(|(_, result)| result.is_ok())
    }
}
