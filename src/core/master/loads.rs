//! The loads that nodes report: the last one of each, its highest of late, and whether two nodes
//! go by one name.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::departure::Stayers;
use super::lease::PeerId;
use crate::core::protocol::host_of;

/// A node that has been silent for this long is no longer shown by `STATUS`.
const FORGET_NODE: Duration = Duration::from_secs(60);
/// Nodes whose load is kept. A name costs nothing to make up where there is no secret.
const MOST_LOADS: usize = 10_000;
/// A load older than three heartbeats says nothing of now.
const FRESH: Duration = Duration::from_secs(15);
/// Doubles that are complained of, each once.
const MOST_DOUBLES: usize = 32;
/// The highest load is kept for so many parts of the window.
const PARTS: u32 = 30;

/// What one node reports.
#[derive(Debug)]
pub struct Load {
    pub percent: f64,
    pub at: Instant,
    peaks: Peaks,
    /// Who reported it last, and who did before.
    peer: PeerId,
    before: PeerId,
    /// How often these two took turns.
    turns: u32,
    /// There was an entry of this node.
    entered: bool,
}

impl Load {
    pub fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) <= FRESH
    }

    /// Do two connections report under this name?
    fn is_double(&self) -> bool {
        self.turns >= 2
    }
}

/// By the nodes' names.
#[derive(Debug, Default)]
pub struct Loads {
    known: BTreeMap<String, Load>,
    /// The doubles that were complained of.
    said: BTreeSet<String>,
}

impl Loads {
    /// `node` reports over `reporter`; `None` where that may be somebody beside it, by right. Its
    /// highest load counts for `window`.
    pub fn note(
        &mut self,
        node: &str,
        percent: f64,
        reporter: Option<PeerId>,
        window: Duration,
        now: Instant,
    ) {
        if self.known.len() == MOST_LOADS && !self.known.contains_key(node) {
            self.known.retain(|_, load| is_known(load, now));
            if self.known.len() == MOST_LOADS {
                return;
            }
        }
        let load = self.known.entry(node.into()).or_insert_with(|| Load {
            percent,
            at: now,
            peaks: Peaks::new(now),
            peer: reporter.unwrap_or(0),
            before: 0,
            turns: 0,
            entered: false,
        });
        if let Some(peer) = reporter.filter(|peer| *peer != load.peer) {
            load.turns = if load.before == peer { load.turns + 1 } else { 0 };
            (load.before, load.peer) = (load.peer, peer);
        }
        (load.percent, load.at) = (percent, now);
        load.peaks.push(percent, window, now);
    }

    /// The last load that `node` reported, if it is fresh.
    pub fn of(&self, node: &str, now: Instant) -> Option<f64> {
        let load = self.known.get(node).filter(|load| load.is_fresh(now));
        load.map(|load| load.percent)
    }

    /// Those that `STATUS` tells of.
    pub fn told(&self, now: Instant) -> impl Iterator<Item = (&String, &Load)> {
        self.known.iter().filter(move |(_, load)| is_known(load, now))
    }

    fn fresh(&self, now: Instant) -> impl Iterator<Item = (&String, &Load)> {
        self.known.iter().filter(move |(_, load)| load.is_fresh(now))
    }

    /// The mean of the fresh loads of those nodes that `count`; `None` where there is none.
    pub fn mean(&self, count: impl Fn(&str) -> bool, now: Instant) -> Option<f64> {
        let counted = self.fresh(now).filter(|(node, _)| count(node));
        let (number, sum) = counted.fold((0, 0.0), |(n, sum), (_, load)| (n + 1, sum + load.percent));
        (number > 0).then(|| sum / f64::from(number))
    }

    /// Those who report freshly and can take load, as `can` says.
    pub fn stayers(&self, can: impl Fn(&str) -> bool, window: Duration, now: Instant) -> Stayers<'_> {
        let mut stayers = Stayers::default();
        for (node, load) in self.fresh(now).filter(|(node, _)| can(node)) {
            // The last report stands until the next, however short the window.
            stayers.add(node, load.peaks.highest(window, now).max(load.percent));
        }
        stayers
    }

    /// `node` has an entry now.
    pub fn entered(&mut self, node: &str) {
        if let Some(load) = self.known.get_mut(node) {
            load.entered = true;
        }
    }

    /// Was there an entry of `node`?
    pub fn is_entered(&self, node: &str) -> bool {
        self.known.get(node).is_some_and(|load| load.entered)
    }

    /// Forgets those that had an entry, have none and are not connected either: they have ended.
    pub fn forget_ended(&mut self, is_there: impl Fn(&str) -> bool) {
        self.known.retain(|node, load| !load.entered || is_there(node));
    }

    /// Does anybody else go by the name of `node`, or by its host's? Says so, each time.
    fn double(&self, node: &str, is_open: impl Fn(PeerId) -> bool, now: Instant) -> Option<String> {
        let load = self.known.get(node).filter(|load| load.is_fresh(now))?;
        if load.is_double() && is_open(load.peer) && is_open(load.before) {
            return Some("two nodes go by this name, and count as one".into());
        }
        let host = format!("{}/", node.split_once('/')?.0);
        let namesakes = self.known.range(host.clone()..);
        let namesakes = namesakes.take_while(|(name, _)| name.starts_with(&host));
        let mut others =
            namesakes.filter(|(name, other)| *name != node && other.is_fresh(now) && is_open(other.peer));
        let (other, _) = others.next().filter(|_| is_open(load.peer))?;
        Some(format!("{other} has the same host name; they count as two"))
    }

    /// What to complain of, now that `node` has reported: once for each name.
    pub fn new_double(
        &mut self,
        node: &str,
        is_open: impl Fn(PeerId) -> bool,
        now: Instant,
    ) -> Option<String> {
        let why = self.double(node, is_open, now)?;
        let new = self.said.len() < MOST_DOUBLES && self.said.insert(host_of(node).into());
        new.then(|| format!("{node}: double: {why}"))
    }

    /// Each node that is double now, and why.
    pub fn doubles(&self, is_open: impl Fn(PeerId) -> bool, now: Instant) -> Vec<(&str, String)> {
        let nodes = self.known.keys();
        nodes
            .filter_map(|node| Some((node.as_str(), self.double(node, &is_open, now)?)))
            .collect()
    }

    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.known.keys().map(String::as_str)
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.known.len()
    }
}

/// Does `STATUS` still tell of it?
fn is_known(load: &Load, now: Instant) -> bool {
    now.saturating_duration_since(load.at) < FORGET_NODE
}

/// The highest load of a window, part by part; only what a later part does not exceed.
#[derive(Debug)]
struct Peaks {
    start: Instant,
    part: Duration,
    /// The number of each part since the start, and the highest load in it: later ones are lower.
    parts: Vec<(u32, f32)>,
}

impl Peaks {
    fn new(start: Instant) -> Peaks {
        Peaks {
            start,
            part: Duration::ZERO,
            parts: Vec::new(),
        }
    }

    fn push(&mut self, percent: f64, window: Duration, now: Instant) {
        let part = (window / PARTS).max(Duration::from_millis(1));
        let mut percent = percent as f32;
        if self.part != part {
            // Another window: what is known of the last one stands for now.
            percent = self
                .parts
                .first()
                .map_or(percent, |(_, highest)| highest.max(percent));
            (self.start, self.part) = (now, part);
            self.parts.clear();
        }
        let number = self.number(now);
        // What is left of the division makes one part more.
        self.parts.retain(|(n, _)| number.saturating_sub(*n) <= PARTS + 1);
        while let Some(last) = self.parts.last()
            && last.1 <= percent
        {
            self.parts.pop();
        }
        if self.parts.last().is_none_or(|(n, _)| *n != number) {
            self.parts.push((number, percent));
        }
    }

    fn number(&self, now: Instant) -> u32 {
        let since = now.saturating_duration_since(self.start).as_millis();
        u32::try_from(since / self.part.as_millis().max(1)).unwrap_or(u32::MAX)
    }

    fn highest(&self, window: Duration, now: Instant) -> f64 {
        let begin = now.checked_sub(window).unwrap_or(self.start);
        let begin = self.number(begin);
        let within = self.parts.iter().find(|(number, _)| *number >= begin);
        within.map_or(0.0, |(_, highest)| f64::from(*highest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn highest(loads: &Loads, leaving: &str, window: Duration, now: Instant) -> (usize, f64) {
        let others = loads.stayers(|_| true, window, now).without(leaving);
        (others.count, others.highest)
    }

    #[test]
    fn the_highest_of_the_others() {
        let (mut loads, now) = (Loads::default(), Instant::now());
        for (node, percent) in [("a", 30.0), ("b", 10.0), ("c", 20.0), ("b", 5.0)] {
            loads.note(node, percent, Some(1), 60 * SECOND, now);
        }
        assert_eq!(highest(&loads, "a", 60 * SECOND, now), (2, 20.0));
        assert_eq!(highest(&loads, "b", 60 * SECOND, now), (2, 30.0));
        assert_eq!(highest(&loads, "x", 60 * SECOND, now), (3, 30.0));
        // One that reports every five seconds, and a window of one.
        assert_eq!(highest(&loads, "b", SECOND, now + 4 * SECOND), (2, 30.0));
        loads.note("c", 1.0, Some(1), 60 * SECOND, now + 15 * SECOND);
        assert_eq!(highest(&loads, "a", 60 * SECOND, now + 15 * SECOND), (2, 20.0));
        assert_eq!(highest(&loads, "a", 60 * SECOND, now + 16 * SECOND), (1, 20.0));
        assert_eq!(loads.mean(|_| true, now + 16 * SECOND), Some(1.0));
        assert_eq!(loads.mean(|node| node != "c", now + 16 * SECOND), None);
    }

    #[test]
    fn two_under_one_name_and_two_of_one_host() {
        let (mut loads, now) = (Loads::default(), Instant::now());
        let open = |_| true;
        let mut said = Vec::new();
        for peer in [1, 1, 2, 2, 2] {
            // It came back over another connection.
            loads.note("a", 1.0, Some(peer), SECOND, now);
            said.extend(loads.new_double("a", open, now));
        }
        // By hand, beside the daemon.
        loads.note("a", 1.0, Some(1), SECOND, now);
        said.extend(loads.new_double("a", open, now));
        assert_eq!(said, [""; 0]);
        loads.note("a", 1.0, Some(2), SECOND, now);
        assert!(loads.new_double("a", open, now).is_some());
        assert!(loads.new_double("a", open, now).is_none(), "said once");
        assert_eq!(loads.doubles(open, now).len(), 1);
        assert_eq!(loads.doubles(|peer| peer == 2, now).len(), 0);
        for (node, peer) in [("web/i-1", 5), ("web/i-2", 6), ("web2/i-3", 7)] {
            loads.note(node, 1.0, Some(peer), SECOND, now);
        }
        let why = "web/i-2: double: web/i-1 has the same host name; they count as two";
        assert_eq!(loads.new_double("web/i-2", open, now).as_deref(), Some(why));
        assert_eq!(loads.new_double("web2/i-3", open, now), None);
        // One took the place of the other.
        assert_eq!(loads.doubles(|peer| peer == 6, now).len(), 0);
    }

    proptest! {
        #[test]
        fn the_highest_is_that_of_the_window(
            steps in proptest::collection::vec((0u64..4000, 0u32..100), 1..80),
            seconds in 1u32..20,
        ) {
            let (start, window) = (Instant::now(), seconds * SECOND);
            let mut loads = Loads::default();
            let (mut now, mut all) = (start, Vec::new());
            for (wait, percent) in steps {
                now += Duration::from_millis(wait);
                loads.note("a", f64::from(percent), Some(1), window, now);
                all.push((now, f64::from(percent)));
                let most = |window| all.iter().filter(|(at, _)| now - *at <= window).map(|(_, p)| *p).fold(0.0, f64::max);
                let (_, highest) = highest(&loads, "x", window, now);
                // A part more than the window at most, and never less.
                prop_assert!(highest >= most(window) && highest <= most(window + window / PARTS + SECOND / 1000));
                prop_assert!(loads.known["a"].peaks.parts.len() <= PARTS as usize + 2);
            }
        }
    }
}
