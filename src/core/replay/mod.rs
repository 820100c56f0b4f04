//! A site replayed: the real [`Node`]s and the real [`Master`] on a clock of their own, under
//! the load of a trace. What is a model here, and not the program, is the load (shared among the
//! machines that serve, the excess lost), the launch (it never fails and takes its time)
//! and the wires (they lose nothing). A machine that leaves is gone at once.

mod boots;
mod chart;
mod cloudwatch;
mod formats;
mod json;
mod report;
mod timestamps;
mod trace;
mod world;

use std::time::Duration;

use crate::core::master::lease;
use crate::core::node::Settings;
pub use boots::Boots;
pub use chart::svg;
pub use formats::MOST_MACHINES;
pub use json::json;
pub use report::text;
pub use trace::{Trace, parse};
pub use world::run;

/// What the trace does not say.
#[derive(Debug, Clone)]
pub struct Model {
    /// At the beginning.
    pub machines: usize,
    pub boots: Boots,
    /// The master sees requests arrive, in proportion to the load, beyond 100% too.
    pub requests: bool,
    /// Percent by which the busiest machine is over the mean, and the idlest under it.
    pub spread: f64,
    /// Percent: how long the busiest machine was at it or over it is counted for all runs alike.
    pub yardstick: f64,
}

/// The settings of one run.
#[derive(Debug, Clone)]
pub struct Policy {
    /// How it differs from the others.
    pub title: String,
    /// The other settings that count most.
    pub details: String,
    pub node: Settings,
    pub master: lease::Rules,
}

impl Policy {
    /// What to compare with: nothing ever changes.
    pub fn without_scaling(&self) -> Policy {
        let mut policy = self.clone();
        policy.title = "without scaling".into();
        policy.node.threshold = f64::INFINITY;
        policy.node.scale_down_threshold = 0.0;
        policy
    }
}

/// Something that happened, at a time since the beginning.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub at: Duration,
    /// The machines before and after, those that boot included.
    pub from: usize,
    pub to: usize,
    pub why: String,
}

/// What came of a policy.
#[derive(Debug, Default)]
pub struct Run {
    pub title: String,
    pub details: String,
    /// Percent.
    pub threshold: f64,
    pub events: Vec<Event>,
    /// From when on how many machines served.
    pub serving: Vec<(Duration, usize)>,
    /// The busiest machine's load over the mean, as a share of it, where there are several.
    pub spread: f64,
    pub boots: Vec<Boot>,
    /// When the busiest machine was at the threshold or over it.
    pub over: Vec<(Duration, Duration)>,
    /// How long it was at [`Model::yardstick`] or over it.
    pub over_yardstick: Duration,
    /// When it had as much to do as it could, or more.
    pub full: Vec<(Duration, Duration)>,
    /// What there was to do, and what of it no machine had time for, in percent of one machine times
    /// seconds.
    pub work: f64,
    pub unmet: f64,
    /// Its highest load, in percent, over 100 where it had more to do than it could; and when.
    pub worst: (f64, Duration),
    pub peak: usize,
    /// From launch to the end of each machine, summed.
    pub machine_time: Duration,
}

/// One machine on its way.
#[derive(Debug, Clone, PartialEq)]
pub struct Boot {
    pub begin: Duration,
    pub end: Duration,
    /// How many machines there were before it, those that were to serve sooner included.
    pub level: usize,
}

impl Run {
    /// How often the machines became more, or fewer.
    pub fn changes(&self, up: bool) -> usize {
        let changed = |e: &&Event| if up { e.to > e.from } else { e.to < e.from };
        self.events.iter().filter(changed).count()
    }

    /// The share of the work that was not done, in percent.
    pub fn unmet_percent(&self) -> f64 {
        if self.work > 0.0 {
            100.0 * self.unmet / self.work
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests;
