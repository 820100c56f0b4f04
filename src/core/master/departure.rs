//! May a node leave? Those who stay must be enough, and have room for its load.

use std::collections::BTreeSet;
use std::time::Instant;

use super::Master;
use super::asking::LOOK_AGAIN;
use super::lease::{Refusal, Share, refuse};
use crate::core::protocol::Reason;

/// How far under the threshold the others must stay with the load of a machine that leaves: what
/// they take over must not make them scale up again.
pub const ROOM: f64 = 0.8;

/// Who would be left when a node leaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Others {
    pub count: usize,
    /// Percent: the highest load that any of them had lately.
    pub highest: f64,
}

impl Others {
    /// Could they share `load`, and stay well under the `threshold`, all in percent?
    pub fn have_room(&self, load: f64, threshold: f64) -> bool {
        self.count > 0 && self.highest + load / (self.count as f64) < ROOM * threshold
    }
}

/// Who of those that report would stay, whoever leaves.
#[derive(Debug, Default)]
pub struct Stayers<'a> {
    names: BTreeSet<&'a str>,
    highest: Option<(&'a str, f64)>,
    second: f64,
}

impl<'a> Stayers<'a> {
    /// `node`, whose highest load of late is `peak` percent.
    pub fn add(&mut self, node: &'a str, peak: f64) {
        self.names.insert(node);
        match self.highest {
            Some((_, highest)) if peak <= highest => self.second = self.second.max(peak),
            before => {
                self.second = before.map_or(0.0, |(_, highest)| highest);
                self.highest = Some((node, peak));
            }
        }
    }

    /// Those who are left without `leaving`.
    pub fn without(&self, leaving: &str) -> Others {
        Others {
            count: self.names.len() - usize::from(self.names.contains(leaving)),
            highest: match self.highest {
                Some((name, _)) if name == leaving => self.second,
                Some((_, percent)) => percent,
                None => 0.0,
            },
        }
    }
}

impl Master {
    pub(super) fn stayers(&self, now: Instant) -> Stayers<'_> {
        let window = self.arbiter.rules().scale_down_window;
        self.loads.stayers(|node| self.fleet.may_serve(node), window, now)
    }

    /// May `node` leave, and those stay that would?
    pub(super) fn departure(&self, node: &str, stayers: &Stayers, now: Instant) -> Result<Share, Refusal> {
        let rules = self.arbiter.rules();
        let fleet = &self.fleet;
        let mut others = stayers.without(node);
        if fleet.is_known {
            // Of a node whose entry has no id it is not known that HAProxy has it in MAINT.
            others.count = others.count.min(fleet.others_up(node));
        }
        // Where HAProxy says nothing, those who report count.
        let too_few = !fleet.is_known && others.count < rules.min_hosts;
        if fleet.up <= rules.min_hosts || too_few || others.count == 0 {
            return refuse(Reason::Few, LOOK_AGAIN);
        }
        let load = self.loads.of(node, now).unwrap_or(0.0);
        match others.have_room(load, rules.threshold) {
            true => Ok(Share::NONE),
            false => refuse(Reason::Loaded, LOOK_AGAIN),
        }
    }

    /// May any of those that report?
    pub(super) fn anybodys_departure(&self, now: Instant) -> Result<Share, Refusal> {
        let stayers = self.stayers(now);
        let mut verdict = refuse(Reason::Few, LOOK_AGAIN);
        for (node, _) in self.loads.told(now) {
            match self.departure(node, &stayers, now) {
                Err(refusal) if refusal.reason == Reason::Few => {}
                other => verdict = other,
            }
            if verdict.is_ok() {
                break;
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_others_have_room() {
        let others = |count, highest| Others { count, highest };
        assert!(others(2, 29.0).have_room(20.0, 50.0));
        assert!(!others(2, 30.0).have_room(20.0, 50.0));
        assert!(!others(0, 0.0).have_room(0.0, 50.0));
    }

    proptest! {
        #[test]
        fn whoever_stays_is_under_the_threshold(count in 1usize..50, highest in 0.0f64..100.0, load in 0.0f64..100.0) {
            if (Others { count, highest }).have_room(load, 50.0) {
                prop_assert!(highest + load / (count as f64) < 50.0);
            }
        }
    }
}
