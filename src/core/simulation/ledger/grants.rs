//! What a new lease has to be.

use std::time::Instant;

use super::{Asked, Held, LONGEST, Ledger};
use crate::core::haproxy::listing::Listed;
use crate::core::haproxy::state::State;
use crate::core::master::lease::{Lease, PeerId, Wish};

impl Ledger {
    /// # Errors
    /// What is wrong with it.
    pub(super) fn granted(
        &mut self,
        lease: &Lease,
        asked: &Asked,
        peer: PeerId,
        now: Instant,
    ) -> Result<(), String> {
        let machines = lease.share.machines;
        let (after, failing) = match asked.wish {
            Wish::Grow => (self.grow_after, self.launching),
            Wish::Leave => (self.leave_after, self.leaving),
        };
        self.booting.retain(|(until, _)| *until > now);
        let hosts = self.entries.len() + self.booting.len();
        let today = self.launches.len() + machines;
        let own = lease.node.split('/').nth(1);
        let theirs = |l: &&Listed| l.state == State::Up && l.instance.as_deref() != own;
        let known = self.entries.iter().any(|l| l.state != State::Unknown);
        let others = self.entries.iter().filter(theirs).count();
        let wrong = if lease.node != asked.node || lease.wish != asked.wish {
            "to somebody else, or for something else, than was asked"
        } else if now < self.starting_until {
            "by a master that has just started"
        } else if lease.epoch <= self.last_epoch && !self.forgot {
            "with an epoch that was there before"
        } else if asked.repair && machines > 0 {
            "with machines, and none was asked for"
        } else if asked.repair {
            ""
        } else if now < failing.until {
            "during the back-off"
        } else if now < after && !asked.force {
            "during the cooldown"
        } else if asked.wish == Wish::Grow && machines == 0 {
            "with no machine"
        } else if asked.machines.is_some_and(|asked| machines > asked) {
            "with more machines than were asked for"
        } else if machines > 0 && hosts + machines > self.rules.max_hosts {
            "beyond max_hosts"
        } else if machines > self.rules.max_step && self.rules.max_step > 0 {
            "beyond max_step"
        } else if machines > 0
            && today > self.rules.max_launches_per_day
            && self.rules.max_launches_per_day > 0
        {
            "beyond max_launches_per_day"
        } else if asked.wish == Wish::Leave && Ledger::up(&self.entries) <= self.rules.min_hosts {
            "with no more than min_hosts that serve"
        } else if asked.wish == Wish::Leave && known && others == 0 {
            "with nobody else UP"
        } else {
            ""
        };
        if !wrong.is_empty() {
            return Err(format!("{} is granted {wrong}", lease.id));
        }
        self.last_epoch = lease.epoch;
        self.known_epoch = lease.epoch;
        self.saved = false;
        self.held = Some(Held {
            id: lease.id.clone(),
            node: lease.node.clone(),
            wish: asked.wish,
            epoch: lease.epoch,
            peer: Some(peer),
            expires: now + self.rules.lease,
            last: now + LONGEST,
        });
        Ok(())
    }
}
