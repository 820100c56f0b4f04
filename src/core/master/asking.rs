//! `SCALE` and `RETIRE`, and what is answered: by the lease (`lease`), and within the limits by how much is
//! missing (`need`) or who would stay (`departure`).

use std::time::{Duration, Instant};

use super::history::Outcome;
use super::lease::{Ask, Lease, PeerId, Refusal, Share, Wish, refuse};
use super::need::{Limits, Need, Picture};
use super::{Master, Output};
use crate::core::protocol::{FromMaster, LONGEST_WAIT, Reason};
use crate::core::text::duration::seconds;

/// When to ask again where a load or an entry may change the answer.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(10);

impl Master {
    /// What is there and what is asked of it, as of now.
    pub fn picture(&self, now: Instant) -> Picture {
        let rules = self.arbiter.rules();
        let fleet = &self.fleet;
        let mean = self
            .loads
            .mean(|node| fleet.down == 0 || !fleet.is_down(node), now);
        Picture {
            serving: fleet.up,
            mean,
            booting: self.arbiter.booting(now),
            restarting: fleet.restarting(now),
            demand: self.demands.now(mean, now),
            threshold: rules.threshold,
            min_hosts: rules.min_hosts,
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
            Need::Booting => return refuse(Reason::Booting, LOOK_AGAIN),
        };
        let rules = self.arbiter.rules();
        let limits = Limits {
            max_step: rules.max_step,
            max_hosts: rules.max_hosts,
            hosts: self.fleet.entries.len() + self.arbiter.booting(now),
            left_today: self.arbiter.left_today(now),
        };
        if let Some(machines) = limits.within(wanted) {
            return Ok(Share { machines, hot });
        }
        let capped = self.arbiter.capped_until(now);
        refuse(Reason::Full, capped.map_or(LOOK_AGAIN, |until| until - now))
    }

    pub(super) fn ask(
        &mut self,
        ask: Ask,
        peer: PeerId,
        node: &str,
        nonce: &str,
        now: Instant,
        out: &mut Vec<Output>,
    ) {
        let epoch_before = self.arbiter.lease().map(|l| l.epoch);
        let salt: String = nonce.chars().take(16).collect();
        let by_load = ask.machines.is_none() && !ask.force;
        let is_down = self.fleet.is_down(node);
        let picture = self.picture(now);
        let share = match ask.wish {
            // Its load says nothing of what is missing.
            Wish::Grow if by_load && is_down => refuse(Reason::Failing, LOOK_AGAIN),
            Wish::Grow => self.growth(ask.machines, &picture, now),
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
                if self.history.add(node, ask.wish, load, Outcome::Refused, why, now) {
                    out.push(Output::Save);
                }
            }
            Ok(lease) if epoch_before != Some(lease.epoch) => {
                let (what, text) = match (ask.wish, lease.share.machines) {
                    (Wish::Leave, _) => ("leave".into(), String::new()),
                    (Wish::Grow, 0) => ("put things right".into(), String::new()),
                    (Wish::Grow, n) if ask.machines.is_some() => (deed(n), "by hand".into()),
                    (Wish::Grow, n) => (deed(n), picture.to_string()),
                };
                let colon = if text.is_empty() { "" } else { ": " };
                let say = format!("{node}: may {what} (epoch {}){colon}{text}", lease.epoch);
                self.history
                    .add(node, ask.wish, load, Outcome::Granted, text, now);
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

/// Adding so many machines.
fn deed(machines: usize) -> String {
    match machines {
        1 => "add a machine".into(),
        n => format!("add {n} machines"),
    }
}
