//! What a node asks a master for, and what it is answered: by the holder, the back-off, and the cooldowns,
//! which `--force` passes over.

use std::time::{Duration, Instant};

use super::{Arbiter, PeerId};
use crate::core::protocol::Reason;

/// What a node asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// `SCALE`: add machines.
    Grow,
    /// `RETIRE`: leave.
    Leave,
}

impl Wish {
    pub const ALL: [Wish; 2] = [Wish::Grow, Wish::Leave];

    /// The verb that asks for it, in `REPORT` and on the disk.
    pub fn verb(self) -> &'static str {
        match self {
            Wish::Grow => "SCALE",
            Wish::Leave => "RETIRE",
        }
    }

    /// What the verb asks for.
    pub fn of_verb(verb: &str) -> Option<Wish> {
        Wish::ALL.into_iter().find(|wish| wish.verb() == verb)
    }
}

/// How it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    pub wish: Wish,
    /// By hand, over cooldowns.
    pub force: bool,
    /// By hand: so many machines. `SCALE 0` asks to put things right, with no machine more.
    pub machines: Option<usize>,
}

impl Ask {
    /// As the load makes a node ask.
    pub fn plain(wish: Wish) -> Ask {
        Ask {
            wish,
            force: false,
            machines: None,
        }
    }
}

/// What a lease is to be granted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// How many machines may be launched.
    pub machines: usize,
    /// It is the one machine more for a hot one.
    pub hot: bool,
}

impl Share {
    pub const NONE: Share = Share {
        machines: 0,
        hot: false,
    };
}

/// A refusal: why, and how long to wait before asking again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    pub wait: Duration,
}

/// Says no, for `reason`, and to ask again after `wait`.
pub fn refuse<T>(reason: Reason, wait: Duration) -> Result<T, Refusal> {
    Err(Refusal { reason, wait })
}

impl Arbiter {
    /// What `peer` would get, or be refused for.
    pub fn verdict(
        &self,
        ask: Ask,
        share: Result<Share, Refusal>,
        peer: PeerId,
        now: Instant,
    ) -> Result<Share, Refusal> {
        let until = |reason, until: Instant| match until > now {
            true => refuse(reason, until - now),
            false => Ok(()),
        };
        until(Reason::Starting, self.starting_until)?;
        match &self.lease {
            // Asked twice by its holder: it has it.
            Some(lease) if lease.bearer == Some(peer) && lease.wish == ask.wish => return Ok(lease.share),
            Some(lease) => return refuse(Reason::Holder, lease.expires.saturating_duration_since(now)),
            None => {}
        }
        if ask.machines == Some(0) {
            return Ok(Share::NONE);
        }
        let (back_off, _) = self.failing(ask.wish, now);
        until(Reason::Failing, now + back_off)?;
        let cooldown = match ask.wish {
            Wish::Grow => self.grow_after,
            Wish::Leave => self.leave_after,
        };
        if !ask.force {
            until(Reason::Cooldown, cooldown)?;
        }
        let share = share?;
        if share.hot && !ask.force {
            until(Reason::Cooldown, self.hot_after)?;
        }
        Ok(share)
    }
}
