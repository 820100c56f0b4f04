//! A new machine for an old one, by hand: a lease for the launch, none while it boots, and another for
//! the end of the old one once the new one serves.

use std::time::Instant;

use super::{Aim, FIRST_RETRY, Machine, Node, Outcome, Phase, Step, Wanted};
use crate::core::plan::replace::newest;
use crate::core::plan::{Survey, is_machine};
use crate::error::{Error, Kind};

impl Node {
    pub(super) fn replace(&mut self, outcome: Outcome, now: Instant) {
        let Some(Wanted::Replace { old, new }) = self.wanted.clone() else {
            return;
        };
        match outcome {
            Outcome::Surveyed(_, Ok(survey)) => {
                let plan = self.go_by(&survey, now);
                if let Err(error) = self.may_be_replaced(&survey, &old) {
                    return self.not_now(error.kind(), &error.to_string(), FIRST_RETRY, now);
                }
                // One more than there may be is that of a roll that was stopped, which goes on with it.
                let new = match new {
                    None if plan.hosts > self.settings.plan.max_hosts => {
                        if !plan.booting.is_empty() {
                            let why = "there is one machine more than max_hosts, and it boots: run this again \
                                       in a while";
                            return self.not_now(Kind::Busy, why, FIRST_RETRY, now);
                        }
                        newest(&survey, self.settings.plan.port, &old)
                    }
                    new => new,
                };
                if new.is_none() {
                    return self.check_before(1, plan.fleet, now);
                }
                self.wanted = Some(Wanted::Replace {
                    old: old.clone(),
                    new,
                });
                self.work(Aim::Replace, self.drain(old, false), now);
            }
            Outcome::Checked(told) => self.checked(told, now),
            Outcome::Launched(launched) => self.launched(launched, now),
            Outcome::Drained(machine, told) => {
                if let Some(machine) = self.drained(machine, told, now) {
                    let id = machine.instance.unwrap_or_default();
                    self.work(Aim::Replace, Step::Terminate { id }, now);
                }
            }
            Outcome::Terminated(id, Ok(())) => {
                let new = new.as_ref().map_or("-", Machine::title);
                self.say(format!("{id} is terminated, {new} serves for it"));
                self.succeeded(&format!("replaced {id} by {new}"), 0, Phase::Idle);
                self.end(Ok(()));
            }
            Outcome::Terminated(_, Err(error)) => {
                self.return_to_service(old, self.settings.servers.clone());
                self.failed(error, now);
            }
            _ => {}
        }
    }

    /// Is it an instance of the cluster, and not this machine?
    fn may_be_replaced(&self, survey: &Survey, old: &Machine) -> Result<(), Error> {
        let members = survey.members(self.settings.plan.port);
        let member = members.iter().find(|m| is_machine(&m.machine, old));
        match member {
            _ if self.myself.as_ref().is_some_and(|me| is_machine(me, old)) => Err(Error::new(
                Kind::Busy,
                old.title(),
                "is this machine, which ends no other way than by itself; run replace on another",
            )),
            Some(member) if member.may_end() => Ok(()),
            _ => Err(Error::new(
                Kind::Busy,
                old.title(),
                "is no live instance of this cluster",
            )),
        }
    }
}
