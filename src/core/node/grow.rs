//! A launch, with the lease: survey → how many → does a HAProxy host take them → launch.

use std::time::{Duration, Instant};

use super::{
    Action, Aim, FIRST_BACKOFF, Launched, Machine, Node, Outcome, Phase, Step, Told, Wanted, seconds,
};
use crate::core::plan::{Plan, Wait};
use crate::core::protocol::Reason;
use crate::error::{Error, Kind};

impl Node {
    /// What came of the step that ran: the next one, or the end.
    pub(super) fn grow(&mut self, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::Surveyed(_, Ok(survey)) => {
                let plan = self.go_by(&survey, now);
                let adopted = self.unaccounted(&plan, now);
                match self.how_many(&plan, adopted.len() as u32, now) {
                    Ok(count) => {
                        self.adopt_newcomers(adopted, now);
                        match count {
                            0 => self.on_their_way("took in what boots", 0, now),
                            _ => self.check_before(count, plan.fleet, now),
                        }
                    }
                    Err(Wait { why, wait, full }) => {
                        if !wait.is_zero() {
                            self.say(format!("{why}; asking again in {} s", seconds(wait)));
                        }
                        self.not_now(Kind::Busy, &why, wait, now);
                        if full {
                            self.refused_replacement(Reason::Full);
                        }
                    }
                }
            }
            Outcome::Checked(told) => self.checked(told, now),
            Outcome::Launched(launched) => self.launched(launched, now),
            _ => {}
        }
    }

    /// What boots and no master counts, for its launcher died or never heard that it launched: by hand
    /// such machines are taken in, each for one that was asked for, with the time that each has left.
    fn unaccounted(&self, plan: &Plan, now: Instant) -> Vec<(Machine, Duration)> {
        if !matches!(self.wanted, Some(Wanted::Grow { .. })) {
            return Vec::new();
        }
        let (granted, missing) = self.masters.machines(now);
        let counted = missing.saturating_sub(granted) as usize;
        let unaccounted = plan.booting.len().saturating_sub(counted);
        let taken = plan.booting.iter().take(unaccounted.min(granted as usize));
        taken.cloned().collect()
    }

    /// How many to launch, by what was granted and what the survey found, beside those `adopted`.
    fn how_many(&self, plan: &Plan, adopted: u32, now: Instant) -> Result<u32, Wait> {
        let wait = |why: &str, wait| {
            Err(Wait {
                why: why.into(),
                wait,
                full: false,
            })
        };
        let (granted, missing) = self.masters.machines(now);
        let room = match &plan.room {
            Ok(room) => u32::try_from(*room).unwrap_or(u32::MAX),
            Err(_) if adopted > 0 => 0,
            Err(wait) => return Err(wait.clone()),
        };
        let lacking = plan.lacking as u32;
        if self.wanted.is_some() || self.is_for_an_interruption(Aim::Grow) {
            return match granted {
                0 => wait("the lease was lost before the launch", FIRST_BACKOFF),
                _ => Ok(granted.saturating_sub(adopted).min(room)),
            };
        }
        let by_load = self.is_over();
        if !by_load && lacking == 0 {
            let why = match self.looks.i_serve {
                Some(false) => "this machine is not UP, so its load counts for nothing",
                _ => "the load fell before the launch",
            };
            return wait(why, Duration::ZERO);
        }
        // Some may boot of which the masters do not know: whoever launched them died.
        let missing = missing.saturating_sub(plan.booting.len() as u32);
        let most = if by_load {
            missing.max(lacking)
        } else {
            missing.min(lacking)
        };
        match granted.min(room).min(most) {
            0 => wait("what is missing is on its way", FIRST_BACKOFF),
            count => Ok(count),
        }
    }

    /// Nothing is launched while no HAProxy host could take it.
    pub(super) fn check_before(&mut self, count: u32, fleet: Vec<String>, now: Instant) {
        // With a grant of every master there is, nobody else launches, and the order is free.
        // Otherwise it must be the one that others begin with, too.
        let alone = self.masters.granted_count(now) >= self.settings.servers.len();
        let short = match alone {
            true => self.insufficient_capacity.lately(now),
            false => Vec::new(),
        };
        if let Phase::Working { aim, launch, .. } = &mut self.phase {
            let aim = *aim;
            *launch = Some(Box::new(Step::Launch { count, fleet, short }));
            self.work(aim, Step::Check, now);
        }
    }

    pub(super) fn checked(&mut self, told: Told, now: Instant) {
        let Phase::Working { aim, launch, .. } = &mut self.phase else {
            return;
        };
        let (aim, launch) = (*aim, launch.take());
        let takes = told.iter().any(|(_, result)| result.is_ok());
        let refusals: Vec<Error> = told.into_iter().filter_map(|(_, result)| result.err()).collect();
        for refusal in &refusals {
            self.say(refusal.to_string());
        }
        match (launch, refusals.into_iter().next()) {
            (Some(mut launch), _) if takes => {
                // A grant may have run out since the survey, of a master that is away.
                if let (Aim::Grow, Step::Launch { count, .. }) = (aim, launch.as_mut()) {
                    *count = (*count).min(self.masters.machines(now).0);
                }
                self.work(aim, *launch, now);
            }
            (_, Some(refusal)) => {
                let error = refusal.advise("no HAProxy host could take a machine, so none is launched");
                self.failed(error, now);
            }
            _ => self.failed(
                Error::unavailable("scaling", "there is no HAProxy host to tell"),
                now,
            ),
        }
    }

    pub(super) fn launched(&mut self, launched: Launched, now: Instant) {
        self.insufficient_capacity.note(launched.without, now);
        let count = launched.machines.len() as u32 + launched.unnamed;
        if let Some(error) = &launched.error {
            self.say(error.to_string());
        }
        if count == 0 {
            let error = launched.error;
            let error = error.unwrap_or_else(|| Error::unavailable("scaling", "nothing was launched"));
            return self.failed(error, now);
        }
        let did = match launched.unnamed {
            0 => {
                let titles: Vec<&str> = launched.machines.iter().map(Machine::title).collect();
                format!("launched {}", titles.join(", "))
            }
            unnamed => format!("launched {unnamed} by the group"),
        };
        self.say(did.clone());
        let did = match &self.wanted {
            Some(Wanted::Replace { old, .. }) => format!("{did} for {}", old.title()),
            _ => did,
        };
        self.looks.lacking = 0;
        self.newcomers.expect(
            launched.machines,
            launched.unnamed,
            &self.need.why,
            self.settings.plan.boot_timeout,
            now,
        );
        if launched.unnamed > 0 {
            let fleet = std::mem::take(&mut self.looks.fleet);
            let (count, time) = (launched.unnamed, self.settings.plan.boot_timeout);
            self.out.push(Action::Run(Step::Find { count, fleet, time }));
        }
        self.on_their_way(&did, count, now);
    }

    /// The lease has done its part; a command by hand waits until they serve.
    fn on_their_way(&mut self, did: &str, launched: u32, now: Instant) {
        self.succeeded(did, launched, Phase::Idle);
        if matches!(self.wanted, Some(Wanted::Grow { .. })) {
            self.newcomers.are_awaited();
            self.wanted = None;
        }
        self.newcomers_when_due(now);
    }
}
