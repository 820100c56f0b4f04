//! The last decisions of a master: who asked for what and why, what was answered, and what came
//! of it. Bounded, and kept over a restart by the caller.

use std::fmt;
use std::time::{Duration, Instant};

use super::lease::{Lease, Wish};
use crate::core::protocol::{NOT_NOW, REASONS, Reason};

/// How many decisions are told.
pub const KEPT: usize = 10;

/// How a decision stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// `WAIT`.
    Refused,
    /// `GRANT`, and no end of it yet.
    Granted,
    /// `FINISH ok`.
    Ok,
    /// `FINISH failed`, and something had been tried.
    Failed,
    /// `FINISH failed`, since another master said no or the need was over.
    Returned,
    /// The lease ran out.
    Expired,
}

/// In the order of the variants; the words of `REPORT`.
const OUTCOMES: [(Outcome, &str); 6] = [
    (Outcome::Refused, "refused"),
    (Outcome::Granted, "granted"),
    (Outcome::Ok, "ok"),
    (Outcome::Failed, "failed"),
    (Outcome::Returned, "returned"),
    (Outcome::Expired, "expired"),
];

/// One decision.
#[derive(Debug, Clone, PartialEq)]
struct Decision {
    /// Of its outcome: the last one, where the same came up again.
    at: Instant,
    node: String,
    wish: Wish,
    /// The node's last `LOAD` when it asked.
    percent: Option<f64>,
    times: u64,
    outcome: Outcome,
    /// From the grant to its end.
    took: Duration,
    /// Why, or what came of it.
    text: String,
}

/// As `REPORT` tells it, without its verb and its age.
impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.node, self.wish.verb())?;
        match self.percent {
            Some(percent) => write!(f, "{percent:.0}")?,
            None => write!(f, "-")?,
        }
        let (outcome, took) = (OUTCOMES[self.outcome as usize].1, self.took.as_secs());
        write!(f, " {} {outcome} {took} {}", self.times, self.text)
    }
}

impl Decision {
    /// Reads what `Display` writes.
    fn parse(line: &str, at: Instant) -> Option<Decision> {
        let words: Vec<&str> = line.splitn(7, ' ').collect();
        let [node, wish, percent, times, outcome, took, text] = words[..] else {
            return None;
        };
        Some(Decision {
            at,
            node: node.into(),
            wish: Wish::of_verb(wish)?,
            percent: percent.parse().ok(),
            times: times.parse().ok()?,
            outcome: OUTCOMES.iter().find(|o| o.1 == outcome)?.0,
            took: Duration::from_secs(took.parse().ok()?),
            text: text.into(),
        })
    }

    /// The same thing again? Numbers count down, and say nothing new.
    fn is_like(&self, other: &Decision) -> bool {
        let words = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "");
        self.wish == other.wish && self.outcome == other.outcome && words(&self.text) == words(&other.text)
    }
}

/// The decisions, the oldest first.
#[derive(Debug, Default)]
pub struct History {
    decisions: Vec<Decision>,
    /// By wish and outcome, since the start.
    counts: [[u64; OUTCOMES.len()]; Wish::ALL.len()],
    /// By wish and reason to wait, since the start.
    waits: [[u64; REASONS.len()]; Wish::ALL.len()],
}

impl History {
    /// A request was refused for `reason`.
    pub fn waits(&mut self, wish: Wish, reason: Reason) {
        self.waits[wish as usize][reason as usize] += 1;
    }

    /// `lease` has ended: by `FINISH` with `ok` and `text`, or with `None` by its time.
    pub fn ended(&mut self, lease: &Lease, ok: Option<bool>, text: &str, now: Instant) {
        // A master whose disk was full may have forgotten it.
        let asked = self.granted_to(lease).map(|at| self.decisions.remove(at));
        let outcome = match ok {
            None => Outcome::Expired,
            Some(true) => Outcome::Ok,
            Some(false) if text.starts_with(NOT_NOW) => Outcome::Returned,
            Some(false) => Outcome::Failed,
        };
        let percent = asked.as_ref().and_then(|d| d.percent);
        self.add(&lease.node, lease.wish, percent, outcome, text.into(), now);
        if let (Some(asked), Some(last)) = (asked, self.decisions.last_mut()) {
            last.took = now.saturating_duration_since(asked.at);
        }
    }

    /// For how long `lease` has been held, if its grant is still known.
    pub fn held(&self, lease: &Lease, now: Instant) -> Option<Duration> {
        let granted = self.granted_to(lease)?;
        Some(now.saturating_duration_since(self.decisions[granted].at))
    }

    fn granted_to(&self, lease: &Lease) -> Option<usize> {
        let granted =
            |d: &Decision| d.outcome == Outcome::Granted && d.node == lease.node && d.wish == lease.wish;
        self.decisions.iter().rposition(granted)
    }

    /// Takes an outcome for `node` down, whose last `LOAD` was `percent`, together with what was like it
    /// since the last change of the cluster. `text` says why: the reason to refuse, the need for a grant,
    /// what has failed since a lease. True if there was nothing like it.
    pub fn add(
        &mut self,
        node: &str,
        wish: Wish,
        percent: Option<f64>,
        outcome: Outcome,
        text: String,
        now: Instant,
    ) -> bool {
        self.counts[wish as usize][outcome as usize] += 1;
        let mut new = Decision {
            at: now,
            node: node.into(),
            wish,
            percent,
            times: 1,
            outcome,
            took: Duration::ZERO,
            text,
        };
        let change = |d: &Decision| matches!(d.outcome, Outcome::Ok | Outcome::Expired);
        let since = self.decisions.iter().rposition(change).map_or(0, |at| at + 1);
        let like = self.decisions[since..].iter().position(|d| d.is_like(&new));
        if let Some(at) = like {
            new.times += self.decisions.remove(since + at).times;
        }
        self.decisions.push(new);
        // One more than is told: a mere question comes and goes.
        if self.decisions.len() > KEPT + 1 {
            self.decisions.remove(0);
        }
        like.is_none()
    }

    /// Each decision's age and text, the newest first.
    pub fn lines(&self, now: Instant) -> impl Iterator<Item = (Duration, String)> {
        let line = move |d: &Decision| (now.saturating_duration_since(d.at), d.to_string());
        self.decisions.iter().rev().take(KEPT).map(line)
    }

    /// What an earlier run's [`History::lines`] told.
    pub fn recall(&mut self, lines: &[(Duration, String)], now: Instant) {
        let decision = |(age, line): &(Duration, String)| {
            let at = now.checked_sub(*age).unwrap_or(now);
            Decision::parse(line, at)
        };
        self.decisions = lines.iter().rev().filter_map(decision).collect();
    }

    /// `<verb> <reason> <how often>`, of what was refused.
    pub fn refusals(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (wish, counts) in Wish::ALL.iter().zip(self.waits) {
            for ((_, reason), count) in REASONS.iter().zip(counts).filter(|(_, count)| *count > 0) {
                lines.push(format!("{} {reason} {count}", wish.verb()));
            }
        }
        lines
    }

    /// `<verb> <outcome> <how often>`.
    pub fn counts(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (wish, counts) in Wish::ALL.iter().zip(self.counts) {
            for ((_, outcome), count) in OUTCOMES.iter().zip(counts) {
                lines.push(format!("{} {outcome} {count}", wish.verb()));
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::master::lease::{Arbiter, Ask, Rules, Share};

    const SECOND: Duration = Duration::from_secs(1);

    fn lease(node: &str, now: Instant) -> Lease {
        let rules = Rules {
            lease: 30 * SECOND,
            cooldown: SECOND,
            scale_down_cooldown: SECOND,
            scale_down_window: SECOND,
            boot_timeout: SECOND,
            max_hosts: 9,
            max_launches_per_day: 0,
            max_step: 0,
            min_hosts: 0,
            threshold: 50.0,
        };
        let mut arbiter = Arbiter::new(rules, None, now);
        let ask = Ask::plain(Wish::Grow);
        arbiter
            .ask(ask, Ok(Share::NONE), node, 1, "x", now)
            .unwrap()
            .clone()
    }

    fn told(history: &History, now: Instant) -> Vec<String> {
        let lines = history.lines(now);
        lines
            .map(|(age, text)| format!("{} {text}", age.as_secs()))
            .collect()
    }

    #[test]
    fn from_the_question_to_its_end() {
        let (mut history, mut now) = (History::default(), Instant::now());
        assert!(history.add(
            "a",
            Wish::Grow,
            Some(91.6),
            Outcome::Refused,
            "cooldown, 9 s left".into(),
            now
        ));
        now += 2 * SECOND;
        assert!(!history.add(
            "b",
            Wish::Grow,
            None,
            Outcome::Refused,
            "cooldown, 7 s left".into(),
            now
        ));
        history.add(
            "a",
            Wish::Grow,
            Some(93.0),
            Outcome::Granted,
            "1 missing".into(),
            now,
        );
        now += 40 * SECOND;
        assert_eq!(
            told(&history, now),
            [
                "40 a SCALE 93 1 granted 0 1 missing",
                "40 b SCALE - 2 refused 0 cooldown, 7 s left"
            ]
        );
        history.ended(&lease("a", now), Some(true), "i-1 is in", now);
        let last = "0 a SCALE 93 1 ok 40 i-1 is in";
        assert_eq!(told(&history, now)[0], last);
        // What was said before a change is another matter.
        assert!(history.add(
            "b",
            Wish::Grow,
            None,
            Outcome::Refused,
            "cooldown, 7 s left".into(),
            now
        ));
        assert_eq!(told(&history, now).len(), 3);
        let mut again = History::default();
        again.recall(&history.lines(now).collect::<Vec<_>>(), now);
        assert_eq!(told(&again, now), told(&history, now));
    }

    #[test]
    fn a_question_to_several_masters_fills_nothing() {
        let (mut history, now) = (History::default(), Instant::now());
        for n in 0..KEPT {
            history.add(
                "a",
                Wish::Grow,
                None,
                Outcome::Refused,
                format!("{:a<1$}", "", n + 1),
                now,
            );
        }
        for n in 0..50 {
            history.add("a", Wish::Grow, None, Outcome::Granted, String::new(), now);
            let text = format!("{NOT_NOW}master lb2: cooldown, {n} s left");
            history.ended(&lease("a", now), Some(false), &text, now);
        }
        let lines = told(&history, now);
        assert_eq!(lines.len(), KEPT);
        assert_eq!(
            lines[0],
            "0 a SCALE - 50 returned 0 not now: master lb2: cooldown, 49 s left"
        );
        history.ended(&lease("stranger", now), None, "", now);
        assert_eq!(told(&history, now)[0], "0 stranger SCALE - 1 expired 0 ");
        assert_eq!(history.counts()[4], "SCALE returned 50");
    }

    #[test]
    fn nonsense_on_file_is_passed_over() {
        let (mut history, now) = (History::default(), Instant::now());
        history.recall(
            &[(SECOND, "a b c".into()), (SECOND, "a SCALE - 1 odd 0 ".into())],
            now,
        );
        assert_eq!(told(&history, now), [""; 0]);
    }
}
