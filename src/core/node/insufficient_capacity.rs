//! What EC2 had no capacity for lately, so that the next launch begins where it may succeed.
//!
//! Such a memory is one node's own. Two nodes that are split must make the same request first
//! (the ClientToken counts per zone), so a node may go by it only while no other can launch.

use std::time::{Duration, Instant};

/// Capacity comes back within minutes, and the first choice is the cheapest.
const REMEMBERED: Duration = Duration::from_secs(5 * 60);

/// Where and what to launch: a subnet and an instance type; `None` is what the command says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub subnet: Option<String>,
    pub instance_type: Option<String>,
}

/// The places that had no capacity, in the order in which that was found.
#[derive(Debug, Default)]
pub struct InsufficientCapacity {
    found: Vec<(Place, Instant)>,
}

impl InsufficientCapacity {
    /// EC2 had no capacity for these, just now.
    pub fn note(&mut self, places: Vec<Place>, now: Instant) {
        self.found.retain(|(known, _)| !places.contains(known));
        self.found.extend(places.into_iter().map(|place| (place, now)));
    }

    /// The places that had none lately; the longest ago first.
    pub fn lately(&mut self, now: Instant) -> Vec<Place> {
        self.found
            .retain(|(_, at)| now.saturating_duration_since(*at) < REMEMBERED);
        self.found.iter().map(|(place, _)| place.clone()).collect()
    }
}

/// `places` in their order, but those of `short` at the end, in the order of `short`: what failed
/// longest ago is the likeliest to have come back.
pub fn sort(places: &mut [Place], short: &[Place]) {
    let rank = |place: &Place| short.iter().position(|s| s == place).map_or(0, |at| at + 1);
    places.sort_by_key(rank);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        let (subnet, instance_type) = text.split_once(' ').unwrap();
        let given = |word: &str| (word != "-").then(|| word.to_string());
        Place {
            subnet: given(subnet),
            instance_type: given(instance_type),
        }
    }

    fn places(list: &[&str]) -> Vec<Place> {
        list.iter().map(|text| place(text)).collect()
    }

    #[test]
    fn what_failed_comes_last_and_what_failed_longest_ago_first_of_it() {
        let now = Instant::now();
        let mut shortages = InsufficientCapacity::default();
        let all = ["- -", "s2 -", "- t2", "s2 t2"];
        let order = |shortages: &mut InsufficientCapacity, now| {
            let mut sorted = places(&all);
            sort(&mut sorted, &shortages.lately(now));
            sorted
        };
        assert_eq!(order(&mut shortages, now), places(&all));
        shortages.note(places(&["- -", "s2 -"]), now);
        assert_eq!(
            order(&mut shortages, now),
            places(&["- t2", "s2 t2", "- -", "s2 -"])
        );
        // Found again: then the other one is the older failure.
        let later = now + REMEMBERED / 2;
        shortages.note(places(&["- t2", "s2 t2", "- -"]), later);
        assert_eq!(
            order(&mut shortages, later),
            places(&["s2 -", "- t2", "s2 t2", "- -"])
        );
        // The oldest is forgotten, then all.
        assert_eq!(
            order(&mut shortages, now + REMEMBERED),
            places(&["s2 -", "- t2", "s2 t2", "- -"])
        );
        assert_eq!(shortages.lately(now + REMEMBERED).len(), 3);
        assert_eq!(order(&mut shortages, later + REMEMBERED), places(&all));
        assert_eq!(shortages.found, Vec::new());
    }

    #[test]
    fn places_that_are_no_longer_set_do_not_matter() {
        let mut sorted = places(&["- -", "s2 -"]);
        sort(&mut sorted, &places(&["s9 -", "- t9"]));
        assert_eq!(sorted, places(&["- -", "s2 -"]));
    }
}
