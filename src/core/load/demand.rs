//! The load beyond 100%: a saturated CPU shows 100% whether twice or ten times the work waits, but
//! the requests that arrive show it. While machines are not saturated it is learned what a request
//! costs; when they are, what is needed follows from the rate.
//!
//! A wrong estimate costs money, so that one is given only while all of this holds: the cost is
//! young, steady, and of this HAProxy's own share of the requests.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Percent: from here on a mean load counts as one of saturated machines.
pub const SATURATED: f64 = 90.0;
/// From this share of the threshold on, a load shows what requests cost: under it, it is more the
/// system's own.
const TELLING: f64 = 0.2;
/// Percent: here a load can't show whether it follows the requests.
const FULL: f64 = 97.0;
/// A rate is taken over so long: as long as the window of the loads that it is compared with.
const WINDOW: Duration = Duration::from_secs(10);
/// Over so long a rate shows that it has jumped.
const MOMENT: Duration = Duration::from_secs(5);
/// Between two samples of the cost.
const INTERVAL: Duration = Duration::from_secs(5);
/// The cost is the median of so long.
const LEARNED: Duration = Duration::from_secs(600);
/// A cost that is older is not gone by.
const OLDEST: Duration = Duration::from_secs(3600);
/// Samples without which there is no cost.
const FEWEST: usize = 12;
/// Requests in a window, without which there is no rate.
const FEWEST_REQUESTS: u64 = 20;
/// After a change, nothing is learned or said for so long.
const QUIET: Duration = Duration::from_secs(60);
/// Within this time the loads show what a rate that jumped means to them.
const LAG: Duration = Duration::from_secs(20);
/// What counts as a jump, and as another cost.
const JUMP: f64 = 1.5;

/// What the requests ask for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demand {
    /// Requests per second that arrive at this HAProxy.
    pub rate: f64,
    /// Percent of one machine that one request per second takes.
    pub cost: f64,
}

/// The rate has jumped, and it is not known yet whether the work has too.
#[derive(Debug, Clone, Copy)]
struct Jump {
    at: Instant,
    factor: f64,
    /// The mean load before, in percent.
    before: f64,
}

/// What has been learned.
#[derive(Debug, Default)]
pub struct Demands {
    /// How many requests had arrived, at times not long ago.
    counts: VecDeque<(Instant, u64)>,
    /// What a request cost, at times.
    costs: VecDeque<(Instant, f64)>,
    /// Until when nothing is learned, and nothing is said.
    learn_after: Option<Instant>,
    say_after: Option<Instant>,
    next_sample: Option<Instant>,
    jump: Option<Jump>,
}

impl Demands {
    /// `total` requests have arrived since HAProxy's start; `None`: it can't be asked. `serving`
    /// machines have a mean load of `mean` percent.
    pub fn observe(
        &mut self,
        total: Option<u64>,
        serving: usize,
        mean: Option<f64>,
        threshold: f64,
        now: Instant,
    ) {
        let Some(total) = total else {
            self.counts.clear();
            return;
        };
        if self.counts.back().is_some_and(|(_, before)| *before > total) {
            // Another process counts from zero.
            self.counts.clear();
            self.disturb(now);
        }
        self.counts.push_back((now, total));
        while self
            .counts
            .get(1)
            .is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW + MOMENT)
        {
            self.counts.pop_front();
        }
        let Some(mean) = mean else { return };
        self.watch_share(mean, now);
        self.learn(serving, mean, threshold, now);
    }

    /// Something has changed that the cost depends on.
    pub fn disturb(&mut self, now: Instant) {
        self.say_after = Some(now + QUIET);
        self.learn_after = Some(now + QUIET);
        self.jump = None;
    }

    /// Entries have come or gone: loads and requests are not of the same machines for a while. What a
    /// request costs and how many arrive stays the same, so that it is said again after a window.
    pub fn resize(&mut self, now: Instant) {
        self.say_after = self.say_after.max(Some(now + WINDOW));
        self.learn_after = Some(now + QUIET);
        self.jump = None;
    }

    /// The loads may be those of another moment than the number that serves.
    pub fn unsettle(&mut self, now: Instant) {
        self.learn_after = Some(now + QUIET);
    }

    /// What was learned is of another share of the requests.
    fn forget(&mut self, now: Instant) {
        self.costs.clear();
        self.disturb(now);
    }

    /// How many requests came between these two times ago, and per second; `None` where that is not
    /// known, or too few to tell.
    fn rate(&self, from: Duration, to: Duration, now: Instant) -> Option<f64> {
        let age = |at: &Instant| now.saturating_duration_since(*at);
        let begin = self.counts.iter().rfind(|(at, _)| age(at) >= from)?;
        let end = self.counts.iter().rfind(|(at, _)| age(at) >= to)?;
        let (requests, time) = (end.1 - begin.1, end.0 - begin.0);
        let enough = requests >= FEWEST_REQUESTS && !time.is_zero();
        enough.then(|| requests as f64 / time.as_secs_f64())
    }

    /// Does a rate that jumps come with the load that it should come with? Where it does not, this
    /// HAProxy has got another share of the requests, or they are others.
    fn watch_share(&mut self, mean: f64, now: Instant) {
        if let Some(jump) = self.jump {
            let is_over = now.saturating_duration_since(jump.at) >= LAG;
            match is_borne_out(&jump, mean) {
                _ if !is_over => {}
                true => self.jump = None,
                false => self.forget(now),
            }
            return;
        }
        let recent = self.rate(MOMENT, Duration::ZERO, now);
        let before = self.rate(WINDOW + MOMENT, MOMENT, now);
        let (Some(recent), Some(before)) = (recent, before) else {
            return;
        };
        let factor = recent / before;
        // Few requests scatter.
        let scatter = 4.0 * (recent.max(before) * MOMENT.as_secs_f64()).sqrt();
        let scattered = (recent - before).abs() * MOMENT.as_secs_f64() < scatter;
        if scattered || (1.0 / JUMP..JUMP).contains(&factor) {
            return;
        }
        if mean >= FULL {
            return self.forget(now);
        }
        self.jump = Some(Jump {
            at: now,
            factor,
            before: mean,
        });
    }

    fn learn(&mut self, serving: usize, mean: f64, threshold: f64, now: Instant) {
        let due = self.next_sample.is_none_or(|at| at <= now);
        let quiet = self.learn_after.is_some_and(|at| now < at) || self.jump.is_some();
        let telling = (threshold * TELLING..=SATURATED).contains(&mean) && serving > 0;
        if !due || quiet || !telling {
            return;
        }
        let Some(rate) = self.rate(WINDOW, Duration::ZERO, now) else {
            return;
        };
        self.next_sample = Some(now + INTERVAL);
        self.costs.push_back((now, mean * serving as f64 / rate));
        while self
            .costs
            .front()
            .is_some_and(|(at, _)| now.saturating_duration_since(*at) > LEARNED)
        {
            self.costs.pop_front();
        }
        // The last ones in a row tell of something else than those before.
        let mut newest = self.costs.iter().rev().take(FEWEST / 3);
        if let Some(cost) = self.cost()
            && newest.all(|(_, c)| !(cost / JUMP..cost * JUMP).contains(c))
        {
            self.forget(now);
        }
    }

    /// The median; `None` where there are few, or where requests are no measure of the load: then
    /// the middle half of them scatters.
    fn cost(&self) -> Option<f64> {
        let mut costs: Vec<f64> = self.costs.iter().map(|(_, cost)| *cost).collect();
        costs.sort_by(f64::total_cmp);
        let at = |part: usize| costs[(costs.len() - 1) * part / 4];
        let steady = costs.len() >= FEWEST && at(3) < at(1) * JUMP;
        steady.then(|| at(2))
    }

    /// What the requests ask for now, where machines are saturated, as a `mean` load in percent tells,
    /// and it can be said.
    pub fn now(&self, mean: Option<f64>, now: Instant) -> Option<Demand> {
        let mean = mean.filter(|mean| *mean >= SATURATED)?;
        let (learned_at, _) = self.costs.back()?;
        let quiet = self.say_after.is_some_and(|at| now < at);
        let old = now.saturating_duration_since(*learned_at) > OLDEST;
        let unclear = self.jump.is_some_and(|jump| !is_borne_out(&jump, mean));
        let deaf = self
            .counts
            .back()
            .is_none_or(|(at, _)| now.saturating_duration_since(*at) > MOMENT);
        if quiet || old || unclear || deaf {
            return None;
        }
        Some(Demand {
            // Over more than a moment: what jumps is seen before it says much.
            rate: self.rate(WINDOW, Duration::ZERO, now)?,
            cost: self.cost()?,
        })
    }
}

/// Has the load followed the rate, as far as a load can?
fn is_borne_out(jump: &Jump, mean: f64) -> bool {
    let expected = jump.before * jump.factor;
    match jump.factor > 1.0 {
        true => mean >= FULL.min(expected / 1.25),
        false => mean <= expected * 1.25,
    }
}

#[cfg(test)]
mod tests;
