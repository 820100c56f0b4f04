//! How the last scale-up went, step by step, and what has kept the next one from coming.

use std::time::{Duration, Instant};

use crate::core::protocol::Reason;

/// A need of which nobody has spoken for so long is none any more.
const FORGET: Duration = Duration::from_secs(60);

/// The last launch, from the grant to the first machine of it that serves.
#[derive(Debug, Default)]
pub struct Progress {
    launch: Option<Duration>,
    launched_at: Option<Instant>,
    boot: Option<Duration>,
    entered_at: Option<Instant>,
    up: Option<Duration>,
    /// Machines, since the start.
    pub launched: u64,
    pub failed: u64,
    blocked: Option<Blocked>,
}

/// A need that can't be met.
#[derive(Debug)]
struct Blocked {
    reason: Reason,
    since: Instant,
    last: Instant,
}

impl Progress {
    /// So many machines were launched, `took` after the grant.
    pub fn launched(&mut self, machines: usize, took: Option<Duration>, now: Instant) {
        *self = Progress {
            launch: took,
            launched_at: Some(now),
            launched: self.launched + machines as u64,
            failed: self.failed,
            ..Progress::default()
        };
    }

    pub fn entered(&mut self, now: Instant) {
        if let (Some(at), None) = (self.launched_at, self.boot) {
            self.boot = Some(now.saturating_duration_since(at));
            self.entered_at = Some(now);
        }
    }

    pub fn serves(&mut self, now: Instant) {
        if let (Some(at), None) = (self.entered_at, self.up) {
            self.up = Some(now.saturating_duration_since(at));
        }
    }

    /// The steps that are over, each with how long it took.
    pub fn steps(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        let steps = [("launch", self.launch), ("boot", self.boot), ("up", self.up)];
        steps.into_iter().filter_map(|(step, took)| Some((step, took?)))
    }

    /// A node whose load asks for machines was answered: `None` with a grant.
    pub fn answered(&mut self, refused: Option<Reason>, now: Instant) {
        match refused {
            None => self.blocked = None,
            Some(reason @ (Reason::Full | Reason::Failing)) => {
                let before = self.blocked.take().filter(|b| is_asked(b, now));
                self.blocked = Some(Blocked {
                    reason,
                    since: before.map_or(now, |b| b.since),
                    last: now,
                });
            }
            Some(_) => {
                if let Some(blocked) = &mut self.blocked {
                    blocked.last = now;
                }
            }
        }
    }

    /// Why the need can't be met, and for how long it could not.
    pub fn blocked(&self, now: Instant) -> Option<(Reason, Duration)> {
        let blocked = self.blocked.as_ref().filter(|b| is_asked(b, now))?;
        Some((blocked.reason, now.saturating_duration_since(blocked.since)))
    }
}

fn is_asked(blocked: &Blocked, now: Instant) -> bool {
    now.saturating_duration_since(blocked.last) < FORGET
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_step_of_the_last_scale_up() {
        let (mut progress, now) = (Progress::default(), Instant::now());
        let told = |p: &Progress| {
            p.steps()
                .map(|(s, t)| format!("{s} {}", t.as_secs()))
                .collect::<Vec<_>>()
        };
        progress.entered(now);
        assert_eq!(told(&progress), [""; 0], "nobody launched it");
        progress.launched(2, Some(3 * SECOND), now);
        progress.serves(now);
        assert_eq!(told(&progress), ["launch 3"]);
        progress.entered(now + 60 * SECOND);
        progress.entered(now + 70 * SECOND);
        progress.serves(now + 61 * SECOND);
        assert_eq!(told(&progress), ["launch 3", "boot 60", "up 1"]);
        progress.launched(1, None, now + 100 * SECOND);
        assert_eq!((told(&progress), progress.launched), (vec![], 3));
    }

    #[test]
    fn blocked_since_the_first_refusal_of_a_need_that_lasts() {
        let (mut progress, now) = (Progress::default(), Instant::now());
        progress.answered(Some(Reason::Cooldown), now);
        assert_eq!(progress.blocked(now), None);
        progress.answered(Some(Reason::Full), now);
        progress.answered(Some(Reason::Holder), now + 50 * SECOND);
        progress.answered(Some(Reason::Failing), now + 100 * SECOND);
        assert_eq!(
            progress.blocked(now + 101 * SECOND),
            Some((Reason::Failing, 101 * SECOND))
        );
        assert_eq!(progress.blocked(now + 160 * SECOND), None, "nobody asks any more");
        progress.answered(Some(Reason::Full), now + 200 * SECOND);
        assert_eq!(
            progress.blocked(now + 200 * SECOND),
            Some((Reason::Full, Duration::ZERO))
        );
        progress.answered(None, now + 201 * SECOND);
        assert_eq!(progress.blocked(now + 201 * SECOND), None);
    }
}
