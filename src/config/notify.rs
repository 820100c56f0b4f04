//! `[notify]`: who is told when the cluster changes or can't.

use std::fmt;
use std::time::Duration;

use super::parse::url;
use super::values::Values;
use crate::error::Error;

/// `[notify]`; an empty text is an unset key.
pub struct Notify {
    pub command: String,
    /// Often holds a token: as secret as the rest.
    pub webhook: String,
    /// For each of the two, over zero.
    pub timeout: Duration,
    /// Zero: never.
    pub blocked_after: Duration,
}

// Written out, so that no secret reaches a log through `{:?}`.
impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Notify {{ timeout: {:?}, .. }}", self.timeout)
    }
}

impl Notify {
    pub fn read(v: &Values) -> Result<Notify, Error> {
        let notify = Notify {
            command: v.text("notify", "command"),
            webhook: v.parsed("notify", "webhook", url)?,
            timeout: v.duration("notify", "timeout")?,
            blocked_after: v.duration("notify", "blocked_after")?,
        };
        match notify.timeout.is_zero() {
            true => Err(v.error("notify", "timeout", "must be over zero")),
            false => Ok(notify),
        }
    }
}
