//! What a master tells of itself: the answers to `STATUS` and `REPORT`.

use std::time::Instant;

use super::{FromMaster, Master, Output, is_known, seconds};
use crate::core::history;
use crate::core::lease::{PeerId, Refusal, Wish};
use crate::core::protocol::Reason;
use crate::core::report::line;

/// A peer that there never is.
const NOBODY: PeerId = 0;

impl Master {
    pub(super) fn status(&self, peer: PeerId, now: Instant, out: &mut Vec<Output>) {
        let mut send = |message| out.push(Output::Send(peer, message));
        for (name, (percent, at)) in self.loads.iter().filter(|(_, (_, at))| is_known(*at, now)) {
            send(FromMaster::Node {
                name: name.clone(),
                percent: *percent,
                seconds_ago: now.saturating_duration_since(*at).as_secs(),
            });
        }
        if let Some(lease) = self.arbiter.lease() {
            send(FromMaster::Lease {
                node: lease.node.clone(),
                seconds: seconds(lease.expires.saturating_duration_since(now)),
            });
        }
        let cooldown = self.arbiter.cooldown_left(now);
        if !cooldown.is_zero() {
            send(FromMaster::Cooldown {
                seconds: seconds(cooldown),
            });
        }
        send(FromMaster::End);
    }

    pub(super) fn report(&self, peer: PeerId, hosts: usize, now: Instant, out: &mut Vec<Output>) {
        let mut send = |text: String| out.push(Output::Send(peer, FromMaster::Fact(line(&text))));
        let rules = self.arbiter.rules();
        send(format!("HOSTS {hosts} {} {}", rules.min_hosts, rules.max_hosts));
        if let Some(lease) = self.arbiter.lease() {
            let held = self
                .history
                .held(lease, now)
                .map_or("-".into(), |h| h.as_secs().to_string());
            send(format!("HELD {} {held}", history::verb(lease.wish)));
        }
        for wish in [Wish::Grow, Wish::Shrink] {
            let full = self.full(wish, hosts, || {
                let mut nodes = self.loads.keys();
                self.loads.is_empty() || nodes.any(|node| self.others_have_room(node, now))
            });
            let (answer, left) = match self.arbiter.refusal(wish, NOBODY, full, now) {
                None => ("yes".into(), 0),
                Some(refusal) => (refusal.reason.to_string(), seconds(refusal.wait)),
            };
            send(format!("MAY {} {answer} {left}", history::verb(wish)));
        }
        for line in self.history.counts() {
            send(format!("COUNT {line}"));
        }
        for (age, line) in self.history.lines(now) {
            send(format!("DECISION {} {line}", age.as_secs()));
        }
        out.push(Output::Report(peer));
    }

    /// A refusal for those who read of it later.
    pub(super) fn why(&self, refusal: &Refusal, wish: Wish, hosts: usize) -> String {
        let rules = self.arbiter.rules();
        let holder = self.arbiter.lease().map_or("", |lease| lease.node.as_str());
        match (refusal.reason, wish) {
            (Reason::Holder, _) => format!("holder, {holder} has the lease"),
            (Reason::Full, Wish::Grow) if hosts < rules.max_hosts => {
                "full, max_launches_per_day is reached".into()
            }
            (Reason::Full, Wish::Grow) => format!("full, {hosts} entries, max_hosts {}", rules.max_hosts),
            (Reason::Full, Wish::Shrink) if hosts <= rules.min_hosts => {
                format!("full, {hosts} entries, min_hosts {}", rules.min_hosts)
            }
            (Reason::Full, Wish::Shrink) => "full, the others could not take the load".into(),
            (reason, _) => format!("{reason}, {} s left", seconds(refusal.wait)),
        }
    }
}
