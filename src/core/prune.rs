//! Which entries of `hosts.d` go because their instance is gone.

use super::entry::Entry;
use super::membership::Cloud;

/// What to remove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub remove: Vec<Entry>,
    /// Would be removed as well, if it were not the last: HAProxy would have nobody left.
    pub spared: Option<Entry>,
}

/// Why nothing is removed although something seems to be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// EC2 lists no instance of the cluster: more likely the wrong account, Region or name.
    NoInstances,
    /// More than half of the entries at once, these ones.
    Many { names: Vec<String> },
}

/// Decides. `force`: more than half of the entries may go.
///
/// # Errors
/// What makes EC2's answer doubtful.
pub fn plan(entries: &[Entry], cloud: &Cloud, force: bool) -> Result<Plan, Refusal> {
    let ended = |e: &&Entry| e.instance().is_some_and(|id| cloud.has_ended(id));
    let mut remove: Vec<Entry> = entries.iter().filter(ended).cloned().collect();
    if remove.is_empty() {
        return Ok(Plan::default());
    }
    if cloud.instances.is_empty() {
        return Err(Refusal::NoInstances);
    }
    if 2 * remove.len() > entries.len() && !force {
        let names = remove.into_iter().map(|e| e.name).collect();
        return Err(Refusal::Many { names });
    }
    let spared = match remove.len() == entries.len() {
        true => remove.pop(),
        false => None,
    };
    Ok(Plan { remove, spared })
}

#[cfg(test)]
mod tests {
    use super::super::fleet::Instance;
    use super::*;
    use proptest::prelude::*;

    fn entry(name: &str, id: &str) -> Entry {
        Entry::parse(name, &format!("10.0.0.1 80 {id}")).unwrap()
    }

    fn instance(id: &str, live: bool) -> Instance {
        Instance {
            id: id.into(),
            live,
            gone: !live,
            address: None,
            launched_at: 0,
        }
    }

    fn cloud(live: &[&str], terminated: &[&str], gone: &[&str]) -> Cloud {
        let live = live.iter().map(|id| instance(id, true));
        Cloud {
            instances: live
                .chain(terminated.iter().map(|id| instance(id, false)))
                .collect(),
            gone: gone.iter().map(|id| (*id).into()).collect(),
        }
    }

    #[test]
    fn what_is_terminated_or_unknown_goes() {
        let entries = [
            entry("a", "-"),
            entry("b", "i-1"),
            entry("c", "i-2"),
            entry("d", "i-3"),
        ];
        let plan = plan(&entries, &cloud(&["i-1"], &["i-2"], &["i-3"]), false).unwrap();
        assert_eq!(plan.remove, entries[2..]);
        assert_eq!(plan.spared, None);
    }

    #[test]
    fn an_empty_answer_removes_nothing() {
        let entries = [entry("a", "i-1"), entry("b", "i-2"), entry("c", "i-3")];
        let empty = cloud(&[], &[], &["i-1"]);
        assert_eq!(plan(&entries, &empty, true), Err(Refusal::NoInstances));
        // Nobody is gone: then there is nothing to be in doubt of.
        assert_eq!(plan(&entries, &cloud(&[], &[], &[]), false), Ok(Plan::default()));
    }

    #[test]
    fn more_than_half_needs_force_and_the_last_stays_even_so() {
        let entries = [entry("a", "i-1"), entry("b", "i-2"), entry("c", "-")];
        let all = cloud(&[], &["i-1", "i-2"], &[]);
        let names = vec!["a".into(), "b".into()];
        assert_eq!(plan(&entries, &all, false), Err(Refusal::Many { names }));
        assert_eq!(plan(&entries, &all, true).unwrap().remove, entries[..2]);
        let spared = plan(&entries[..2], &all, true).unwrap();
        assert_eq!(
            (&spared.remove[..], spared.spared),
            (&entries[..1], Some(entries[1].clone()))
        );
        assert!(plan(&entries[..1], &all, true).unwrap().remove.is_empty());
        assert_eq!(
            plan(&entries[1..], &all, false).unwrap().remove,
            entries[1..2],
            "just half"
        );
    }

    fn ids() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec("i-[1-9]", 0..6)
    }

    proptest! {
        #[test]
        fn guards_hold_for_any_answer(
            entries in prop::collection::vec(prop_oneof![Just("-".to_string()), "i-[1-9]"], 0..8),
            live in ids(), terminated in ids(), unknown in ids(), force: bool,
        ) {
            let entries: Vec<Entry> =
                entries.iter().enumerate().map(|(n, id)| entry(&format!("s{n}"), id)).collect();
            let instances = live.iter().map(|id| instance(id, true));
            let instances = instances.chain(terminated.iter().map(|id| instance(id, false))).collect();
            let cloud = Cloud { instances, gone: unknown.clone() };
            let plan = plan(&entries, &cloud, force).unwrap_or_default();
            let removed = plan.remove.len();
            prop_assert!(plan.remove.iter().all(|e| entries.contains(e)));
            let has = |ids: &[String], id: &str| ids.iter().any(|other| other == id);
            let is_gone = |id: &str| !has(&live, id) && (has(&terminated, id) || has(&unknown, id));
            let right = plan.remove.iter().all(|entry| entry.instance().is_some_and(is_gone));
            prop_assert!(right);
            prop_assert!(force || 2 * removed <= entries.len());
            prop_assert!(removed == 0 || removed < entries.len());
            prop_assert!(removed == 0 || !cloud.instances.is_empty());
        }
    }
}
