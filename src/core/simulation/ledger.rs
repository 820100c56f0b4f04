//! What one master's lease has to be, by the rules alone: kept beside the real one, and compared
//! with it after each line.

use std::time::{Duration, Instant};

use crate::core::lease::{Lease, PeerId, Rules, Wish};
use crate::core::protocol::FromNode;

/// So many grants may have gone unsaved before a restart.
const MOST_UNSAVED: u64 = 1000;

#[derive(Debug, Clone)]
struct Held {
    id: String,
    node: String,
    wish: Wish,
    peer: Option<PeerId>,
    expires: Instant,
}

/// How many entries `hosts.d` has, how many it may have, and how few.
#[derive(Debug, Clone, Copy)]
pub struct Hosts {
    pub seen: usize,
    pub most: usize,
    pub least: usize,
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
    shrink_after: Instant,
    /// All of the above is on disk.
    saved: bool,
    /// Since it was written, the clocks that it is read by have not run as they should.
    clocks_jumped: bool,
    /// It was started from a disk that did not have all.
    forgot: bool,
    asked: Option<(Wish, String)>,
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
            shrink_after: now,
            saved: true,
            clocks_jumped: false,
            forgot: false,
            asked: None,
            held_before: None,
        }
    }

    pub fn saved(&mut self) {
        self.saved = true;
        self.clocks_jumped = false;
    }

    pub fn not_saved(&mut self) {
        self.saved = false;
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
            self.grow_after = now;
            self.shrink_after = now;
        }
        if !self.saved {
            self.forgot = true;
        }
        self.known_epoch = known_epoch;
        self.starting_until = if something { now + self.rules.lease } else { now };
        self.held = lease.map(|lease| Held {
            id: lease.id.clone(),
            node: lease.node.clone(),
            wish: lease.wish,
            peer: None,
            expires: now + self.rules.lease,
        });
        self.agree(lease)
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        self.asked = None;
        if let Some(held) = self.held.take_if(|held| held.expires <= now) {
            self.saved = false;
            if held.wish == Wish::Shrink {
                self.shrink_after = now + self.rules.scale_down_cooldown;
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
                    held.expires = now + self.rules.lease;
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
                        peer: None,
                        expires: now,
                    });
                }
                if let Some(held) = self.held.as_mut().filter(|held| is(held, &lease)) {
                    held.peer = Some(peer);
                    held.expires = now + self.rules.lease;
                    self.saved = false;
                }
            }
            Ok(FromNode::Finish { lease, ok, .. }) => {
                if let Some(held) = self.held.take_if(|held| is(held, &lease)) {
                    self.saved = false;
                    if ok {
                        self.cool_down(held.wish, now);
                    }
                }
            }
            Ok(FromNode::Scale { .. }) => self.asked = Some((Wish::Grow, node.into())),
            Ok(FromNode::Retire { .. }) => self.asked = Some((Wish::Shrink, node.into())),
            _ => {}
        }
    }

    fn cool_down(&mut self, wish: Wish, now: Instant) {
        let longer = self.rules.cooldown.max(self.rules.scale_down_cooldown);
        self.grow_after = now + self.rules.cooldown;
        self.shrink_after = match wish {
            Wish::Grow => now + longer,
            Wish::Shrink => now + self.rules.scale_down_cooldown,
        };
    }

    /// The line has been heard, and this is the lease now. True: it is a new one.
    pub fn heard(
        &mut self,
        lease: Option<&Lease>,
        hosts: Hosts,
        peer: PeerId,
        now: Instant,
    ) -> Result<bool, String> {
        let new = match (lease, &self.held, self.asked.take()) {
            (Some(lease), None, Some((wish, node))) => {
                self.granted(lease, wish, &node, hosts, peer, now)?;
                true
            }
            _ => false,
        };
        self.agree(lease).map(|()| new)
    }

    fn granted(
        &mut self,
        lease: &Lease,
        wish: Wish,
        node: &str,
        hosts: Hosts,
        peer: PeerId,
        now: Instant,
    ) -> Result<(), String> {
        let after = match wish {
            Wish::Grow => self.grow_after,
            Wish::Shrink => self.shrink_after,
        };
        let full = match wish {
            Wish::Grow => hosts.seen >= hosts.most,
            Wish::Shrink => hosts.seen <= hosts.least,
        };
        let wrong = if lease.node != node || lease.wish != wish {
            "to somebody else, or for something else, than was asked"
        } else if now < self.starting_until {
            "by a master that has just started"
        } else if now < after {
            "during the cooldown"
        } else if full {
            "although hosts.d says that there are as many machines as there may be, or as few"
        } else if lease.epoch <= self.last_epoch && !self.forgot {
            "with an epoch that was there before"
        } else {
            ""
        };
        if !wrong.is_empty() {
            return Err(format!("{} is granted {wrong}", lease.id));
        }
        self.last_epoch = lease.epoch;
        self.known_epoch = lease.epoch;
        self.saved = false;
        self.held = Some(Held {
            id: lease.id.clone(),
            node: node.into(),
            wish,
            peer: Some(peer),
            expires: now + self.rules.lease,
        });
        Ok(())
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
