//! The words between the daemon's mind and its hands: what to do, and what came of it.

use std::time::Duration;

use super::Notice;
use crate::core::fleet::Survey;
use crate::core::protocol::FromNode;
use crate::core::shortage::Place;
use crate::error::Error;

/// One connection to a master, numbered by whoever made it.
pub type LinkId = u64;

/// A machine on its way into service or out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// EC2's id; `None` where a shell command made it.
    pub instance: Option<String>,
    /// Its address as HAProxy knows it; empty until it is known.
    pub host: String,
    pub port: u16,
}

impl Machine {
    /// How the log calls it.
    pub fn title(&self) -> &str {
        self.instance.as_deref().unwrap_or(&self.host)
    }
}

/// Slow work for the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ask EC2 for the cluster's instances and, if one is live, the HAProxy hosts for their lists.
    Survey,
    /// Terminate instances that never came into service.
    Clear { ids: Vec<String> },
    /// `short`: what to try last, for want of capacity before.
    Launch { fleet: Vec<String>, short: Vec<Place> },
    /// Wait until it runs, has an address and passes the health check.
    Boot { machine: Machine, time: Duration },
    /// Enter it into these HAProxy hosts, side by side.
    Enter { machine: Machine, servers: Vec<String> },
    /// The same for hosts that could not be reached before, beside whatever else is done.
    EnterLate { machine: Machine, servers: Vec<String> },
    /// It did not become healthy.
    Terminate { id: String },
    /// Find out which machine this is, and whether autoscaler may end it.
    Identify,
    /// Drain this machine in these HAProxy hosts and remove it there, side by side.
    Drain { machine: Machine, servers: Vec<String> },
    /// Terminate this machine.
    Depart { machine: Machine },
    /// Bring the HAProxy hosts to the same membership, after one of them was away, and see whether
    /// an instance was left behind.
    Repair,
}

/// For each HAProxy host, how it went.
pub type Told = Vec<(String, Result<(), Error>)>;

/// What came of a [`Step`].
#[derive(Debug, Clone)]
pub enum Outcome {
    Surveyed(Result<Survey, Error>),
    Cleared(Result<(), Error>),
    Launched(Result<Machine, Error>),
    /// The same, after EC2 had no capacity for these.
    LaunchedWithout(Vec<Place>, Result<Machine, Error>),
    Booted(Machine, Result<(), Error>),
    Entered(Machine, Told),
    EnteredLate(Machine, Told),
    Terminated(Result<(), Error>),
    Identified(Result<Machine, Error>),
    Drained(Machine, Told),
    Departed(Machine, Result<(), Error>),
    /// What was seen before, and what was done, a line each.
    Repaired(Result<(Survey, Vec<String>), Error>),
}

/// Something for the caller to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Send(LinkId, FromNode),
    Run(Step),
    /// Tell the operator.
    Say(String),
    /// Tell whom `[notify]` names.
    Notify(Notice),
    /// A scale-up or scale-down is over; only the commands wait for this.
    End(Result<(), Error>),
}
