//! The master's side of the protocol: lines in, lines out. Sockets, disk and clock are the
//! caller's, who carries out the [`Output`]s in their order.

mod asking;
pub mod departure;
mod fleet;
mod handshake;
mod history;
pub mod lease;
mod loads;
mod look;
pub mod need;
mod progress;
mod settings;
mod status;
mod strangers;

use std::collections::BTreeMap;
use std::time::Instant;

use crate::core::load::demand::Demands;
use crate::core::protocol::{self, FromMaster, FromNode};
use fleet::Fleet;
use handshake::Refused;
use history::{History, Outcome};
use lease::{Arbiter, Ask, Lease, PeerId, Wish};
use loads::Loads;
use progress::Progress;
use strangers::Strangers;

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
    Welcome(Guest),
}

/// One who is welcome.
#[derive(Debug)]
struct Guest {
    node: String,
    /// It has said `LOAD`.
    reports: bool,
    /// It has said `STATUS` or `REPORT`.
    asks: bool,
}

impl Stage {
    /// Who is welcome here.
    fn node(&self) -> Option<&str> {
        match self {
            Stage::Welcome(guest) => Some(&guest.node),
            _ => None,
        }
    }
}

/// All that a master knows.
#[derive(Debug)]
pub struct Master {
    name: String,
    /// A node proves that it knows one of them; none: it need not.
    secrets: Vec<String>,
    pub arbiter: Arbiter,
    pub history: History,
    progress: Progress,
    peers: BTreeMap<PeerId, Stage>,
    most_peers: usize,
    strangers: Strangers,
    refused: Refused,
    loads: Loads,
    demands: Demands,
    /// This host, as it was seen last.
    fleet: Fleet,
    /// What `SET` tells.
    settings: Vec<(String, String)>,
    /// When the next node is to look; set when time first passes.
    next_look: Option<Instant>,
    last_looker: PeerId,
    /// Somebody was to look, and nobody was there.
    look_owed: bool,
}

impl Master {
    /// `secrets` without one that is not empty: nodes need not prove themselves.
    pub fn new(name: String, secrets: Vec<String>, arbiter: Arbiter) -> Master {
        let mut master = Master {
            name,
            secrets: Vec::new(),
            arbiter,
            history: History::default(),
            progress: Progress::default(),
            peers: BTreeMap::new(),
            most_peers: usize::MAX,
            strangers: Strangers::new(strangers::MOST),
            refused: Refused::default(),
            loads: Loads::default(),
            demands: Demands::default(),
            fleet: Fleet::default(),
            settings: Vec::new(),
            next_look: None,
            last_looker: 0,
            look_owed: false,
        };
        master.set_secrets(secrets);
        master
    }

    /// Goes by these secrets from now on. Who is welcome stays so.
    pub fn set_secrets(&mut self, secrets: Vec<String>) {
        self.secrets = secrets;
        self.secrets.retain(|secret| !secret.is_empty());
    }

    /// Those who have greeted.
    pub fn welcome(&self) -> impl Iterator<Item = PeerId> {
        let welcome = self.peers.iter().filter(|(_, stage)| stage.node().is_some());
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
        let due = [lease, self.look_due(), self.strangers.deadline()];
        due.into_iter().flatten().min()
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
        self.next_look.get_or_insert(now + look::LOOK);
        if self.look_due().is_some_and(|due| due <= now) {
            self.look(now, &mut out);
        }
        out
    }

    /// One line from `peer`. `nonce` is 16 fresh random bytes in hex.
    pub fn line(&mut self, peer: PeerId, line: &str, nonce: &str, now: Instant) -> Vec<Output> {
        let mut out = self.tick(now);
        if self.peers.get(&peer).and_then(Stage::node).is_none() {
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
            Ok(message) => self.message(peer, message, nonce, now, &mut out),
            Err(text) => out.push(Output::Send(peer, FromMaster::Error(text))),
        }
        out
    }

    fn message(&mut self, peer: PeerId, message: FromNode, nonce: &str, now: Instant, out: &mut Vec<Output>) {
        let mut send = |message| out.push(Output::Send(peer, message));
        match message {
            FromNode::Ping => return send(FromMaster::Pong),
            FromNode::Pong | FromNode::Error(_) => return,
            _ => {}
        }
        let node = match self.peers.get(&peer) {
            None => return,
            Some(Stage::Welcome(guest)) => guest.node.clone(),
            Some(_) => return self.greet(peer, message, nonce, now, out),
        };
        match message {
            FromNode::Load(percent) => {
                self.note_load(peer, &node, percent, now, out);
                self.arbiter.renew(peer, now);
            }
            FromNode::Scale { machines, force } => {
                let (wish, machines) = (Wish::Grow, machines.map(|n| n as usize));
                let ask = Ask {
                    wish,
                    force,
                    machines,
                };
                self.ask(ask, peer, &node, nonce, now, out);
            }
            FromNode::Retire { force } => {
                let (wish, machines) = (Wish::Leave, None);
                let ask = Ask {
                    wish,
                    force,
                    machines,
                };
                self.ask(ask, peer, &node, nonce, now, out);
            }
            FromNode::Hold { lease } => {
                let verdict = self.arbiter.hold(&lease, &node, peer, now).cloned();
                if verdict.is_ok() {
                    out.push(Output::Save);
                    out.push(Output::Say(format!("{node}: is back and holds its lease")));
                }
                self.answer(peer, verdict, out);
            }
            FromNode::Finish {
                lease,
                ok,
                launched,
                text,
            } => {
                let launched = launched as usize;
                let ended = self.arbiter.finish(&lease, &node, ok, launched, &text, now);
                let Some(lease) = ended else {
                    return send(FromMaster::Error("you do not hold this lease".into()));
                };
                let text = protocol::one_line(&text);
                if launched > 0 {
                    let took = self.history.held(&lease, now);
                    self.progress.launched(launched, took, now);
                }
                self.history.ended(&lease, Some(ok), &text, now);
                out.push(Output::Save);
                out.push(Output::Say(verdict(&lease, ok, launched, &text)));
                self.say_if_capped(lease.wish, now, out);
                out.push(Output::Tell {
                    except: Some(peer),
                    message: FromMaster::Finish { node: lease.node },
                });
            }
            FromNode::Failed { machines, text } => {
                self.arbiter.failed(machines as usize, now);
                self.progress.failed += u64::from(machines);
                let text = protocol::one_line(&text);
                let load = self.loads.of(&node, now);
                out.push(Output::Save);
                out.push(Output::Say(format!(
                    "{node}: {machines} never came to serve: {text}"
                )));
                self.history
                    .add(&node, Wish::Grow, load, Outcome::Failed, text, now);
            }
            FromNode::Status | FromNode::Report => {
                // It asks what `status` shows: no node, unless it reports as well.
                if let Some(Stage::Welcome(guest)) = self.peers.get_mut(&peer) {
                    guest.asks = true;
                }
                match message {
                    FromNode::Status => self.status(peer, now, out),
                    _ => self.report(peer, now, out),
                }
            }
            FromNode::Hello { .. } | FromNode::Auth { .. } => {
                send(FromMaster::Error(format!("you are welcome already, {node}")));
            }
            FromNode::Ping | FromNode::Pong | FromNode::Error(_) => {}
        }
    }

    fn note_load(&mut self, peer: PeerId, node: &str, percent: f64, now: Instant, out: &mut Vec<Output>) {
        let window = self.arbiter.rules().scale_down_window;
        // A command by hand goes by the daemon's name, and renews its lease beside it.
        let bears = self.arbiter.lease().is_some_and(|l| l.bearer == Some(peer));
        let reporter = Some(peer).filter(|_| !bears);
        self.loads.note(node, percent, reporter, window, now);
        if self.fleet.state_of(node).is_some() {
            self.loads.entered(node);
        }
        let peers = &self.peers;
        let double = self.loads.new_double(node, |peer| peers.contains_key(&peer), now);
        out.extend(double.map(Output::Say));
        if let Some(Stage::Welcome(guest)) = self.peers.get_mut(&peer) {
            guest.reports = true;
        }
        if self.look_owed {
            self.look(now, out);
        }
    }
}

/// The end of a lease, for the log.
fn verdict(lease: &Lease, ok: bool, launched: usize, text: &str) -> String {
    let done = match (lease.wish, ok) {
        (Wish::Grow, true) if launched == 1 => "launched a machine".into(),
        (Wish::Grow, true) if launched > 1 => format!("launched {launched} machines"),
        (Wish::Leave, true) => "left".into(),
        (_, true) => "is done".into(),
        (_, false) => String::from("gave the lease back"),
    };
    let colon = if text.is_empty() { "" } else { ": " };
    format!("{}: {done}{colon}{text}", lease.node)
}

#[cfg(test)]
mod tests;
