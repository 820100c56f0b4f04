//! The master's side of the protocol: lines in, lines out. Sockets, disk and clock are the
//! caller's, who carries out the [`Output`]s in their order.

mod greeting;
mod telling;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::duration::seconds;
use super::history::History;
use super::lease::{Arbiter, Lease, PeerId, Refusal, Wish, is_launch};
use super::protocol::{self, FromMaster, FromNode};
use super::strangers::{self, Strangers};

/// A node that has been silent for this long is no longer shown by `STATUS`.
const FORGET_NODE: Duration = Duration::from_secs(60);
/// Nodes whose load is kept. A name costs nothing to make up where there is no secret.
const MOST_LOADS: usize = 10_000;
/// A load older than three heartbeats says nothing of now.
const FRESH: Duration = Duration::from_secs(15);

/// Something for the caller to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    Send(PeerId, FromMaster),
    /// Send it to all who are [welcome](Master::welcome) but one. There may be thousands, and what
    /// comes before must not wait until it is spelt out for each.
    Tell {
        except: Option<PeerId>,
        message: FromMaster,
    },
    /// End the connection, after what was sent on it.
    Close(PeerId),
    /// Write the state to disk, before anything that follows.
    Save,
    /// Keep the state over the end of this process, before anything that follows: without waiting
    /// for the disk. `Save` comes later.
    Note,
    /// Tell the operator.
    Say(String),
    /// Send what only the caller knows of this host, and `END`.
    Report(PeerId),
}

/// How far a connection has come.
#[derive(Debug)]
enum Stage {
    /// Nothing said yet.
    New,
    Challenged {
        node: String,
        node_nonce: String,
        nonce: String,
    },
    Welcome {
        node: String,
    },
}

/// All that a master knows.
#[derive(Debug)]
pub struct Master {
    name: String,
    secret: String,
    pub arbiter: Arbiter,
    pub history: History,
    peers: BTreeMap<PeerId, Stage>,
    most_peers: usize,
    strangers: Strangers,
    /// Names whose proof was wrong, and that nobody has proved since.
    refused: BTreeSet<String>,
    /// Each node's last `LOAD`.
    loads: BTreeMap<String, (f64, Instant)>,
}

impl Master {
    /// `secret` empty: nodes need not prove themselves.
    pub fn new(name: String, secret: String, arbiter: Arbiter) -> Master {
        Master {
            name,
            secret,
            arbiter,
            history: History::default(),
            peers: BTreeMap::new(),
            most_peers: usize::MAX,
            strangers: Strangers::new(strangers::MOST),
            refused: BTreeSet::new(),
            loads: BTreeMap::new(),
        }
    }

    /// Those who have greeted.
    pub fn welcome(&self) -> impl Iterator<Item = PeerId> {
        let welcome = self
            .peers
            .iter()
            .filter(|(_, stage)| matches!(stage, Stage::Welcome { .. }));
        welcome.map(|(peer, _)| *peer)
    }

    /// What a message goes out as: to whom, and what.
    pub fn spelt_out(&self, output: Output) -> Vec<(PeerId, FromMaster)> {
        match output {
            Output::Send(peer, message) => vec![(peer, message)],
            Output::Tell { except, message } => {
                let peers = self.welcome().filter(|peer| Some(*peer) != except);
                peers.map(|peer| (peer, message.clone())).collect()
            }
            _ => Vec::new(),
        }
    }

    /// When [`Master::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let lease = self.arbiter.lease().map(|lease| lease.expires);
        lease.into_iter().chain(self.strangers.deadline()).min()
    }

    /// Ends a lease whose time is over, and connections that have not greeted in time.
    pub fn tick(&mut self, now: Instant) -> Vec<Output> {
        let mut out = Vec::new();
        if let Some(lease) = self.arbiter.expire(now) {
            self.history.ended(&lease, None, "", now);
            out.push(Output::Save);
            out.push(Output::Say(format!(
                "{}: the lease ran out without FINISH",
                lease.node
            )));
            self.say_if_capped(lease.wish, now, &mut out);
            // To the former holder too, which learns that it has to stop.
            out.push(Output::Tell {
                except: None,
                message: FromMaster::Finish { node: lease.node },
            });
        }
        while let Some(peer) = self.strangers.late(now) {
            self.dismiss(peer, "no greeting in time", &mut out);
        }
        out
    }

    /// One line from `peer`. `hosts` is the number of entries in `hosts.d`, `nonce` 16 fresh
    /// random bytes in hex.
    pub fn line(&mut self, peer: PeerId, line: &str, hosts: usize, nonce: &str, now: Instant) -> Vec<Output> {
        let mut out = self.tick(now);
        if !matches!(self.peers.get(&peer), Some(Stage::Welcome { .. })) {
            // Whom this very line makes welcome must not hear of what was before its WELCOME.
            for output in &mut out {
                if let Output::Tell { except, .. } = output {
                    *except = Some(peer);
                }
            }
        }
        if !self.strangers.may_speak(peer) {
            self.dismiss(peer, "too many lines before HELLO and AUTH", &mut out);
            return out;
        }
        match FromNode::parse(line) {
            Ok(message) => self.message(peer, message, hosts, nonce, now, &mut out),
            Err(text) => out.push(Output::Send(peer, FromMaster::Error(text))),
        }
        out
    }

    fn message(
        &mut self,
        peer: PeerId,
        message: FromNode,
        hosts: usize,
        nonce: &str,
        now: Instant,
        out: &mut Vec<Output>,
    ) {
        let mut send = |message| out.push(Output::Send(peer, message));
        match message {
            FromNode::Ping => return send(FromMaster::Pong),
            FromNode::Pong | FromNode::Error(_) => return,
            _ => {}
        }
        let node = match self.peers.get(&peer) {
            None => return,
            Some(Stage::Welcome { node }) => node.clone(),
            Some(_) => return self.greet(peer, message, nonce, out),
        };
        match message {
            FromNode::Load(percent) => {
                self.note_load(node, percent, now);
                self.arbiter.renew(peer, now);
            }
            FromNode::Scale { .. } => self.ask(Wish::Grow, peer, &node, hosts, nonce, now, out),
            FromNode::Retire { .. } => self.ask(Wish::Shrink, peer, &node, hosts, nonce, now, out),
            FromNode::Hold { lease } => {
                let verdict = self.arbiter.hold(&lease, &node, peer, now).cloned();
                if verdict.is_ok() {
                    out.push(Output::Save);
                    out.push(Output::Say(format!("{node}: is back and holds its lease")));
                }
                self.answer(peer, verdict, out);
            }
            FromNode::Finish { lease, ok, text, .. } => match self.arbiter.finish(&lease, &node, ok, now) {
                Some(lease) => {
                    if is_launch(lease.wish, ok, &text) {
                        self.arbiter.launched(now);
                    }
                    let text = protocol::one_line(&text);
                    self.history.ended(&lease, Some(ok), &text, now);
                    out.push(Output::Save);
                    out.push(Output::Say(verdict(&lease, ok, &text)));
                    self.say_if_capped(lease.wish, now, out);
                    out.push(Output::Tell {
                        except: Some(peer),
                        message: FromMaster::Finish { node: lease.node },
                    });
                }
                None => send(FromMaster::Error("you do not hold this lease".into())),
            },
            FromNode::Status => self.status(peer, now, out),
            FromNode::Report => self.report(peer, hosts, now, out),
            FromNode::Hello { .. } | FromNode::Auth { .. } => {
                send(FromMaster::Error(format!("you are welcome already, {node}")));
            }
            FromNode::Failed { .. } | FromNode::Ping | FromNode::Pong | FromNode::Error(_) => {}
        }
    }

    fn note_load(&mut self, node: String, percent: f64, now: Instant) {
        if self.loads.len() == MOST_LOADS && !self.loads.contains_key(&node) {
            self.loads.retain(|_, (_, at)| is_known(*at, now));
        }
        if self.loads.len() < MOST_LOADS || self.loads.contains_key(&node) {
            self.loads.insert(node, (percent, now));
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn ask(
        &mut self,
        wish: Wish,
        peer: PeerId,
        node: &str,
        hosts: usize,
        nonce: &str,
        now: Instant,
        out: &mut Vec<Output>,
    ) {
        let epoch_before = self.arbiter.lease().map(|l| l.epoch);
        let salt: String = nonce.chars().take(16).collect();
        let full = self.full(wish, hosts, || self.others_have_room(node, now));
        let verdict = self.arbiter.ask(wish, node, peer, full, &salt, now).cloned();
        let load = self.loads.get(node).map(|(percent, _)| *percent);
        if let Err(refusal) = &verdict {
            let why = self.why(refusal, wish, hosts);
            self.answer(peer, verdict, out);
            if self.history.refused(node, wish, load, why, now) {
                out.push(Output::Save);
            }
            return;
        }
        if let Ok(lease) = &verdict
            && epoch_before != Some(lease.epoch)
        {
            self.history.granted(node, wish, load, now);
            let what = match wish {
                Wish::Grow => "add a machine",
                Wish::Shrink => "leave",
            };
            let say = format!("{node}: may {what} (epoch {})", lease.epoch);
            // The holder first, and the disk, which may take long, last: after a power cut in
            // between, the holder can still HOLD, and its epoch is not given again.
            out.push(Output::Note);
            self.answer(peer, verdict, out);
            let message = FromMaster::Scale { node: node.into() };
            let except = Some(peer);
            out.extend([Output::Tell { except, message }, Output::Save, Output::Say(say)]);
            return;
        }
        self.answer(peer, verdict, out);
    }

    /// Said when a lease to grow ends: it would not have been granted had it been so before.
    fn say_if_capped(&self, wish: Wish, now: Instant, out: &mut Vec<Output>) {
        if let Some(until) = self.arbiter.capped_until(now).filter(|_| wish == Wish::Grow) {
            let wait = seconds(until.saturating_duration_since(now));
            let text = format!("max_launches_per_day is reached: no scale-up for {wait} s");
            out.push(Output::Say(text));
        }
    }

    /// Are there as many machines as there may be, or as few? Nobody leaves either where the others
    /// have no `room`.
    fn full(&self, wish: Wish, hosts: usize, room: impl FnOnce() -> bool) -> bool {
        let rules = self.arbiter.rules();
        match wish {
            Wish::Grow => hosts >= rules.max_hosts,
            Wish::Shrink => hosts <= rules.min_hosts || !room(),
        }
    }

    /// Could the others, as they last said, share the load of `leaving`?
    fn others_have_room(&self, leaving: &str, now: Instant) -> bool {
        let fresh = self
            .loads
            .iter()
            .filter(|(_, (_, at))| now.saturating_duration_since(*at) < FRESH);
        let (own, others): (Vec<_>, Vec<_>) = fresh.partition(|(name, _)| *name == leaving);
        let load: f64 = own.iter().map(|(_, (percent, _))| percent).sum();
        let share = load / others.len() as f64;
        let room = self.arbiter.rules().room;
        load == 0.0 || (!others.is_empty() && others.iter().all(|(_, (percent, _))| percent + share <= room))
    }

    fn answer(&self, peer: PeerId, verdict: Result<Lease, Refusal>, out: &mut Vec<Output>) {
        out.push(Output::Send(
            peer,
            match verdict {
                Ok(lease) => FromMaster::Grant {
                    lease: lease.id,
                    seconds: seconds(self.arbiter.rules().lease),
                    epoch: lease.epoch,
                    machines: 1,
                },
                Err(refusal) => FromMaster::Wait {
                    reason: refusal.reason,
                    seconds: seconds(refusal.wait),
                },
            },
        ));
    }
}

/// Does `STATUS` still tell of a load that came `at` this time?
fn is_known(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < FORGET_NODE
}

fn verdict(lease: &Lease, ok: bool, text: &str) -> String {
    let done = match (lease.wish, ok) {
        (Wish::Grow, true) => "added a machine",
        (Wish::Shrink, true) => "left",
        (_, false) => "gave the lease back",
    };
    let colon = if text.is_empty() { "" } else { ": " };
    format!("{}: {done}{colon}{text}", lease.node)
}

#[cfg(test)]
mod tests;
