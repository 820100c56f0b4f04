//! The launches of the last day, which `max_launches_per_day` limits.

use std::time::{Duration, Instant};

/// How long a launch counts.
pub const DAY: Duration = Duration::from_secs(24 * 3600);
/// Launches that are remembered where the limit is smaller, or not set: it may be by and by.
pub const REMEMBERED: usize = 100;

/// Until when each counts, the oldest first; no more of them than can matter.
#[derive(Debug, Default)]
pub struct Launches(Vec<Instant>);

impl Launches {
    /// What [`Launches::save`] said in an earlier run.
    pub fn restore(saved: &[Duration], now: Instant) -> Launches {
        Launches(saved.iter().map(|left| now + DAY.min(*left)).collect())
    }

    /// For how long each still counts.
    pub fn save(&self, now: Instant) -> Vec<Duration> {
        let left = |until: &Instant| until.saturating_duration_since(now);
        self.0.iter().map(left).collect()
    }

    /// So many machines were launched, or may have been, where `most` may be in a day.
    pub fn add(&mut self, machines: usize, most: usize, now: Instant) {
        self.0.extend(std::iter::repeat_n(now + DAY, machines));
        self.0.drain(..self.0.len().saturating_sub(most.max(REMEMBERED)));
    }

    /// How many more there may be now, where `most` may be in a day; `None` where `most` is 0: any
    /// number.
    pub fn left(&self, most: usize, now: Instant) -> Option<usize> {
        let counting = self.0.iter().filter(|until| **until > now).count();
        (most > 0).then(|| most.saturating_sub(counting))
    }

    /// Until when there may be none.
    pub fn full_until(&self, most: usize, now: Instant) -> Option<Instant> {
        let over = self.0.len().checked_sub(most).filter(|_| most > 0)?;
        self.0.get(over).filter(|until| **until > now).copied()
    }
}
