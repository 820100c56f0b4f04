//! This machine's departure: re-sample → identify → survey → drain → end. What is refused puts it back
//! into service.

use std::time::{Duration, Instant};

use super::{Action, Aim, FIRST_RETRY, LONGEST_RETRY, Machine, Node, Outcome, Phase, Purpose, Step, Told};
use crate::core::{backoff, plan};
use crate::error::{Error, Kind};

/// Machines may have come by then.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How often a machine that is drained is tried to be terminated.
const TRIES: u32 = 3;

impl Node {
    /// The sample after the last grant.
    pub(super) fn resampled(&mut self, percent: f64, now: Instant) {
        if percent <= self.settings.scale_down_threshold {
            self.begin(Aim::Leave);
        } else {
            self.stay_for_now("the load rose before leaving", Duration::ZERO, now);
        }
    }

    /// What came of the step that ran: the next one, or the end.
    pub(super) fn leave(&mut self, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::Identified(Ok(machine)) => {
                self.myself = Some(machine);
                self.survey(Purpose::Lease);
            }
            Outcome::Identified(Err(error)) => {
                self.say(error.to_string());
                match error.kind() {
                    // Nothing went wrong that more waiting would mend.
                    Kind::Config => {
                        self.stays = true;
                        self.not_now(Kind::Config, &error.to_string(), Duration::ZERO, now);
                    }
                    // A person keeps it, or its group is as small as it may be, for now.
                    Kind::Busy => {
                        self.stay_for_now(&error.to_string(), LOOK_AGAIN, now);
                        self.drop_hint("this machine may not leave");
                    }
                    _ => self.failed(error, now),
                }
            }
            Outcome::Surveyed(_, Ok(survey)) => {
                let Some(machine) = self.myself.clone() else {
                    return;
                };
                self.go_by(&survey, now);
                match plan::may_leave(&survey, &self.settings.plan, &machine) {
                    Ok(()) => {}
                    Err(why) if why.kind() == Kind::Busy => {
                        return self.stay_for_now(why.cause(), LOOK_AGAIN, now);
                    }
                    // A host that hangs holds the lease for as long as it is asked: it is backed off from.
                    Err(error) => return self.failed(error, now),
                }
                self.say(format!("{} leaves: draining it in HAProxy", machine.title()));
                self.work(Aim::Leave, self.drain(machine, false), now);
            }
            Outcome::Drained(machine, told) => {
                if let Some(machine) = self.drained(machine, told, now) {
                    self.depart(machine, now);
                }
            }
            Outcome::Departed(machine, Ok(())) => {
                let did = format!("{} is terminated", machine.title());
                self.say(did.clone());
                self.succeeded(&did, 0, Phase::Gone);
                self.end(Ok(()));
            }
            Outcome::Departed(machine, Err(error)) => {
                self.say(error.to_string());
                let may_act = self.masters.may_act(now);
                if let Phase::Working { next, tries, .. } = &mut self.phase
                    && may_act
                    && *tries + 1 < TRIES
                {
                    *tries += 1;
                    let wait = backoff::wait(FIRST_RETRY, *tries, LONGEST_RETRY);
                    *next = Some((now + wait, Box::new(Step::Depart { machine })));
                } else {
                    self.return_to_service(machine, self.settings.servers.clone());
                    self.failed(error, now);
                }
            }
            _ => {}
        }
    }

    /// The end of this machine, which is drained.
    fn depart(&mut self, machine: Machine, now: Instant) {
        if !self.masters.may_act(now) {
            self.return_to_service(machine, self.settings.servers.clone());
            let error = Error::busy("scale-down", "the lease ran out while draining");
            return self.failed(error, now);
        }
        // Now, for it ends with what comes next.
        self.notify("retired", Some(machine.clone()), self.need.why.clone());
        self.work(Aim::Leave, Step::Depart { machine }, now);
    }

    /// Not now, and not before this machine was calm for a whole window again.
    fn stay_for_now(&mut self, why: &str, wait: Duration, now: Instant) {
        self.not_now(Kind::Busy, why, wait, now);
        self.calm.clear();
    }

    /// Out of every HAProxy: the step that comes before an end.
    pub(super) fn drain(&self, machine: Machine, force: bool) -> Step {
        let servers = self.settings.servers.clone();
        Step::Drain {
            machine,
            servers,
            force,
        }
    }

    /// The machine, if it is out of every HAProxy, as `told` says. Otherwise it goes back into service, and
    /// that was a failure.
    pub(super) fn drained(&mut self, machine: Machine, told: Told, now: Instant) -> Option<Machine> {
        self.say_drained(&machine, &told);
        let Some(error) = told.iter().find_map(|(_, result)| result.as_ref().err()).cloned() else {
            return Some(machine);
        };
        let out = told.into_iter().filter(|(_, result)| result.is_ok());
        self.return_to_service(machine, out.map(|(server, _)| server).collect());
        self.failed(error, now);
        None
    }

    /// Enters a machine again that was drained in vain.
    pub(super) fn return_to_service(&mut self, machine: Machine, servers: Vec<String>) {
        if !servers.is_empty() {
            self.say(format!("{} goes back into service", machine.title()));
            self.out.push(Action::Run(Step::Enter {
                machine,
                servers,
                by_plan: false,
            }));
        }
    }

    /// Says how it went.
    pub(super) fn say_drained(&mut self, machine: &Machine, told: &Told) {
        for (server, result) in told {
            self.say(match result {
                Ok(()) => format!("{} is out of HAProxy on {server}", machine.title()),
                Err(error) => error.to_string(),
            });
        }
    }
}
