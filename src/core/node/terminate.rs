//! A machine that is to go is ended under the lease: one at a time.

use std::time::{Duration, Instant};

use super::{Aim, Node, Outcome, Phase, Step};
use crate::error::Kind;

impl Node {
    /// With the lease: terminates the one machine that the plan names.
    pub(super) fn terminate(&mut self, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::Surveyed(_, Ok(survey)) => {
                let plan = self.go_by(&survey, now);
                match plan.terminate {
                    Some(doomed) => {
                        self.need.why = doomed.why;
                        self.say(format!("terminating {}: {}", doomed.id, self.need.why));
                        self.work(Aim::Terminate, Step::Terminate { id: doomed.id }, now);
                    }
                    None => self.not_now(Kind::Busy, "nothing to clear up any more", Duration::ZERO, now),
                }
            }
            Outcome::Terminated(id, Ok(())) => {
                self.looks.terminated(&id, now);
                self.succeeded(&format!("terminated {id}"), 0, Phase::Idle);
            }
            Outcome::Terminated(id, Err(error)) => {
                self.say(format!("{id}: {error}"));
                self.looks.termination_refused(id, now);
                self.failed(error, now);
            }
            _ => {}
        }
    }
}
