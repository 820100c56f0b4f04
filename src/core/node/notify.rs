//! What people want to hear of without reading a log: `[notify]`.

use std::time::Instant;

use super::{Action, Machine, Node, Phase, seconds};

/// One event for `[notify]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// `launched`, `failed`, `retired` or `blocked`.
    pub event: &'static str,
    /// The machine that came or left.
    pub machine: Option<Machine>,
    /// Why, in one line.
    pub reason: String,
}

/// The need for a machine.
#[derive(Debug, Default)]
pub struct Need {
    /// Why this node asked last.
    pub why: String,
    /// What stood against it last.
    pub against: String,
    since: Option<Instant>,
    /// That it is blocked has been told.
    told: bool,
}

impl Node {
    pub(super) fn notify(&mut self, event: &'static str, machine: Option<Machine>, reason: String) {
        self.out.push(Action::Notify(Notice {
            event,
            machine,
            reason,
        }));
    }

    /// After each sample: has the mean been at or over the threshold for `blocked_after`, without a
    /// scale-up that began here or ended anywhere? Each need is told of once.
    pub(super) fn look_at_need(&mut self, now: Instant) {
        let threshold = self.settings.threshold;
        // A scale-up that ends, here or elsewhere, empties the window.
        let mean = self.window.mean().filter(|mean| *mean >= threshold);
        let Some(mean) = mean.filter(|_| !matches!(self.phase, Phase::Working { .. })) else {
            (self.need.since, self.need.told) = (None, false);
            return;
        };
        let since = *self.need.since.get_or_insert(now);
        let (lasted, after) = (now.saturating_duration_since(since), self.settings.blocked_after);
        if self.need.told || after.is_zero() || lasted < after {
            return;
        }
        self.need.told = true;
        let against = match (self.has_master(), self.masters.other_is_at_it()) {
            (false, _) => "no master is connected",
            (true, true) => "another node changes the cluster",
            (true, false) => &self.need.against,
        };
        let lasted = seconds(lasted);
        let text = format!("CPU at {mean:.0}%, threshold {threshold:.0}%, for {lasted} s: {against}");
        self.say(format!("blocked: {text}"));
        self.notify("blocked", None, text);
    }
}
