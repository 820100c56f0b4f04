//! What happens in a world, and to whom.

use super::Ms;
use super::calls::{Call, Reply};
use super::network::Side;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Daemon(usize),
    Master(usize),
}

#[derive(Debug)]
pub enum Event {
    Tick(Who, u32),
    Sample(usize, u32),
    /// The daemon looks for masters.
    Look(usize, u32),
    Arrive(usize, Side),
    Silence(usize, Side),
    Retry(usize, u32),
    Effect(Call),
    Answer(usize, u32, Reply),
    /// Who has not answered yet is out of reach.
    Behind(usize, u32),
    Poll(usize),
    /// The master looks at `hosts.d` and its HAProxy.
    Entries(usize, u32),
    /// HAProxy checks the server of an entry.
    Check(usize, u64),
    /// The app of a machine comes or goes.
    Health(usize),
    /// The drain of an entry is over, that an order began.
    Drained(usize, u64, Box<Call>),
    Start(Who),
    PowerOn(Who),
    PowerOff(usize),
    /// EC2 ends an instance by itself.
    Retire(usize),
    /// EC2 has said that it takes the machine back.
    Notice(usize),
    /// The app of a machine does not answer until then.
    Sick(usize, Ms),
    /// HAProxy tells otherwise than before.
    Touch(usize),
    /// A person puts an entry back into service.
    Ready(usize, u64),
    Resume(usize),
    Capacity(usize),
    Fault,
    Load,
    Inspect,
}

/// An event in the queue: the earlier first, and of one moment in their order.
pub struct Due {
    pub at: Ms,
    pub order: u64,
    pub event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}
