//! Back-off: each failure in a row doubles the wait, a success ends it.

use std::time::Duration;

/// How long the failure number `in_a_row` blocks: the `first` for that long, each doubles it, up to
/// `longest`.
pub fn wait(first: Duration, in_a_row: u32, longest: Duration) -> Duration {
    let times = 1 << in_a_row.saturating_sub(1).min(31);
    first.saturating_mul(times).min(longest)
}

/// The failures in a row of one thing that is tried.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    in_a_row: u32,
}

impl Backoff {
    /// `first` is the wait after the first failure, `longest` the cap.
    pub fn new(first: Duration, longest: Duration) -> Backoff {
        Backoff {
            first,
            longest,
            in_a_row: 0,
        }
    }

    /// Counts a failure: how long to wait now.
    pub fn failed(&mut self) -> Duration {
        self.in_a_row = self.in_a_row.saturating_add(1);
        wait(self.first, self.in_a_row, self.longest)
    }

    /// Counts a success: the next failure waits as the first one did.
    pub fn reset(&mut self) {
        self.in_a_row = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_cap_and_starts_over() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second, 5 * second);
        let waits: Vec<u64> = (0..5).map(|_| backoff.failed().as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 5, 5]);
        backoff.reset();
        assert_eq!(backoff.failed(), second);
    }

    #[test]
    fn no_number_of_failures_is_too_many() {
        let hour = Duration::from_secs(3600);
        assert_eq!(wait(hour / 3600, u32::MAX, hour), hour);
        assert_eq!(wait(Duration::MAX, 2, Duration::MAX), Duration::MAX);
        assert_eq!(wait(hour, 0, Duration::MAX), hour);
    }
}
