//! The masters as a node sees them: who is connected, which leases it holds, and what they set.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::step::{Action, LinkId};
use crate::core::protocol::FromNode;

/// Between two `LOAD`s, unless the node holds a lease shorter than three of these.
pub const HEARTBEAT: Duration = Duration::from_secs(5);
/// Masters whose files differ for longer than this are said.
const DIFFER: Duration = Duration::from_secs(60);

/// A lease as its holder sees it.
#[derive(Debug, Clone)]
pub struct Held {
    id: String,
    length: Duration,
    expires: Instant,
    /// How many machines may be launched under it.
    machines: u32,
    /// How many are on their way by this master's word, and so not among those: by `HOSTS` of its report.
    pub booting: u32,
}

/// What a master answers, by the words of the protocol: `PING` by `PONG`, the others by `GRANT` or `WAIT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    Ping,
    Scale,
    Retire,
    Hold,
}

/// A master that answers at all leaves fewer open.
const MOST_AWAITED: usize = 64;

/// One master.
#[derive(Debug, Default)]
pub struct Master {
    link: Option<LinkId>,
    pub lease: Option<Held>,
    /// What it has not answered yet, and when that was asked, the oldest first: it answers in order.
    awaited: VecDeque<(Question, Instant)>,
    /// The lease that was given back last. It answers every question until it has heard of that with it.
    finished: Option<String>,
    /// Another node that changes the cluster.
    pub other: Option<String>,
    /// What could not be sent because the connection was lost.
    owed: Vec<FromNode>,
    /// How many serve, by its last word.
    pub up: Option<u32>,
}

impl Master {
    fn leased(&self, now: Instant) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.expires > now)
    }

    /// A lease ended: another node's, or else this one's, which ran out.
    pub fn lease_ended(&mut self, node: &str) {
        if self.other.take_if(|other| other == node).is_none() {
            self.lease = None;
        }
    }

    fn asked(&mut self, question: Question, now: Instant) {
        if self.awaited.len() < MOST_AWAITED {
            self.awaited.push_back((question, now));
        }
    }

    /// Takes out the oldest question of a kind, which is answered. What was asked before it gets no answer
    /// any more.
    fn answered(&mut self, kind: impl Fn(Question) -> bool) -> Option<(Question, Instant)> {
        let at = self.awaited.iter().position(|(question, _)| kind(*question))?;
        self.awaited.drain(..=at).next_back()
    }

    fn finish(&mut self, lease: String, ok: bool, launched: u32, text: &str, out: &mut Vec<Action>) {
        self.finished = Some(lease.clone());
        let finish = FromNode::Finish {
            lease,
            ok,
            launched,
            text: text.into(),
        };
        match self.link {
            Some(link) => out.push(Action::Send(link, finish)),
            None => self.owed.push(finish),
        }
    }

    /// `PONG`: the heartbeat before it has arrived, and renewed the lease there.
    pub fn heard_pong(&mut self) {
        if let Some((_, sent)) = self.answered(|question| question == Question::Ping)
            && let Some(lease) = &mut self.lease
        {
            lease.expires = sent + lease.length;
        }
    }
}

/// What one master's file sets of `[scaling]`.
#[derive(Debug, Default)]
struct Settings {
    /// As it comes in, up to the bare `SET`.
    coming: Vec<(String, String)>,
    whole: Option<Vec<(String, String)>>,
}

/// By name, which is also the order in which they are asked.
#[derive(Debug, Default)]
pub struct Masters {
    by_name: BTreeMap<String, Master>,
    /// Their last word holds while they are away.
    settings: BTreeMap<String, Settings>,
    /// Since when they differ; `None` as well once that has been said.
    differ_since: Option<Instant>,
    differ_said: bool,
}

impl Masters {
    /// A master has been greeted. Says what it has to hear first, or `None` where there is a
    /// connection to it already.
    pub fn connected(&mut self, link: LinkId, name: &str, now: Instant) -> Option<Vec<FromNode>> {
        let master = self.by_name.entry(name.into()).or_default();
        if master.link.is_some() {
            return None;
        }
        master.link = Some(link);
        if master.lease.is_some() {
            master.asked(Question::Hold, now);
        }
        let mut first = std::mem::take(&mut master.owed);
        first.extend(master.lease.as_ref().map(|lease| FromNode::Hold {
            lease: lease.id.clone(),
        }));
        self.settings.entry(name.into()).or_default().coming.clear();
        Some(first)
    }

    /// The connection is gone; the master's name. A lease on it lasts until its time is over.
    pub fn disconnected(&mut self, link: LinkId) -> Option<String> {
        let (name, master) = self.on(link)?;
        *master = Master {
            lease: master.lease.take(),
            owed: std::mem::take(&mut master.owed),
            ..Master::default()
        };
        if master.lease.is_none() && master.owed.is_empty() {
            self.by_name.remove(&name);
        }
        Some(name)
    }

    /// The master on `link`, and its name.
    pub fn on(&mut self, link: LinkId) -> Option<(String, &mut Master)> {
        let mut all = self.by_name.iter_mut();
        let found = all.find(|(_, master)| master.link == Some(link));
        found.map(|(name, master)| (name.clone(), master))
    }

    /// How many are connected.
    pub fn connected_count(&self) -> usize {
        self.by_name
            .values()
            .filter(|master| master.link.is_some())
            .count()
    }

    /// `GRANT` or `WAIT` of this master has come: to which question, and when was that asked?
    pub fn answered(&mut self, name: &str) -> Option<(Question, Instant)> {
        let master = self.by_name.get_mut(name)?;
        master.answered(|question| question != Question::Ping)
    }

    /// The first connected master, by name, that has not granted a lease: it is asked next.
    pub fn ask_next(&mut self, question: Question, now: Instant) -> Option<(String, LinkId)> {
        self.by_name
            .iter_mut()
            .find_map(|(name, master)| match (master.link, &master.lease) {
                (Some(link), None) => {
                    master.asked(question, now);
                    Some((name.clone(), link))
                }
                _ => None,
            })
    }

    /// Does any master know of another node that changes the cluster?
    pub fn other_is_at_it(&self) -> bool {
        self.by_name.values().any(|master| master.other.is_some())
    }

    /// Takes a grant that was asked for at `since`: counted from then, it ends here no later than
    /// there.
    pub fn granted(&mut self, name: &str, id: String, length: Duration, machines: u32, since: Instant) {
        if let Some(master) = self.by_name.get_mut(name) {
            master.lease = Some(Held {
                id,
                length,
                expires: since + length,
                machines,
                booting: 0,
            });
        }
    }

    /// The largest number that a grant with time left named, and the largest that its master has the
    /// cluster need beyond what serves.
    pub fn machines(&self, now: Instant) -> (u32, u32) {
        let leases = || self.by_name.values().filter_map(|master| master.lease.as_ref());
        let leases = || leases().filter(|lease| lease.expires > now);
        let granted = leases().map(|lease| lease.machines).max();
        let missing = leases().map(|lease| lease.machines + lease.booting).max();
        (granted.unwrap_or(0), missing.unwrap_or(0))
    }

    /// The connections of masters that granted.
    pub fn grantors(&self) -> Vec<LinkId> {
        let granted = self.by_name.values().filter(|master| master.lease.is_some());
        granted.filter_map(|master| master.link).collect()
    }

    /// Gives back a lease that this master has granted and that is of no use any more.
    pub fn refuse(&mut self, name: &str, lease: String, text: &str, out: &mut Vec<Action>) {
        if let Some(master) = self.by_name.get_mut(name) {
            master.finish(lease, false, 0, text, out);
        }
    }

    /// Has the lease `id` been given back to this master?
    pub fn gave_back(&self, name: &str, id: &str) -> bool {
        let master = self.by_name.get(name);
        master.is_some_and(|master| master.finished.as_deref() == Some(id))
    }

    /// Is the lease `id` of this master held here?
    pub fn holds(&self, name: &str, id: &str) -> bool {
        let lease = self.by_name.get(name).and_then(|master| master.lease.as_ref());
        lease.is_some_and(|lease| lease.id == id)
    }

    /// The leases that have time left: their masters' names and their own.
    #[cfg(test)]
    pub fn leases(&self, now: Instant) -> impl Iterator<Item = (&str, &str)> {
        self.by_name.iter().filter_map(move |(name, master)| {
            let lease = master.lease.as_ref().filter(|lease| lease.expires > now)?;
            Some((name.as_str(), lease.id.as_str()))
        })
    }

    /// Forgets the lease of one master; was there one?
    pub fn lost(&mut self, name: &str) -> bool {
        self.by_name
            .get_mut(name)
            .is_some_and(|master| master.lease.take().is_some())
    }

    /// Is any lease held?
    pub fn any_lease(&self) -> bool {
        self.by_name.values().any(|master| master.lease.is_some())
    }

    /// How many grants are held, each with time left.
    pub fn granted_count(&self, now: Instant) -> usize {
        self.by_name.values().filter(|master| master.leased(now)).count()
    }

    /// May an irreversible step be taken: every connected master's grant is there, one at least,
    /// and each has time left?
    pub fn may_act(&self, now: Instant) -> bool {
        self.by_name.values().any(|master| master.leased(now))
            && self
                .by_name
                .values()
                .all(|master| master.leased(now) || master.link.is_none())
    }

    /// Forgets leases whose time is over.
    pub fn drop_expired(&mut self, now: Instant) {
        for master in self.by_name.values_mut() {
            master.lease.take_if(|lease| lease.expires <= now);
        }
    }

    /// `LOAD` to every master, and a `PING` whose answer shows that it arrived. Returns how long
    /// until the next.
    pub fn heartbeat(&mut self, load: Option<f64>, now: Instant, out: &mut Vec<Action>) -> Duration {
        let mut interval = HEARTBEAT;
        for master in self.by_name.values_mut() {
            if let Some(lease) = &master.lease {
                interval = interval.min(lease.length / 3);
            }
            let Some(link) = master.link else { continue };
            if load.is_some() || master.lease.is_some() {
                out.push(Action::Send(link, FromNode::Load(load.unwrap_or(0.0))));
            }
            out.push(Action::Send(link, FromNode::Ping));
            master.asked(Question::Ping, now);
        }
        // An absent master is remembered for as long as something may still be due to it.
        self.by_name
            .retain(|_, master| master.link.is_some() || master.leased(now) || !master.owed.is_empty());
        interval
    }

    /// `FINISH` to every master that granted.
    pub fn give_back(&mut self, ok: bool, launched: u32, text: &str, out: &mut Vec<Action>) {
        for master in self.by_name.values_mut() {
            if let Some(lease) = master.lease.take() {
                master.finish(lease.id, ok, launched, text, out);
            }
        }
    }

    /// To every master that is connected.
    pub fn tell_all(&self, message: &FromNode, out: &mut Vec<Action>) {
        let links = self.by_name.values().filter_map(|master| master.link);
        out.extend(links.map(|link| Action::Send(link, message.clone())));
    }

    /// `SET`: a key and its value, or the end of them. Returns what to go by if that has changed: the
    /// first master by name counts.
    pub fn set(
        &mut self,
        name: &str,
        pair: Option<(String, String)>,
        now: Instant,
    ) -> Option<(String, Vec<(String, String)>)> {
        let before = self.in_force();
        let settings = self.settings.entry(name.into()).or_default();
        match pair {
            Some(pair) => settings.coming.push(pair),
            None => settings.whole = Some(std::mem::take(&mut settings.coming)),
        }
        let mut known = self.settings.values().filter_map(|s| s.whole.as_ref());
        let first = known.next();
        let differ = known.any(|other| Some(other) != first);
        match differ {
            true => _ = self.differ_since.get_or_insert(now),
            false => (self.differ_since, self.differ_said) = (None, false),
        }
        let after = self.in_force();
        after.filter(|after| Some(after) != before.as_ref())
    }

    /// Whose word counts, and what it is.
    fn in_force(&self) -> Option<(String, Vec<(String, String)>)> {
        let said = |(name, s): (&String, &Settings)| Some((name.clone(), s.whole.clone()?));
        self.settings.iter().find_map(said)
    }

    /// When [`Masters::differ`] has something to say.
    pub fn differ_deadline(&self) -> Option<Instant> {
        self.differ_since
            .filter(|_| !self.differ_said)
            .map(|since| since + DIFFER)
    }

    /// Masters whose files have differed for a minute; said once.
    pub fn differ(&mut self, now: Instant) -> Option<String> {
        if self.differ_deadline().is_none_or(|at| now < at) {
            return None;
        }
        self.differ_said = true;
        let mut known = self.settings.iter().filter(|(_, s)| s.whole.is_some());
        let (first, theirs) = known.next()?;
        let (other, _) = known.find(|(_, s)| s.whole != theirs.whole)?;
        Some(format!(
            "master {other} sets other keys of [scaling] than {first}, which counts; make their files the same"
        ))
    }
}
