//! `SCALE` and `RETIRE`: how much is missing, and whether there is room.

use std::time::{Duration, Instant};

use super::lease::{Ask, Lease, PeerId, Refusal, Share, Wish};
use super::loads::Stayers;
use super::need::{Limits, Need, Picture};
use super::{Master, Output};
use crate::core::protocol::{FromMaster, LONGEST_WAIT, Reason};
use crate::core::text::duration::seconds;

/// When to ask again where a load or an entry may change the answer.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// A refusal that may be another one soon.
fn again<T>(reason: Reason) -> Result<T, Refusal> {
    Err(Refusal {
        reason,
        wait: LOOK_AGAIN,
    })
}

impl Master {
    /// What is there and what is asked of it, as of now.
    pub fn picture(&self, now: Instant) -> Picture {
        let rules = self.arbiter.rules();
        let fleet = self.fleet.as_ref().filter(|fleet| fleet.down > 0);
        let down = |node: &str| fleet.is_some_and(|fleet| fleet.is_down(node));
        let mean = self.loads.mean(|node| !down(node), now);
        Picture {
            serving: self.fleet.as_ref().map_or(0, |fleet| fleet.up),
            mean,
            booting: self.arbiter.booting(now),
            restarting: fleet.map_or(0, |fleet| fleet.restarting(now)),
            demand: self.demands.now(mean, now),
            threshold: rules.threshold,
            min_hosts: rules.min_hosts,
        }
    }

    pub(super) fn entries(&self) -> usize {
        self.fleet.as_ref().map_or(0, |fleet| fleet.entries.len())
    }

    fn limits(&self, now: Instant) -> Limits {
        let rules = self.arbiter.rules();
        Limits {
            max_step: rules.max_step,
            max_hosts: rules.max_hosts,
            hosts: self.entries() + self.arbiter.booting(now),
            left_today: self.arbiter.left_today(now),
        }
    }

    /// What a node that asks for `machines`, by hand, or for what is missing, may launch.
    pub(super) fn growth(
        &self,
        machines: Option<usize>,
        picture: &Picture,
        now: Instant,
    ) -> Result<Share, Refusal> {
        let (wanted, hot) = match machines.map_or_else(|| picture.need(), Need::Missing) {
            Need::Missing(machines) => (machines, false),
            Need::OneHot => (1, true),
            Need::Booting => return again(Reason::Booting),
        };
        let machines = self.limits(now).within(wanted).ok_or_else(|| Refusal {
            reason: Reason::Full,
            wait: match self.arbiter.capped_until(now) {
                Some(until) => until - now,
                None => LOOK_AGAIN,
            },
        })?;
        Ok(Share { machines, hot })
    }

    pub(super) fn stayers(&self, now: Instant) -> Stayers<'_> {
        let can = |node: &str| self.fleet.as_ref().is_none_or(|fleet| fleet.may_serve(node));
        let window = self.arbiter.rules().scale_down_window;
        self.loads.stayers(can, window, now)
    }

    /// May `node` leave, and those stay that would?
    pub(super) fn departure(&self, node: &str, stayers: &Stayers, now: Instant) -> Result<Share, Refusal> {
        let rules = self.arbiter.rules();
        let mut others = stayers.without(node);
        let up = self.fleet.as_ref().map_or(0, |fleet| fleet.up);
        let known = self.fleet.as_ref().filter(|fleet| fleet.is_known);
        if let Some(fleet) = known {
            // Of a node whose entry has no id it is not known that HAProxy has it in MAINT.
            others.count = others.count.min(fleet.others_up(node));
        }
        // Where HAProxy says nothing, those who report count.
        let too_few = known.is_none() && others.count < rules.min_hosts;
        if up <= rules.min_hosts || too_few || others.count == 0 {
            return again(Reason::Few);
        }
        let load = self.loads.of(node, now).unwrap_or(0.0);
        match others.have_room(load, rules.threshold) {
            true => Ok(Share::NONE),
            false => again(Reason::Loaded),
        }
    }

    /// May any of those that report?
    pub(super) fn anybodys_departure(&self, now: Instant) -> Result<Share, Refusal> {
        let stayers = self.stayers(now);
        let mut verdict = again(Reason::Few);
        for (node, _) in self.loads.told(now) {
            match self.departure(node, &stayers, now) {
                Err(refusal) if refusal.reason == Reason::Few => {}
                other => verdict = other,
            }
            if verdict.is_ok() {
                break;
            }
        }
        verdict
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn ask(
        &mut self,
        ask: Ask,
        machines: Option<usize>,
        peer: PeerId,
        node: &str,
        nonce: &str,
        now: Instant,
        out: &mut Vec<Output>,
    ) {
        let epoch_before = self.arbiter.lease().map(|l| l.epoch);
        let salt: String = nonce.chars().take(16).collect();
        let by_load = machines.is_none() && !ask.force;
        let is_down = self.fleet.as_ref().is_some_and(|fleet| fleet.is_down(node));
        let picture = self.picture(now);
        let share = match ask.wish {
            // Its load says nothing of what is missing.
            Wish::Grow if by_load && is_down => again(Reason::Failing),
            Wish::Grow => self.growth(machines, &picture, now),
            Wish::Leave => self.departure(node, &self.stayers(now), now),
        };
        let verdict = self.arbiter.ask(ask, share, node, peer, &salt, now).cloned();
        let load = self.loads.of(node, now);
        if ask.wish == Wish::Grow && by_load && !is_down {
            let reason = verdict.as_ref().err().map(|refusal| refusal.reason);
            self.progress.answered(reason, now);
        }
        match &verdict {
            Err(refusal) => {
                self.history.waits(ask.wish, refusal.reason);
                let why = self.why(refusal, ask.wish, now);
                self.answer(peer, verdict, out);
                if self.history.refused(node, ask.wish, load, why, now) {
                    out.push(Output::Save);
                }
            }
            Ok(lease) if epoch_before != Some(lease.epoch) => {
                let (what, text) = match (ask.wish, lease.share.machines) {
                    (Wish::Leave, _) => ("leave".into(), String::new()),
                    (Wish::Grow, 0) => ("put things right".into(), String::new()),
                    (Wish::Grow, n) if machines.is_some() => (deed(n), "by hand".into()),
                    (Wish::Grow, n) => (deed(n), picture.to_string()),
                };
                let colon = if text.is_empty() { "" } else { ": " };
                let say = format!("{node}: may {what} (epoch {}){colon}{text}", lease.epoch);
                self.history.granted(node, ask.wish, load, text, now);
                // The holder first, and the disk, which may take long, last: after a power cut in
                // between, the holder can still HOLD, and its epoch is not given again.
                out.push(Output::Note);
                self.answer(peer, verdict, out);
                let message = FromMaster::Scale { node: node.into() };
                let except = Some(peer);
                out.extend([Output::Tell { except, message }, Output::Save, Output::Say(say)]);
            }
            Ok(_) => self.answer(peer, verdict, out),
        }
    }

    pub(super) fn answer(&self, peer: PeerId, verdict: Result<Lease, Refusal>, out: &mut Vec<Output>) {
        out.push(Output::Send(
            peer,
            match verdict {
                Ok(lease) => FromMaster::Grant {
                    lease: lease.id,
                    seconds: seconds(self.arbiter.rules().lease),
                    epoch: lease.epoch,
                    machines: lease.share.machines.try_into().unwrap_or(u32::MAX),
                },
                Err(refusal) => FromMaster::Wait {
                    reason: refusal.reason,
                    seconds: seconds(refusal.wait.min(LONGEST_WAIT)).max(1),
                },
            },
        ));
    }

    /// Said when a lease to grow ends: it would not have been granted had it been so before.
    pub(super) fn say_if_capped(&self, wish: Wish, now: Instant, out: &mut Vec<Output>) {
        if let Some(until) = self.arbiter.capped_until(now).filter(|_| wish == Wish::Grow) {
            let wait = seconds(until.saturating_duration_since(now));
            let text = format!("max_launches_per_day is reached: no scale-up for {wait} s");
            out.push(Output::Say(text));
        }
    }
}

/// `SCALE` with a number is by hand; with 0 it asks for no machine.
pub(super) fn growing(machines: Option<u32>, force: bool) -> (Ask, Option<usize>) {
    let ask = Ask {
        wish: Wish::Grow,
        force,
        repair: machines == Some(0),
    };
    (ask, machines.map(|n| n as usize))
}

/// Adding so many machines.
fn deed(machines: usize) -> String {
    match machines {
        1 => "add a machine".into(),
        n => format!("add {n} machines"),
    }
}
