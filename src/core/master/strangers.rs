//! Connections that have not greeted yet. Anyone who reaches the port can open as many as he
//! likes, so that they are bounded in number, in time and in lines; those who are welcome are not.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::lease::PeerId;

/// How many there may be. The oldest makes room for the next: whoever means it has greeted by then.
pub const MOST: usize = 512;
/// Time to greet, enough for a person who works out the proof by hand.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Lines before the welcome; a node needs two.
const MOST_LINES: u32 = 32;

#[derive(Debug)]
struct Stranger {
    until: Instant,
    lines: u32,
}

/// Who they are, oldest first: peers are numbered as they come.
#[derive(Debug)]
pub struct Strangers {
    most: usize,
    known: BTreeMap<PeerId, Stranger>,
}

impl Strangers {
    pub fn new(most: usize) -> Strangers {
        Strangers {
            most,
            known: BTreeMap::new(),
        }
    }

    pub fn add(&mut self, peer: PeerId, now: Instant) {
        let until = now + PATIENCE;
        self.known.insert(peer, Stranger { until, lines: 0 });
    }

    /// It is welcome, or gone.
    pub fn remove(&mut self, peer: PeerId) {
        self.known.remove(&peer);
    }

    pub fn oldest(&self) -> Option<PeerId> {
        self.known.keys().next().copied()
    }

    pub fn is_full(&self) -> bool {
        self.known.len() >= self.most
    }

    /// Counts a line of `peer`. False: it was one too many.
    pub fn may_speak(&mut self, peer: PeerId) -> bool {
        self.known.get_mut(&peer).is_none_or(|stranger| {
            stranger.lines += 1;
            stranger.lines <= MOST_LINES
        })
    }

    /// One whose time is over.
    pub fn late(&self, now: Instant) -> Option<PeerId> {
        let (peer, stranger) = self.known.first_key_value()?;
        (stranger.until <= now).then_some(*peer)
    }

    /// When the next one will be late.
    pub fn deadline(&self) -> Option<Instant> {
        self.known.first_key_value().map(|(_, stranger)| stranger.until)
    }
}
