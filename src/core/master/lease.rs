//! The lease: at most one node per master may change the cluster at a time. Whether it is granted: `ask`.
//!
//! All times are the caller's; nothing here reads a clock.

mod ask;
mod backoff;
mod booting;
mod launches;
mod saved;

use std::time::{Duration, Instant};

use crate::core::protocol::{NOT_NOW, Reason};
pub(super) use ask::refuse;
pub use ask::{Ask, Refusal, Share, Wish};
use backoff::Backoff;
use booting::Booting;
use launches::Launches;
use saved::Held;
pub use saved::Saved;

/// How many grants may have gone unsaved before a restart: the last one, which is told before it
/// is on the disk, and more where the disk was full. The next grant's epoch leaves room for them. Without a
/// limit, a made-up lease could push the epoch to the end of its range.
const MOST_UNSAVED: u64 = 1000;
/// Nobody renews a lease for longer: each of its steps has an end.
const LONGEST: Duration = Duration::from_secs(3600);
/// More machines than anybody launches at once, or in a day: a number of the other side must not
/// fill memory or disk.
const MOST_MACHINES: usize = 1000;

/// What the name of a lease begins with; 0 where that is no epoch.
fn epoch_of(id: &str) -> u64 {
    id.split('-').next().and_then(|e| e.parse().ok()).unwrap_or(0)
}

/// One connection to this master, numbered by whoever accepted it.
pub type PeerId = u64;

/// The settings that decide, from the INI.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    pub lease: Duration,
    pub cooldown: Duration,
    pub scale_down_cooldown: Duration,
    pub scale_down_window: Duration,
    /// After a launch: until then it may be on its way.
    pub boot_timeout: Duration,
    pub max_hosts: usize,
    /// 0: no limit.
    pub max_launches_per_day: usize,
    /// Machines at once; 0: no limit.
    pub max_step: usize,
    pub min_hosts: usize,
    /// Percent.
    pub threshold: f64,
}

impl Rules {
    /// After a launch nobody leaves for so long.
    fn stay(&self) -> Duration {
        self.cooldown.max(self.scale_down_cooldown)
    }
}

/// The lease as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub id: String,
    pub node: String,
    pub epoch: u64,
    pub wish: Wish,
    pub share: Share,
    pub expires: Instant,
    /// It is not renewed beyond this.
    last: Instant,
    /// The connection that may renew it: the one that it was granted on or that said `HOLD`
    /// last. A daemon that died and was started again is another connection, so its `LOAD`
    /// doesn't keep the dead one's lease alive.
    pub bearer: Option<PeerId>,
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
    leave_after: Instant,
    /// When the next single hot machine may get another one beside it.
    hot_after: Instant,
    launches: Launches,
    booting: Booting,
    /// By [`Wish`].
    failures: [Backoff; 2],
    /// The newest lease whose machines were said to have failed: those of one launch are one failure.
    failed_epoch: u64,
    starting_until: Instant,
}

impl Arbiter {
    /// An arbiter that starts at `now` with what the last one left, `None` where no master ran
    /// before. A restarted one grants nothing for one lease, in which a holder may come back.
    pub fn new(rules: Rules, saved: Option<Saved>, now: Instant) -> Arbiter {
        let restarted = saved.is_some();
        let saved = saved.unwrap_or_default();
        let mut arbiter = Arbiter {
            // There is always a next one.
            epoch: saved.epoch.min(u64::MAX / 2),
            gap: if restarted { MOST_UNSAVED } else { 0 },
            lease: saved.held.map(|held| {
                let last = now + LONGEST.min(held.left);
                Lease {
                    id: held.id,
                    node: held.node,
                    epoch: saved.epoch,
                    wish: held.wish,
                    share: held.share,
                    expires: last.min(now + rules.lease),
                    last,
                    bearer: None,
                }
            }),
            grow_after: now + saved.grow_cooldown,
            leave_after: now + saved.leave_cooldown,
            hot_after: now + saved.hot_cooldown,
            launches: Launches::restore(&saved.launches, now),
            booting: Booting::restore(&saved.booting, now),
            failures: saved
                .failing
                .map(|failing| Backoff::restore(failing, rules.cooldown, now)),
            failed_epoch: 0,
            starting_until: if restarted { now + rules.lease } else { now },
            rules: rules.clone(),
        };
        // A clock that jumped between the two runs must not block for longer than a cooldown.
        arbiter.set_rules(rules, now);
        arbiter
    }

    /// What to write to disk as of `now`.
    pub fn save(&self, now: Instant) -> Saved {
        let left = |until: Instant| until.saturating_duration_since(now);
        Saved {
            epoch: self.epoch,
            grow_cooldown: left(self.grow_after),
            leave_cooldown: left(self.leave_after),
            hot_cooldown: left(self.hot_after),
            launches: self.launches.save(now),
            booting: self.booting.save(now),
            failing: self.failures.each_ref().map(|failures| failures.save(now)),
            held: self.lease.as_ref().map(|l| Held {
                id: l.id.clone(),
                node: l.node.clone(),
                wish: l.wish,
                share: l.share,
                left: left(l.last),
            }),
        }
    }

    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Goes by other settings from now on. What is under way ends no later than it would under them.
    pub fn set_rules(&mut self, rules: Rules, now: Instant) {
        self.grow_after = self.grow_after.min(now + rules.cooldown);
        self.leave_after = self.leave_after.min(now + rules.stay());
        self.hot_after = self.hot_after.min(now + rules.scale_down_window);
        self.booting.limit(now + rules.boot_timeout);
        self.rules = rules;
    }

    /// What is left of the cooldown after a scale-up; zero when there is none.
    pub fn cooldown_left(&self, now: Instant) -> Duration {
        self.grow_after.saturating_duration_since(now)
    }

    /// The back-off after failures of `wish`: what is left of it, and how many there were in a row.
    pub fn failing(&self, wish: Wish, now: Instant) -> (Duration, u32) {
        self.failures[wish as usize].save(now)
    }

    fn count_failure(&mut self, wish: Wish, now: Instant) {
        self.failures[wish as usize].failed(self.rules.cooldown, now);
    }

    /// How many machines were launched, and are neither entered, failed nor `boot_timeout` old.
    pub fn booting(&self, now: Instant) -> usize {
        self.booting.count(now)
    }

    /// So many of them are entered now; the oldest are taken for it. False: there were none.
    pub fn entered(&mut self, machines: usize, now: Instant) -> bool {
        self.booting.take(machines, now).is_some()
    }

    /// `FAILED`: so many machines never came to serve.
    pub fn failed(&mut self, machines: usize, now: Instant) {
        let newest = self.booting.take(machines, now);
        if newest.is_none_or(|epoch| epoch > self.failed_epoch) {
            self.count_failure(Wish::Grow, now);
        }
        self.failed_epoch = self.failed_epoch.max(newest.unwrap_or(0));
    }

    /// A machine has come to serve: the cooldown begins, and whatever failed before is mended.
    pub fn serves(&mut self, now: Instant) {
        self.failures[Wish::Grow as usize].end();
        self.cool_down(self.rules.cooldown, now);
    }

    /// Nobody launches for the cooldown, nor leaves for `stay`, which is no shorter. A second one, by the
    /// newest launch that EC2 reports, is kept by whoever launches: `room` in `plan`.
    fn cool_down(&mut self, stay: Duration, now: Instant) {
        self.grow_after = self.grow_after.max(now + self.rules.cooldown);
        self.leave_after = self.leave_after.max(now + stay);
    }

    /// How many more `max_launches_per_day` allows now; `None` where it is not set.
    pub fn left_today(&self, now: Instant) -> Option<usize> {
        self.launches.left(self.rules.max_launches_per_day, now)
    }

    /// Until when `max_launches_per_day` forbids another launch.
    pub fn capped_until(&self, now: Instant) -> Option<Instant> {
        self.launches.full_until(self.rules.max_launches_per_day, now)
    }

    /// `SCALE` or `RETIRE` from `node` over `peer`. `share` is what it is to get where nothing here
    /// stands against it. `salt` makes the new lease's name one that nobody else can guess.
    pub fn ask(
        &mut self,
        ask: Ask,
        share: Result<Share, Refusal>,
        node: &str,
        peer: PeerId,
        salt: &str,
        now: Instant,
    ) -> Result<&Lease, Refusal> {
        let held = self.lease.is_some();
        let share = self.verdict(ask, share, peer, now)?;
        if !held {
            self.epoch += 1 + std::mem::take(&mut self.gap);
            self.lease = Some(Lease {
                id: format!("{}-{salt}", self.epoch),
                node: node.into(),
                epoch: self.epoch,
                wish: ask.wish,
                share,
                expires: now + self.rules.lease,
                last: now + LONGEST,
                bearer: Some(peer),
            });
        }
        Ok(self.lease.as_ref().expect("it was there or has just been made"))
    }

    /// `LOAD` over `peer`: renews the lease if it is the bearer's.
    pub fn renew(&mut self, peer: PeerId, now: Instant) {
        if let Some(lease) = &mut self.lease
            && lease.bearer == Some(peer)
        {
            lease.expires = lease.last.min(now + self.rules.lease);
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
                share: Share {
                    machines: 1,
                    hot: false,
                },
                expires: now,
                last: now + LONGEST,
                bearer: None,
            });
        } else if !known {
            let expires = self.lease.as_ref().map_or(now, |l| l.expires);
            let wait = expires.saturating_duration_since(now);
            return refuse(Reason::Holder, wait.max(Duration::from_secs(1)));
        }
        let lease = self.lease.as_mut().expect("known or just made");
        lease.bearer = Some(peer);
        lease.expires = lease.last.min(now + self.rules.lease);
        Ok(lease)
    }

    /// `FINISH`: ends the lease. What was `launched` under it counts for the day and, where all
    /// went well, boots, and the cooldown begins; where not, a back-off does. Returns the lease that
    /// ended, or `None` where `node` doesn't hold a lease called `id`.
    pub fn finish(
        &mut self,
        id: &str,
        node: &str,
        ok: bool,
        launched: usize,
        text: &str,
        now: Instant,
    ) -> Option<Lease> {
        let lease = self.lease.take_if(|lease| lease.id == id && lease.node == node)?;
        let launched = launched.min(MOST_MACHINES);
        match lease.wish {
            Wish::Grow if launched > 0 => {
                self.count(&lease, launched, now);
                if ok {
                    let until = now + self.rules.boot_timeout;
                    self.booting.add(launched, lease.epoch, until);
                    self.cool_down(self.rules.stay(), now);
                } else {
                    self.count_failure(Wish::Grow, now);
                }
            }
            Wish::Grow => {}
            Wish::Leave if ok => {
                self.failures[Wish::Leave as usize].end();
                self.leave_after = now + self.rules.scale_down_cooldown;
            }
            Wish::Leave if !text.starts_with(NOT_NOW) => self.count_failure(Wish::Leave, now),
            Wish::Leave => {}
        }
        Some(lease)
    }

    /// Ends a lease whose time is over and returns it. Its node may well have launched, or left,
    /// without the time to say so: then that counts as all that it might launch, or nobody else
    /// leaves for a while. What of it boots, the next survey shows.
    pub fn expire(&mut self, now: Instant) -> Option<Lease> {
        let lease = self.lease.take_if(|lease| lease.expires <= now)?;
        match lease.wish {
            Wish::Grow => self.count(&lease, lease.share.machines.min(MOST_MACHINES), now),
            Wish::Leave => self.leave_after = now + self.rules.scale_down_cooldown,
        }
        Some(lease)
    }

    fn count(&mut self, lease: &Lease, launched: usize, now: Instant) {
        self.launches.add(launched, self.rules.max_launches_per_day, now);
        if lease.share.hot {
            self.hot_after = now + self.rules.scale_down_window;
        }
    }
}

#[cfg(test)]
mod tests;
