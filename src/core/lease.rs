//! The lease: at most one node per master may change the cluster at a time.
//!
//! All times are the caller's; nothing here reads a clock.

mod saved;

use std::time::{Duration, Instant};

use super::protocol::Reason;

/// When to ask again after `full`: loads and `hosts.d` may have changed by then.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How many grants may have gone unsaved before a restart: the last one, which is told before it
/// is on the disk, and more where the disk was full. The next grant's epoch leaves room for them. Without a
/// limit, a made-up lease could push the epoch to the end of its range.
const MOST_UNSAVED: u64 = 1000;
/// How long a launch counts for `max_launches_per_day`.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How the text of a `FINISH` begins when a machine was launched under the lease, whatever came of
/// it, and when one was entered that had been launched before.
pub const LAUNCHED: &str = "launched";
pub const ADOPTED: &str = "adopted";

/// Does a `FINISH` tell of a launch?
pub fn is_launch(wish: Wish, ok: bool, text: &str) -> bool {
    wish == Wish::Grow
        && match ok {
            true => !text.starts_with(ADOPTED),
            false => text.starts_with(LAUNCHED),
        }
}

/// What the name of a lease begins with; 0 where that is no epoch.
fn epoch_of(id: &str) -> u64 {
    id.split('-').next().and_then(|e| e.parse().ok()).unwrap_or(0)
}

/// One connection to this master, numbered by whoever accepted it.
pub type PeerId = u64;

/// What a node asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// `SCALE`: add a machine.
    Grow,
    /// `RETIRE`: leave.
    Shrink,
}

/// The settings that decide, from the INI.
#[derive(Debug, Clone)]
pub struct Rules {
    pub lease: Duration,
    pub cooldown: Duration,
    pub scale_down_cooldown: Duration,
    pub max_hosts: usize,
    /// 0: no limit.
    pub max_launches_per_day: usize,
    pub min_hosts: usize,
    /// Percent: a node may leave if no other one comes over this with its share of the leaving
    /// one's load.
    pub room: f64,
}

/// The lease as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub id: String,
    pub node: String,
    pub epoch: u64,
    pub wish: Wish,
    pub expires: Instant,
    /// The connection that may renew it: the one that it was granted on or that said `HOLD`
    /// last. A daemon that died and was started again is another connection, so its `LOAD`
    /// doesn't keep the dead one's lease alive.
    bearer: Option<PeerId>,
}

/// What must survive a restart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Saved {
    pub epoch: u64,
    /// What is left of each cooldown.
    pub grow_cooldown: Duration,
    pub shrink_cooldown: Duration,
    /// For how long each launch still counts, the oldest first.
    pub launches: Vec<Duration>,
    /// The lease that was held: its id, its node and its wish.
    pub held: Option<(String, String, Wish)>,
}

/// A refusal: why, and how long to wait before asking again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    pub wait: Duration,
}

/// Decides who may scale.
#[derive(Debug)]
pub struct Arbiter {
    rules: Rules,
    epoch: u64,
    /// How many epochs the next grant skips.
    gap: u64,
    lease: Option<Lease>,
    grow_after: Instant,
    shrink_after: Instant,
    /// Until when each launch counts, the oldest first; no more of them than can matter.
    launches: Vec<Instant>,
    starting_until: Instant,
}

impl Arbiter {
    /// An arbiter that starts at `now` with what the last one left, `None` where no master ran
    /// before. A restarted one grants nothing for one lease, in which a holder may come back.
    pub fn new(rules: Rules, saved: Option<Saved>, now: Instant) -> Arbiter {
        let starting_until = if saved.is_some() { now + rules.lease } else { now };
        let gap = if saved.is_some() { MOST_UNSAVED } else { 0 };
        let saved = saved.unwrap_or_default();
        Arbiter {
            // There is always a next one.
            epoch: saved.epoch.min(u64::MAX / 2),
            gap,
            lease: saved.held.map(|(id, node, wish)| Lease {
                id,
                node,
                epoch: saved.epoch,
                wish,
                expires: now + rules.lease,
                bearer: None,
            }),
            // A clock that jumped between the two runs must not block for longer than a cooldown.
            grow_after: now + saved.grow_cooldown.min(rules.cooldown),
            shrink_after: now
                + saved
                    .shrink_cooldown
                    .min(rules.cooldown.max(rules.scale_down_cooldown)),
            launches: saved.launches.iter().map(|left| now + DAY.min(*left)).collect(),
            starting_until,
            rules,
        }
    }

    /// What to write to disk as of `now`.
    pub fn save(&self, now: Instant) -> Saved {
        Saved {
            epoch: self.epoch,
            grow_cooldown: self.grow_after.saturating_duration_since(now),
            shrink_cooldown: self.shrink_after.saturating_duration_since(now),
            launches: self
                .launches
                .iter()
                .map(|until| until.saturating_duration_since(now))
                .collect(),
            held: self
                .lease
                .as_ref()
                .map(|l| (l.id.clone(), l.node.clone(), l.wish)),
        }
    }

    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// What is left of the cooldown after a scale-up; zero when there is none.
    pub fn cooldown_left(&self, now: Instant) -> Duration {
        self.grow_after.saturating_duration_since(now)
    }

    /// A machine was launched, or may have been.
    pub fn launched(&mut self, now: Instant) {
        self.launches.push(now + DAY);
        let most = self.rules.max_launches_per_day;
        self.launches.drain(..self.launches.len().saturating_sub(most));
    }

    /// Until when `max_launches_per_day` forbids another launch.
    pub fn capped_until(&self, now: Instant) -> Option<Instant> {
        let most = self.rules.max_launches_per_day;
        let over = self.launches.len().checked_sub(most)?;
        self.launches.get(over).filter(|until| **until > now).copied()
    }

    /// `SCALE` or `RETIRE` from `node` over `peer`. `full`: there are as many machines as there may
    /// be, or as few. `salt` makes the new lease's name one that nobody else can guess.
    pub fn ask(
        &mut self,
        wish: Wish,
        node: &str,
        peer: PeerId,
        full: bool,
        salt: &str,
        now: Instant,
    ) -> Result<&Lease, Refusal> {
        if let Some(refusal) = self.refusal(wish, peer, full, now) {
            return Err(refusal);
        }
        if self.lease.is_none() {
            self.epoch += 1 + std::mem::take(&mut self.gap);
            self.lease = Some(Lease {
                id: format!("{}-{salt}", self.epoch),
                node: node.into(),
                epoch: self.epoch,
                wish,
                expires: now + self.rules.lease,
                bearer: Some(peer),
            });
        }
        Ok(self.lease.as_ref().expect("it was there or has just been made"))
    }

    /// What `peer` would be refused for.
    pub fn refusal(&self, wish: Wish, peer: PeerId, full: bool, now: Instant) -> Option<Refusal> {
        let refuse = |reason, until: Instant| {
            Some(Refusal {
                reason,
                wait: until.saturating_duration_since(now),
            })
        };
        let after = match wish {
            Wish::Grow => self.grow_after,
            Wish::Shrink => self.shrink_after,
        };
        if now < self.starting_until {
            return refuse(Reason::Starting, self.starting_until);
        }
        match &self.lease {
            // Asked twice by its holder: it has it.
            Some(lease) if lease.bearer == Some(peer) && lease.wish == wish => return None,
            Some(lease) => return refuse(Reason::Holder, lease.expires),
            None => {}
        }
        if now < after {
            return refuse(Reason::Cooldown, after);
        }
        if wish == Wish::Grow
            && let Some(until) = self.capped_until(now)
        {
            return refuse(Reason::Full, until);
        }
        if full {
            return refuse(Reason::Full, now + LOOK_AGAIN);
        }
        None
    }

    /// `LOAD` over `peer`: renews the lease if it is the bearer's.
    pub fn renew(&mut self, peer: PeerId, now: Instant) {
        if let Some(lease) = &mut self.lease
            && lease.bearer == Some(peer)
        {
            lease.expires = now + self.rules.lease;
        }
    }

    /// `HOLD` from `node` over a new connection.
    ///
    /// A restarted master may not know it, because it could not be saved: then, and while nobody
    /// else has one, a lease with a later epoch than any known stands.
    pub fn hold(&mut self, id: &str, node: &str, peer: PeerId, now: Instant) -> Result<&Lease, Refusal> {
        let known = matches!(&self.lease, Some(lease) if lease.id == id && lease.node == node);
        let epoch = epoch_of(id);
        let unsaved =
            now < self.starting_until && (self.epoch + 1..=self.epoch + MOST_UNSAVED).contains(&epoch);
        if !known && self.lease.is_none() && unsaved {
            self.epoch = epoch;
            self.lease = Some(Lease {
                id: id.into(),
                node: node.into(),
                epoch,
                wish: Wish::Grow,
                expires: now,
                bearer: None,
            });
        } else if !known {
            let wait = self
                .lease
                .as_ref()
                .map_or(now, |l| l.expires)
                .saturating_duration_since(now);
            return Err(Refusal {
                reason: Reason::Holder,
                wait: wait.max(Duration::from_secs(1)),
            });
        }
        let lease = self.lease.as_mut().expect("known or just made");
        lease.bearer = Some(peer);
        lease.expires = now + self.rules.lease;
        Ok(lease)
    }

    /// `FINISH`: ends the lease, and after `ok` begins the cooldown. Returns the lease that ended,
    /// or `None` where `node` doesn't hold a lease called `id`.
    pub fn finish(&mut self, id: &str, node: &str, ok: bool, now: Instant) -> Option<Lease> {
        let lease = self.lease.take_if(|lease| lease.id == id && lease.node == node)?;
        if ok {
            self.grow_after = now + self.rules.cooldown;
            self.shrink_after = match lease.wish {
                Wish::Grow => now + self.rules.cooldown.max(self.rules.scale_down_cooldown),
                Wish::Shrink => now + self.rules.scale_down_cooldown,
            };
        }
        Some(lease)
    }

    /// Ends a lease whose time is over and returns it. Its node may well have launched, or left,
    /// without the time to say so: then that counts as a launch, or nobody else leaves for a while.
    pub fn expire(&mut self, now: Instant) -> Option<Lease> {
        let lease = self.lease.take_if(|lease| lease.expires <= now)?;
        match lease.wish {
            Wish::Grow => self.launched(now),
            Wish::Shrink => self.shrink_after = now + self.rules.scale_down_cooldown,
        }
        Some(lease)
    }
}

#[cfg(test)]
mod tests;
