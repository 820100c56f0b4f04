//! Back-off after failed launches and departures, which a restart of the master keeps.

use std::time::{Duration, Instant};

use crate::core::backoff;

const LONGEST: Duration = Duration::from_secs(3600);
/// Where `cooldown` is shorter, or 0.
const SHORTEST: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub struct Backoff {
    until: Option<Instant>,
    in_a_row: u32,
}

/// How long the `n`th failure in a row blocks.
fn wait(cooldown: Duration, n: u32) -> Duration {
    backoff::wait(cooldown.max(SHORTEST), n, LONGEST)
}

impl Backoff {
    /// What [`Backoff::save`] said in an earlier run, by a clock that may have jumped.
    pub fn restore((left, in_a_row): (Duration, u32), cooldown: Duration, now: Instant) -> Backoff {
        Backoff {
            until: (in_a_row > 0).then(|| now + left.min(wait(cooldown, in_a_row))),
            in_a_row,
        }
    }

    /// What is left of it, and how many failures there were in a row.
    pub fn save(&self, now: Instant) -> (Duration, u32) {
        let left = self
            .until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        (left, self.in_a_row)
    }

    /// Another failure.
    pub fn failed(&mut self, cooldown: Duration, now: Instant) {
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.until = Some(now + wait(cooldown, self.in_a_row));
    }

    /// It went well: the next failure is a first one.
    pub fn end(&mut self) {
        *self = Backoff::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_an_hour_and_ends() {
        let (second, now) = (Duration::from_secs(1), Instant::now());
        let mut backoff = Backoff::default();
        let mut waits = Vec::new();
        for _ in 0..9 {
            backoff.failed(30 * second, now);
            waits.push(backoff.save(now).0.as_secs());
        }
        assert_eq!(waits, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
        let again = Backoff::restore(backoff.save(now + 600 * second), 30 * second, now);
        assert_eq!(again.save(now), (3000 * second, 9));
        let jumped = Backoff::restore((86_400 * second, 2), 30 * second, now);
        assert_eq!(jumped.save(now), (60 * second, 2));
        backoff.end();
        assert_eq!((backoff.save(now), backoff.until), ((Duration::ZERO, 0), None));
        backoff.failed(Duration::ZERO, now);
        assert_eq!(backoff.save(now), (second, 1));
        for _ in 0..100 {
            backoff.failed(365 * 86_400 * second, now);
        }
        assert_eq!(backoff.save(now).0, LONGEST);
    }
}
