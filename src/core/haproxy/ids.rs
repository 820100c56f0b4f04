//! The numbers of entries, `$ID` in `server_line`: HAProxy places servers by them where it hashes
//! consistently, so each entry keeps its own for its life.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::entry::Entry;

/// HAProxy multiplies them by 4096 in 32 bits: beyond this, two would share their places.
const MOST: u32 = (1 << 20) - 1;

/// A number from 1 to 1048575 for each of `entries`, by their names. What is `known` stays; a new
/// one follows from address and port, so that all HAProxy hosts come to the same.
pub fn assign(known: &BTreeMap<String, u32>, entries: &[Entry]) -> BTreeMap<String, u32> {
    let mut numbers = BTreeMap::new();
    let mut taken = BTreeSet::new();
    for entry in entries {
        if let Some(number) = known.get(&entry.name)
            && taken.insert(*number)
        {
            numbers.insert(entry.name.clone(), *number);
        }
    }
    for entry in entries {
        if !numbers.contains_key(&entry.name) {
            let mut number = first_choice(entry);
            while !taken.insert(number) {
                number = number % MOST + 1;
            }
            numbers.insert(entry.name.clone(), number);
        }
    }
    numbers
}

fn first_choice(entry: &Entry) -> u32 {
    let place = format!("{} {}", entry.address(), entry.port().unwrap_or(0));
    let hash = Sha256::digest(place);
    u32::from_be_bytes([0, hash[0], hash[1], hash[2]]) % MOST + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(count: u8) -> Vec<Entry> {
        let entry = |n| Entry::parse(&format!("app{n}"), &format!("10.0.0.{n} 80 -")).unwrap();
        (1..=count).map(entry).collect()
    }

    #[test]
    fn each_its_own_for_its_life() {
        let all = assign(&BTreeMap::new(), &entries(200));
        assert_eq!(all.values().collect::<BTreeSet<_>>().len(), 200);
        assert!(all.values().all(|n| (1..=MOST).contains(n)));
        // Others come and go, and an entry moves.
        assert_eq!(assign(&all, &entries(3))["app2"], all["app2"]);
        let moved = [Entry::parse("app2", "10.9.9.9 81 i-0a").unwrap()];
        assert_eq!(assign(&all, &moved)["app2"], all["app2"]);
        // On another host, with other names.
        let there = [Entry::parse("other", "10.0.0.2 80 i-0a").unwrap()];
        assert_eq!(assign(&BTreeMap::new(), &there)["other"], all["app2"]);
    }

    #[test]
    fn a_number_that_is_taken_or_doubled_is_passed_over() {
        let two = entries(2);
        let first = first_choice(&two[0]);
        let known = [("app2".to_string(), first)].into();
        assert_eq!(assign(&known, &two)["app1"], first % MOST + 1);
        let known = [("app1".to_string(), 7), ("app2".to_string(), 7)].into();
        let numbers = assign(&known, &two);
        assert!(numbers["app1"] == 7 && numbers["app2"] != 7);
    }
}
