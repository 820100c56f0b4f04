//! `blocked`: a need for machines that lasts, and what stands against it.

use std::time::Instant;

use super::{Node, Phase, seconds};

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
