//! What one master's lease has to be, by the rules alone: kept beside the real one, and compared
//! with it after each line.

mod grants;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::core::haproxy::listing::Listed;
use crate::core::haproxy::state::State;
use crate::core::master::lease::{Lease, PeerId, Rules, Wish};
use crate::core::protocol::{FromNode, NOT_NOW};

/// So many grants may have gone unsaved before a restart.
const MOST_UNSAVED: u64 = 1000;
/// Nobody renews a lease for longer.
const LONGEST: Duration = Duration::from_secs(3600);
const LONGEST_BACKOFF: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone)]
struct Held {
    id: String,
    node: String,
    wish: Wish,
    epoch: u64,
    peer: Option<PeerId>,
    expires: Instant,
    last: Instant,
}

/// What a node asks for.
#[derive(Debug, Clone)]
struct Asked {
    wish: Wish,
    node: String,
    force: bool,
    /// `SCALE 0`.
    repair: bool,
    /// So many, by hand.
    machines: Option<usize>,
}

/// Failures in a row, and until when they forbid another try.
#[derive(Debug, Clone, Copy)]
struct Failing {
    until: Instant,
    in_a_row: u32,
}

/// An entry as it is told from others.
type Key = (String, Option<String>);

fn key(entry: &Listed) -> Key {
    (entry.name.clone(), entry.instance.clone())
}

#[derive(Debug)]
pub struct Ledger {
    rules: Rules,
    held: Option<Held>,
    /// The latest epoch that was ever granted here.
    pub last_epoch: u64,
    /// The latest that the running master knows of.
    known_epoch: u64,
    starting_until: Instant,
    grow_after: Instant,
    leave_after: Instant,
    launching: Failing,
    leaving: Failing,
    /// Until when each machine counts that was launched and is not entered, and its lease's epoch.
    booting: Vec<(Instant, u64)>,
    failed_epoch: u64,
    /// The master may know of more that boot.
    unsure: bool,
    /// When each was launched of those that count for the day.
    launches: Vec<Instant>,
    /// The entries as the master saw them last.
    entries: Vec<Listed>,
    /// Those that came after others and have not served yet.
    pending: BTreeSet<Key>,
    looked: bool,
    /// All of the above is on disk; or all but a new lease is not.
    saved: bool,
    behind: bool,
    /// Since it was written, the clocks that it is read by have not run as they should.
    clocks_jumped: bool,
    /// It was started from a disk that did not have all.
    forgot: bool,
    asked: Option<Asked>,
    held_before: Option<String>,
}

impl Ledger {
    pub fn new(rules: Rules, now: Instant) -> Ledger {
        Ledger {
            rules,
            held: None,
            last_epoch: 0,
            known_epoch: 0,
            starting_until: now,
            grow_after: now,
            leave_after: now,
            launching: Failing {
                until: now,
                in_a_row: 0,
            },
            leaving: Failing {
                until: now,
                in_a_row: 0,
            },
            booting: Vec::new(),
            failed_epoch: 0,
            unsure: false,
            launches: Vec::new(),
            entries: Vec::new(),
            pending: BTreeSet::new(),
            looked: false,
            saved: true,
            behind: false,
            clocks_jumped: false,
            forgot: false,
            asked: None,
            held_before: None,
        }
    }

    pub fn saved(&mut self) {
        self.saved = true;
        self.behind = false;
        self.clocks_jumped = false;
    }

    /// The lease alone is on disk, behind what was there.
    pub fn noted(&mut self) {
        self.saved |= !self.behind;
    }

    pub fn not_saved(&mut self) {
        self.lags();
    }

    fn lags(&mut self) {
        self.saved = false;
        self.behind = true;
    }

    pub fn clocks_jump(&mut self) {
        self.clocks_jumped = true;
    }

    /// A master has started with what was on disk, which had `something` or not.
    pub fn started(
        &mut self,
        something: bool,
        known_epoch: u64,
        lease: Option<&Lease>,
        now: Instant,
    ) -> Result<(), String> {
        if let (true, Some(held), None) = (self.saved, &self.held, lease) {
            return Err(format!("the lease {} was on disk, and is forgotten", held.id));
        }
        if !self.saved || self.clocks_jumped {
            // It may not know of these.
            self.grow_after = now;
            self.leave_after = now;
            self.launching = Failing {
                until: now,
                in_a_row: 0,
            };
            self.leaving = self.launching;
            self.booting.clear();
            self.unsure = true;
            self.launches.clear();
        }
        self.looked = false;
        self.pending.clear();
        self.failed_epoch = 0;
        if !self.saved {
            self.forgot = true;
        }
        self.known_epoch = known_epoch;
        self.starting_until = if something { now + self.rules.lease } else { now };
        self.held = lease.map(|lease| Held {
            id: lease.id.clone(),
            node: lease.node.clone(),
            wish: lease.wish,
            epoch: lease.epoch,
            peer: None,
            expires: lease.expires.min(now + self.rules.lease),
            last: now + LONGEST,
        });
        self.agree(lease)
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        self.asked = None;
        if let Some(held) = self.held.take_if(|held| held.expires <= now) {
            self.lags();
            if held.wish == Wish::Leave {
                self.leave_after = now + self.rules.scale_down_cooldown;
            }
        }
    }

    /// A line is about to be heard.
    pub fn line(&mut self, line: &str, node: &str, peer: PeerId, now: Instant) {
        self.tick(now);
        self.held_before = self.held.as_ref().map(|held| held.id.clone());
        let is = |held: &Held, id: &str| held.id == id && held.node == node;
        match FromNode::parse(line) {
            Ok(FromNode::Load(_)) => {
                if let Some(held) = self.held.as_mut().filter(|held| held.peer == Some(peer)) {
                    held.expires = held.last.min(now + self.rules.lease);
                }
            }
            Ok(FromNode::Hold { lease }) => {
                let unsaved = self.held.is_none() && now < self.starting_until;
                let epoch = lease.split('-').next().and_then(|e| e.parse().ok()).unwrap_or(0);
                if unsaved
                    && self.forgot
                    && (self.known_epoch + 1..=self.known_epoch + MOST_UNSAVED).contains(&epoch)
                {
                    self.last_epoch = epoch;
                    self.known_epoch = epoch;
                    self.held = Some(Held {
                        id: lease.clone(),
                        node: node.into(),
                        wish: Wish::Grow,
                        epoch,
                        peer: None,
                        expires: now,
                        last: now + LONGEST,
                    });
                }
                if let Some(held) = self.held.as_mut().filter(|held| is(held, &lease)) {
                    held.peer = Some(peer);
                    held.expires = held.last.min(now + self.rules.lease);
                    self.lags();
                }
            }
            Ok(FromNode::Finish {
                lease,
                ok,
                launched,
                text,
            }) => {
                if let Some(held) = self.held.take_if(|held| is(held, &lease)) {
                    self.lags();
                    self.finished(&held, ok, launched as usize, &text, now);
                }
            }
            Ok(FromNode::Failed { machines, .. }) => {
                self.lags();
                let gone = self.take_booted(machines as usize, now);
                let newest = gone.iter().map(|(_, epoch)| *epoch).max();
                if newest.map_or(!self.unsure, |epoch| epoch > self.failed_epoch) {
                    self.launching.failed(self.rules.cooldown, now);
                }
                self.failed_epoch = self.failed_epoch.max(newest.unwrap_or(0));
            }
            Ok(FromNode::Scale { machines, force }) => {
                self.asked = Some(Asked {
                    wish: Wish::Grow,
                    node: node.into(),
                    force,
                    repair: machines == Some(0),
                    machines: machines.map(|n| n as usize),
                });
            }
            Ok(FromNode::Retire { force }) => {
                self.asked = Some(Asked {
                    wish: Wish::Leave,
                    node: node.into(),
                    force,
                    repair: false,
                    machines: None,
                });
            }
            _ => {}
        }
    }

    fn finished(&mut self, held: &Held, ok: bool, launched: usize, text: &str, now: Instant) {
        match held.wish {
            Wish::Grow if launched > 0 => {
                self.launches.extend(std::iter::repeat_n(now, launched));
                if ok {
                    let until = now + self.rules.boot_timeout;
                    self.booting
                        .extend(std::iter::repeat_n((until, held.epoch), launched));
                    self.cool_down(self.rules.cooldown.max(self.rules.scale_down_cooldown), now);
                } else {
                    self.launching.failed(self.rules.cooldown, now);
                }
            }
            Wish::Leave if ok => {
                self.leaving.in_a_row = 0;
                self.leaving.until = now;
                self.leave_after = now + self.rules.scale_down_cooldown;
            }
            Wish::Leave if !text.starts_with(NOT_NOW) => self.leaving.failed(self.rules.cooldown, now),
            _ => {}
        }
    }

    fn take_booted(&mut self, machines: usize, now: Instant) -> Vec<(Instant, u64)> {
        self.booting.retain(|(until, _)| *until > now);
        self.booting.drain(..machines.min(self.booting.len())).collect()
    }

    fn cool_down(&mut self, stay: Duration, now: Instant) {
        self.grow_after = self.grow_after.max(now + self.rules.cooldown);
        self.leave_after = self.leave_after.max(now + stay);
    }

    fn up(entries: &[Listed]) -> usize {
        let serves = |l: &&Listed| matches!(l.state, State::Up | State::Unknown);
        entries.iter().filter(serves).count()
    }

    /// The master has looked at its host.
    pub fn saw(&mut self, entries: &[Listed], now: Instant) {
        self.tick(now);
        let before = std::mem::replace(&mut self.entries, entries.to_vec());
        if !std::mem::replace(&mut self.looked, true) {
            return;
        }
        let known: BTreeSet<_> = before.iter().map(key).collect();
        let serves = |l: &Listed| matches!(l.state, State::Up | State::Unknown);
        let was_out = |l: &&Listed| before.iter().any(|b| key(b) == key(l) && !serves(b));
        let is_new = |l: &&Listed| !known.contains(&key(l)) || self.pending.contains(&key(l));
        let (serving, pending): (Vec<_>, Vec<_>) = entries.iter().filter(is_new).partition(|l| serves(l));
        let came = |l: &&Listed| !known.contains(&key(l)) && serves(l);
        let came_up = entries.iter().any(|l| came(&l))
            || entries
                .iter()
                .filter(|l| l.state == State::Up)
                .any(|l| was_out(&l));
        self.pending = pending.into_iter().map(key).collect();
        let served = serving.len();
        if served > 0 && !self.take_booted(served, now).is_empty() {
            self.lags();
        }
        if came_up && Ledger::up(entries) > Ledger::up(&before) {
            self.launching = Failing {
                until: now,
                in_a_row: 0,
            };
            self.cool_down(self.rules.cooldown, now);
            self.lags();
        }
    }

    /// The line has been heard, and this is the lease now. How many machines may be launched under
    /// it, if it is a new one to launch.
    pub fn heard(
        &mut self,
        lease: Option<&Lease>,
        peer: PeerId,
        now: Instant,
    ) -> Result<Option<usize>, String> {
        let new = match (lease, &self.held, self.asked.take()) {
            (Some(lease), None, Some(asked)) => {
                self.granted(lease, &asked, peer, now)?;
                Some(lease.share.machines).filter(|machines| *machines > 0)
            }
            _ => None,
        };
        self.agree(lease).map(|()| new)
    }

    /// Does the real one agree?
    pub fn agree(&self, lease: Option<&Lease>) -> Result<(), String> {
        let text = |id: &str, expires: Instant| format!("{id} until {expires:?}");
        let real = lease.map(|lease| text(&lease.id, lease.expires));
        let due = self.held.as_ref().map(|held| text(&held.id, held.expires));
        match (lease, &self.held) {
            (None, None) => Ok(()),
            (Some(lease), Some(held)) if lease.id == held.id && lease.expires == held.expires => Ok(()),
            _ => Err(format!("the lease is {real:?}, and has to be {due:?}")),
        }
    }

    /// What is on disk must not block for longer than a cooldown.
    pub fn blocks(&self, cooldown_left: Duration) -> Result<(), String> {
        match cooldown_left <= self.rules.cooldown {
            true => Ok(()),
            false => Err(format!("{cooldown_left:?} of cooldown left")),
        }
    }
}

impl Failing {
    fn failed(&mut self, cooldown: Duration, now: Instant) {
        let wait = cooldown * (1 << self.in_a_row.min(12));
        self.in_a_row += 1;
        self.until = now + wait.min(LONGEST_BACKOFF);
    }
}
