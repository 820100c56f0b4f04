//! The words between the daemon's mind and its hands: what to do, and what came of it.

use std::time::Duration;

use super::insufficient_capacity::Place;
use crate::core::plan::{Machine, Survey};
use crate::core::protocol::FromNode;
use crate::error::Error;

/// One connection to a master, numbered by whoever made it.
pub type LinkId = u64;

/// What a survey is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To see whether all is as it should be, beside whatever else is done.
    Look,
    /// To decide, with the lease.
    Lease,
}

/// Slow work for the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ask EC2 for the cluster's instances and, side by side, every HAProxy host for its listing with
    /// its states; then EC2 for the ids that it does not list, and the health of those that no
    /// HAProxy lists. `myself`: no witness, if there is another one.
    Survey {
        purpose: Purpose,
        myself: Option<Machine>,
    },
    /// Would each HAProxy host take a machine: does its `generate --check` pass?
    Check,
    /// Launch so many, or fewer where EC2 has no more. `short`: what to try last, for want of capacity
    /// before.
    Launch {
        count: u32,
        fleet: Vec<String>,
        short: Vec<Place>,
    },
    /// A group was told to launch so many: wait until it tells which, beyond those of `fleet`.
    Find {
        count: u32,
        fleet: Vec<String>,
        time: Duration,
    },
    /// Wait until it runs, has an address and passes the health check.
    Boot { machine: Machine, time: Duration },
    /// Enter it into these HAProxy hosts, side by side. `by_plan`: not where it was removed within
    /// `boot_timeout`.
    Enter {
        machine: Machine,
        servers: Vec<String>,
        by_plan: bool,
    },
    /// Wait until a HAProxy has it UP, or until none can say. It fails as busy where nobody can tell,
    /// and as a fault of configuration where no HAProxy lists it.
    Confirm { machine: Machine, time: Duration },
    /// Remove an entry whose instance is gone.
    Remove { server: String, name: String },
    /// Terminate an instance.
    Terminate { id: String },
    /// Find out which machine this is, whether autoscaler may end it, and whether EC2 would let it.
    Identify,
    /// Drain a machine in these HAProxy hosts and remove it there, side by side. `force`: even where
    /// nobody else is UP.
    Drain {
        machine: Machine,
        servers: Vec<String>,
        force: bool,
    },
    /// Terminate this machine.
    Depart { machine: Machine },
}

/// For each HAProxy host, how it went.
pub type Told = Vec<(String, Result<(), Error>)>;

/// What came of a [`Step`].
#[derive(Debug, Clone)]
pub enum Outcome {
    Surveyed(Purpose, Result<Survey, Error>),
    Checked(Told),
    Launched(Launched),
    Found(Result<Vec<Machine>, Error>),
    Booted(Machine, Result<(), Error>),
    Entered(Machine, Told),
    Confirmed(Machine, Result<(), Error>),
    Removed {
        server: String,
        name: String,
        result: Result<(), Error>,
    },
    Terminated(String, Result<(), Error>),
    Identified(Result<Machine, Error>),
    Drained(Machine, Told),
    Departed(Machine, Result<(), Error>),
}

/// What came of a launch: some may have come although others failed.
#[derive(Debug, Clone, Default)]
pub struct Launched {
    pub machines: Vec<Machine>,
    /// How many more a group was told to launch; it does not say which yet.
    pub unnamed: u32,
    /// What EC2 had no capacity for.
    pub without: Vec<Place>,
    /// Why there are not as many as were asked for.
    pub error: Option<Error>,
}

/// Something for the caller to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Send(LinkId, FromNode),
    Run(Step),
    /// Go by these keys of `[scaling]`, which the file of this master sets, beside the node's own.
    Adopt {
        master: String,
        pairs: Vec<(String, String)>,
    },
    /// Tell the operator.
    Say(String),
    /// Tell whom `[notify]` names.
    Notify(Notice),
    /// What was asked for by hand is over.
    End(Result<(), Error>),
}

/// One event for `[notify]`: what people want to hear of without reading a log.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// `launched`, `failed`, `retired` or `blocked`.
    pub event: &'static str,
    /// The machine that came or left.
    pub machine: Option<Machine>,
    /// Why, in one line.
    pub reason: String,
}
