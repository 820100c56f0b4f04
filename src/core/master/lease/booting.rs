//! The machines that were launched and are on their way.

use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy)]
struct Boot {
    until: Instant,
    /// Of the lease that it was launched under.
    epoch: u64,
}

/// The oldest first.
#[derive(Debug, Default)]
pub struct Booting(Vec<Boot>);

impl Booting {
    /// What [`Booting::save`] said in an earlier run.
    pub fn restore(saved: &[(Duration, u64)], now: Instant) -> Booting {
        let boot = |(left, epoch): &(Duration, u64)| Boot {
            until: now + *left,
            epoch: *epoch,
        };
        Booting(saved.iter().map(boot).collect())
    }

    /// For how long each still counts, and its lease's epoch.
    pub fn save(&self, now: Instant) -> Vec<(Duration, u64)> {
        let left = |b: &Boot| (b.until.saturating_duration_since(now), b.epoch);
        self.0.iter().map(left).collect()
    }

    /// None counts for longer.
    pub fn limit(&mut self, until: Instant) {
        for boot in &mut self.0 {
            boot.until = boot.until.min(until);
        }
    }

    /// So many more, until then.
    pub fn add(&mut self, machines: usize, epoch: u64, until: Instant) {
        let boot = Boot { until, epoch };
        self.0.extend(std::iter::repeat_n(boot, machines));
    }

    pub fn count(&self, now: Instant) -> usize {
        self.0.iter().filter(|b| b.until > now).count()
    }

    /// Takes so many out, the oldest. Returns the newest of their leases' epochs; `None` where there
    /// were none.
    pub fn take(&mut self, machines: usize, now: Instant) -> Option<u64> {
        self.0.retain(|b| b.until > now);
        let taken = self.0.drain(..machines.min(self.0.len()));
        taken.map(|b| b.epoch).max()
    }
}
