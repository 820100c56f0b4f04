//! What a master tells of itself: the answers to `STATUS` and `REPORT`.

use std::time::Instant;

use super::lease::{Ask, PeerId, Refusal, Wish};
use super::{FromMaster, Master, Output};
use crate::core::protocol::Reason;
use crate::core::protocol::facts::{line, word};
use crate::core::text::duration::seconds;

/// A peer that there never is.
const NOBODY: PeerId = 0;

impl Master {
    pub(super) fn status(&self, peer: PeerId, now: Instant, out: &mut Vec<Output>) {
        let mut send = |text| out.push(Output::Send(peer, FromMaster::Fact(text)));
        for (name, load) in self.loads.told(now) {
            let ago = now.saturating_duration_since(load.at).as_secs();
            send(format!("NODE {name} {:.0} {ago}", load.percent));
        }
        if let Some(lease) = self.arbiter.lease() {
            let left = seconds(lease.expires.saturating_duration_since(now));
            send(format!("LEASE {} {left}", lease.node));
        }
        let cooldown = self.arbiter.cooldown_left(now);
        if !cooldown.is_zero() {
            send(format!("COOLDOWN {}", seconds(cooldown)));
        }
        out.push(Output::Send(peer, FromMaster::End));
    }

    pub(super) fn report(&self, peer: PeerId, now: Instant, out: &mut Vec<Output>) {
        let mut send = |text: String| out.push(Output::Send(peer, FromMaster::Fact(line(&text))));
        let rules = self.arbiter.rules();
        let fleet = &self.fleet;
        send(format!(
            "HOSTS {} {} {} {} {} {}",
            fleet.entries.len(),
            rules.min_hosts,
            rules.max_hosts,
            fleet.up,
            fleet.down,
            self.arbiter.booting(now)
        ));
        let picture = self.picture(now);
        let (_, estimate) = picture.called_for();
        send(format!("NEED {} {estimate} {picture}", picture.missing()));
        if let Some(lease) = self.arbiter.lease() {
            let held = self
                .history
                .held(lease, now)
                .map_or("-".into(), |h| h.as_secs().to_string());
            let verb = lease.wish.verb();
            send(format!("HELD {verb} {held} {}", lease.share.machines));
        }
        for (wish, share) in [
            (Wish::Grow, self.growth(None, &picture, now)),
            (Wish::Leave, self.anybodys_departure(now)),
        ] {
            let (answer, left) = match self.arbiter.verdict(Ask::plain(wish), share, NOBODY, now) {
                Ok(_) => ("yes".into(), 0),
                Err(refusal) => (refusal.reason.to_string(), seconds(refusal.wait)),
            };
            send(format!("MAY {} {answer} {left}", wish.verb()));
        }
        for wish in Wish::ALL {
            let (left, in_a_row) = self.arbiter.failing(wish, now);
            if in_a_row > 0 {
                send(format!("BACKOFF {} {} {in_a_row}", wish.verb(), seconds(left)));
            }
        }
        if let Some((reason, since)) = self.progress.blocked(now) {
            send(format!("BLOCKED {reason} {}", since.as_secs()));
        }
        let progress = &self.progress;
        send(format!("MACHINES {} {}", progress.launched, progress.failed));
        for (step, took) in progress.steps() {
            send(format!("STEP {step} {}", took.as_secs()));
        }
        let seen = fleet.age(now);
        for entry in &fleet.entries {
            let dash = || String::from("-");
            send(format!(
                "ENTRY {} {} {} {} {} {} {}",
                word(&entry.name),
                word(&entry.address),
                entry.port.map_or_else(dash, |port| port.to_string()),
                entry.instance.as_deref().unwrap_or("-"),
                entry.state,
                entry.since.map_or_else(dash, |since| (since + seen).to_string()),
                self.node_of(entry.instance.as_deref()).unwrap_or("-"),
            ));
        }
        for (node, why) in self.loads.doubles(|peer| self.peers.contains_key(&peer), now) {
            send(format!("DOUBLE {node} {why}"));
        }
        for (node, refusal) in &self.refused.nodes {
            let ago = now.saturating_duration_since(refusal.at).as_secs();
            send(format!("REFUSED {node} {ago} {} {}", refusal.times, refusal.why));
        }
        for line in self.history.refusals() {
            send(format!("WAITS {line}"));
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
    pub(super) fn why(&self, refusal: &Refusal, wish: Wish, now: Instant) -> String {
        let rules = self.arbiter.rules();
        let holder = self.arbiter.lease().map_or("", |lease| lease.node.as_str());
        let (entries, booting) = (self.fleet.entries.len(), self.arbiter.booting(now));
        let left = seconds(refusal.wait);
        match refusal.reason {
            Reason::Holder => format!("holder, {holder} has the lease"),
            Reason::Full if self.arbiter.capped_until(now).is_some() => {
                "full, max_launches_per_day is reached".into()
            }
            Reason::Full if booting > 0 => {
                format!(
                    "full, {entries} entries and {booting} booting, max_hosts {}",
                    rules.max_hosts
                )
            }
            Reason::Full => format!("full, {entries} entries, max_hosts {}", rules.max_hosts),
            Reason::Booting => format!("booting, {}", self.picture(now)),
            Reason::Few => match self.fleet.up {
                up if up <= rules.min_hosts => format!("few, {up} serve, min_hosts {}", rules.min_hosts),
                _ => "few, nobody else serves and reports a load".into(),
            },
            Reason::Loaded => "loaded, the others could not take the load".into(),
            Reason::Failing if self.arbiter.failing(wish, now).0.is_zero() => {
                "failing, HAProxy has this node DOWN: its load asks for nothing".into()
            }
            Reason::Failing => format!("failing, back-off after failures, {left} s left"),
            reason @ (Reason::Cooldown | Reason::Starting) => format!("{reason}, {left} s left"),
        }
    }
}
