//! What a master sees of this HAProxy host: its entries and how HAProxy has them. Nodes hear of it
//! as `FLEET`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::{Master, Output, Stage};
use crate::core::haproxy::listing::Listed;
use crate::core::haproxy::state::State;
use crate::core::plan::DOWN_COUNTS;
use crate::core::protocol::FromMaster;

/// The entries of this host; none before it has been looked at.
#[derive(Debug, Default)]
pub struct Fleet {
    pub entries: Vec<Listed>,
    seen_at: Option<Instant>,
    /// Of those that have an instance.
    by_instance: BTreeMap<String, State>,
    /// How many serve, as far as can be said.
    pub up: usize,
    /// How many of them HAProxy has UP.
    known_up: usize,
    pub down: usize,
    /// Entries that came after others and have not served yet: they are on their way still.
    pending: BTreeSet<(String, Option<String>)>,
    /// HAProxy has an opinion of one of them at least.
    pub is_known: bool,
}

fn serves(state: State) -> bool {
    matches!(state, State::Up | State::Unknown)
}

/// The instance in the name `<host>/<instance id>`.
fn instance_of(node: &str) -> Option<&str> {
    node.rsplit_once('/').map(|(_, id)| id)
}

impl Fleet {
    fn new(listed: &[Listed], seen_at: Instant) -> Fleet {
        let count = |is: fn(State) -> bool| listed.iter().filter(|e| is(e.state)).count();
        let of_instance = |e: &Listed| Some((e.instance.clone()?, e.state));
        Fleet {
            by_instance: listed.iter().filter_map(of_instance).collect(),
            up: count(serves),
            known_up: count(|state| state == State::Up),
            down: count(|state| state == State::Down),
            pending: BTreeSet::new(),
            is_known: count(|state| state != State::Unknown) > 0,
            entries: listed.to_vec(),
            seen_at: Some(seen_at),
        }
    }

    /// How many seconds ago it was seen to be so.
    pub fn age(&self, now: Instant) -> u64 {
        self.seen_at
            .map_or(0, |at| now.saturating_duration_since(at).as_secs())
    }

    /// How many are DOWN for less than a minute, and served before: they may just be starting again.
    pub fn restarting(&self, now: Instant) -> usize {
        if self.down == 0 {
            return 0;
        }
        let age = self.age(now);
        let young = |since: u64| Duration::from_secs(since + age) < DOWN_COUNTS;
        let pending = |e: &&Listed| self.pending.contains(&(e.name.clone(), e.instance.clone()));
        let down = self.entries.iter().filter(|e| e.state == State::Down);
        down.filter(|e| young(e.since.unwrap_or(0)) && !pending(e))
            .count()
    }

    /// How HAProxy has the machine of `node`; `None` where no entry is known to be its.
    pub fn state_of(&self, node: &str) -> Option<State> {
        self.by_instance.get(instance_of(node)?).copied()
    }

    pub fn is_down(&self, node: &str) -> bool {
        self.state_of(node) == Some(State::Down)
    }

    /// May requests go to the machine of `node`?
    pub fn may_serve(&self, node: &str) -> bool {
        self.state_of(node).is_none_or(serves)
    }

    /// How many machines HAProxy has UP beside that of `node`.
    pub fn others_up(&self, node: &str) -> usize {
        let own = matches!(self.state_of(node), None | Some(State::Up));
        self.known_up.saturating_sub(usize::from(own))
    }

    /// `FLEET`; `None` before this host has been looked at.
    pub fn told(&self) -> Option<FromMaster> {
        self.seen_at.map(|_| FromMaster::Fleet {
            entries: self.entries.len().try_into().unwrap_or(u32::MAX),
            up: self.up.try_into().unwrap_or(u32::MAX),
        })
    }
}

/// An entry as it is told from others: HAProxy's name for it, and the machine.
fn key(entry: &Listed) -> (&str, Option<&str>) {
    (&entry.name, entry.instance.as_deref())
}

/// What is different from one look to the next.
struct Changes {
    came: usize,
    /// So many serve that came, now or before.
    came_to_serve: usize,
    went: usize,
    went_down: bool,
    /// One serves that did not, or that was not there.
    came_up: bool,
}

impl Changes {
    /// What is different `after`, which takes over who has yet to serve.
    fn between(before: &Fleet, after: &mut Fleet) -> Changes {
        let was: BTreeMap<_, State> = before.entries.iter().map(|e| (key(e), e.state)).collect();
        let mut changes = Changes {
            came: 0,
            came_to_serve: 0,
            went: 0,
            went_down: false,
            came_up: false,
        };
        for entry in &after.entries {
            let state = entry.state;
            let owned = (entry.name.clone(), entry.instance.clone());
            let is_new = !was.contains_key(&key(entry)) || before.pending.contains(&owned);
            match serves(state) {
                _ if !is_new => {}
                true => changes.came_to_serve += 1,
                false => _ = after.pending.insert(owned),
            }
            match was.get(&key(entry)) {
                None => {
                    changes.came += 1;
                    changes.came_up |= serves(state);
                }
                Some(before) => {
                    changes.went_down |= state == State::Down && *before != State::Down;
                    // A HAProxy that falls silent says nothing good of anyone.
                    changes.came_up |= state == State::Up && !serves(*before);
                }
            }
        }
        let kept = after.entries.len() - changes.came;
        changes.went = was.len().saturating_sub(kept);
        changes
    }
}

impl Master {
    /// This host's entries, and how its HAProxy has each, as of now.
    pub fn saw(&mut self, listed: &[Listed], now: Instant) -> Vec<Output> {
        let mut out = self.tick(now);
        let mut fleet = Fleet::new(listed, now);
        if self.fleet.seen_at.is_none() {
            self.fleet = fleet;
            self.join_entries();
            return out;
        }
        let changes = Changes::between(&self.fleet, &mut fleet);
        let before = std::mem::replace(&mut self.fleet, fleet);
        let fleet = &self.fleet;
        if fleet.told() != before.told() {
            out.extend(fleet.told().map(|message| Output::Tell {
                except: None,
                message,
            }));
        }
        let mut save = changes.came_to_serve > 0 && self.arbiter.entered(changes.came_to_serve, now);
        if save {
            self.progress.entered(now);
        }
        if changes.came_up && fleet.up > before.up {
            self.arbiter.serves(now);
            self.progress.serves(now);
            save = true;
        }
        if save {
            out.push(Output::Save);
        }
        if changes.came + changes.went > 0 {
            self.demands.resize(now);
        } else if fleet.up != before.up {
            self.demands.unsettle(now);
        }
        if changes.came + changes.went > 0 || changes.went_down {
            self.look(now, &mut out);
        }
        self.join_entries();
        out
    }

    /// So many requests have arrived at this HAProxy since its start; `None`: it can't be asked. To be
    /// called about once a second.
    pub fn requests(&mut self, total: Option<u64>, now: Instant) {
        let picture = self.picture(now);
        self.demands
            .observe(total, picture.serving, picture.mean, picture.threshold, now);
    }

    /// Marks the nodes that have entries, and forgets those that have ended.
    fn join_entries(&mut self) {
        let nodes = self.peers.values().filter_map(Stage::node);
        for node in nodes.filter(|node| self.fleet.state_of(node).is_some()) {
            self.loads.entered(node);
        }
        self.forget_ended();
    }

    /// Forgets the nodes whose entry and connection are gone.
    fn forget_ended(&mut self) {
        let connected: BTreeSet<&str> = self.peers.values().filter_map(Stage::node).collect();
        self.loads
            .forget_ended(|node| self.fleet.state_of(node).is_some() || connected.contains(node));
    }

    /// A connection of `node` has ended.
    pub(super) fn forget_if_ended(&mut self, node: &str) {
        if self.fleet.state_of(node).is_none() && self.loads.is_entered(node) {
            self.forget_ended();
        }
    }

    /// The node that reports from the machine `instance`.
    pub(super) fn node_of(&self, instance: Option<&str>) -> Option<&str> {
        let instance = instance?;
        self.loads
            .nodes()
            .find(|node| instance_of(node) == Some(instance))
    }
}
