//! What a daemon is after, how far it has come, and what holds it up.

use std::time::{Duration, Instant};

use super::masters::Question;
use super::{Machine, Step};
use crate::core::backoff::Backoff;
use crate::core::plan;
use crate::core::protocol::Reason;

/// After a failure, and the longest wait after many in a row.
pub(super) const FIRST_BACKOFF: Duration = Duration::from_secs(10);
pub(super) const LONGEST_BACKOFF: Duration = Duration::from_secs(3600);

/// The settings that decide.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Percent, over 0.
    pub threshold: f64,
    pub window: Duration,
    /// Percent; 0: never leave.
    pub scale_down_threshold: f64,
    pub scale_down_window: Duration,
    pub sample_interval: Duration,
    pub servers: Vec<String>,
    pub plan: plan::Rules,
    /// An Auto Scaling group launches, which would replace whoever ends otherwise.
    pub by_group: bool,
    /// How long a need may last before it is said to be blocked; zero: never.
    pub blocked_after: Duration,
}

/// What a lease is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// Launch what is missing.
    Grow,
    /// Terminate a machine that does not serve.
    Terminate,
    /// End this machine.
    Leave,
    /// Launch one for an old one, by hand, and then end that.
    Replace,
}

impl Aim {
    /// What a master is asked for it.
    pub(super) fn question(self) -> Question {
        match self {
            Aim::Leave => Question::Retire,
            Aim::Grow | Aim::Terminate | Aim::Replace => Question::Scale,
        }
    }
}

/// What a person asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    Grow {
        machines: u32,
        force: bool,
    },
    Leave {
        force: bool,
    },
    /// `new`: what serves for it, once that does.
    Replace {
        old: Machine,
        new: Option<Machine>,
    },
}

#[derive(Debug)]
pub(super) enum Phase {
    Idle,
    /// `asked` owes an answer since `since`.
    Asking {
        aim: Aim,
        asked: String,
        since: Instant,
    },
    /// Granted: the next sample has to say that leaving is still right.
    Resampling,
    /// A step runs, or begins at `next`.
    Working {
        aim: Aim,
        next: Option<(Instant, Box<Step>)>,
        /// How often a step has failed that is tried again.
        tries: u32,
        /// What follows once a HAProxy host would take a machine.
        launch: Option<Box<Step>>,
    },
    /// This machine has been terminated.
    Gone,
}

/// What holds up one kind of aim. A departure that failed holds up no scale-up, nor the reverse.
#[derive(Debug)]
pub(super) struct Pause {
    pub(super) until: Option<Instant>,
    /// What a master said about another node's lease is over with that lease; a pause that is firm
    /// (back-off, EC2's own cooldown) is not.
    pub(super) firm: bool,
    pub(super) backoff: Backoff,
    /// Why it was refused last; said once and not at every question.
    pub(super) refused: Option<Reason>,
}

impl Pause {
    pub(super) fn new() -> Pause {
        Pause {
            until: None,
            firm: false,
            backoff: Backoff::new(FIRST_BACKOFF, LONGEST_BACKOFF),
            refused: None,
        }
    }
}
