//! Who gets in: connections as they come, and their way from `HELLO` to `WELCOME`.

use std::collections::BTreeMap;
use std::time::Instant;

use super::lease::PeerId;
use super::strangers::{self, Strangers};
use super::{Guest, Master, Output, Stage};
use crate::core::protocol::auth::{self, Claim, Role};
use crate::core::protocol::{self, FromMaster, FromNode};

/// Names of whose refusal is kept account, and that are complained of, each once.
const MOST_REFUSED: usize = 32;

/// Nodes that were not let in, and have not been since.
#[derive(Debug, Default)]
pub struct Refused {
    pub nodes: BTreeMap<String, Refusal>,
}

/// Why a node was not let in.
#[derive(Debug)]
pub struct Refusal {
    pub why: &'static str,
    /// The last time.
    pub at: Instant,
    pub times: u64,
}

impl Refused {
    /// Takes it down; what to say of it the first time. Of so many names at most, as anyone can
    /// try with any name.
    fn note(&mut self, node: &str, why: &'static str, now: Instant) -> Option<String> {
        if let Some(refusal) = self.nodes.get_mut(node) {
            let new = refusal.why != why;
            (refusal.why, refusal.at) = (why, now);
            refusal.times += 1;
            return new.then(|| format!("{node}: refused, {why}"));
        }
        if self.nodes.len() == MOST_REFUSED {
            return None;
        }
        let (at, times) = (now, 1);
        self.nodes.insert(node.into(), Refusal { why, at, times });
        let more = match self.nodes.len() {
            MOST_REFUSED => "; further names are not told of",
            _ => "",
        };
        Some(format!("{node}: refused, {why}{more}"))
    }
}

/// Does it mean version 2, or a later one, which knows more words?
fn is_spoken(version: &str) -> bool {
    version.parse().is_ok_and(|version: u64| version >= 2)
}

impl Master {
    /// Takes at most so many connections, and at most half of them from those who have not greeted.
    pub fn limit(&mut self, most_peers: usize) {
        self.most_peers = most_peers;
        self.strangers = Strangers::new(strangers::MOST.min(most_peers / 2));
    }

    /// A new connection. Where there are too many, the one that has not greeted for longest goes;
    /// where all have, the new one.
    pub fn opened(&mut self, peer: PeerId, now: Instant) -> Vec<Output> {
        let mut out = Vec::new();
        self.peers.insert(peer, Stage::New);
        if self.strangers.is_full() || self.peers.len() > self.most_peers {
            let goes = self.strangers.oldest().unwrap_or(peer);
            self.dismiss(goes, "too many connections", &mut out);
        }
        if self.peers.contains_key(&peer) {
            self.strangers.add(peer, now);
        }
        out
    }

    pub(super) fn dismiss(&mut self, peer: PeerId, why: &str, out: &mut Vec<Output>) {
        out.push(Output::Send(peer, FromMaster::Error(why.into())));
        out.push(Output::Close(peer));
        self.closed(peer);
    }

    /// A lost connection ends no lease: its holder may come back and `HOLD`.
    pub fn closed(&mut self, peer: PeerId) {
        let stage = self.peers.remove(&peer);
        self.strangers.remove(peer);
        if let Some(node) = stage.as_ref().and_then(Stage::node) {
            self.forget_if_ended(node);
        }
    }

    /// `node` is welcome, and hears what it has to know.
    fn let_in(&mut self, peer: PeerId, node: String, proof: Option<String>, out: &mut Vec<Output>) -> Stage {
        self.strangers.remove(peer);
        self.refused.nodes.remove(&node);
        let master = self.name.clone();
        out.push(Output::Send(peer, FromMaster::Welcome { master, proof }));
        let told = self.settings_told().chain(self.fleet.told());
        out.extend(told.map(|message| Output::Send(peer, message)));
        Stage::Welcome(Guest {
            node,
            reports: false,
            asks: false,
        })
    }

    /// The handshake: `HELLO`, and `AUTH` where there is a secret.
    pub(super) fn greet(
        &mut self,
        peer: PeerId,
        message: FromNode,
        fresh_nonce: &str,
        now: Instant,
        out: &mut Vec<Output>,
    ) {
        let refuse = |text: &str, out: &mut Vec<Output>| {
            out.push(Output::Send(peer, FromMaster::Error(text.into())));
        };
        let stage = self.peers.remove(&peer).unwrap_or(Stage::New);
        let stage = match (stage, message) {
            (stage, FromNode::Hello { node, nonce, .. })
                if !protocol::is_word(&node) || !protocol::is_word(&nonce) =>
            {
                refuse("a node and its nonce have at most 128 characters", out);
                stage
            }
            (stage, FromNode::Hello { version, node, .. }) if !is_spoken(&version) => {
                let why = "it speaks another version of the protocol than 2; upgrade autoscaler there";
                out.extend(self.refused.note(&node, why, now).map(Output::Say));
                refuse(
                    "this master speaks version 2 of the protocol: upgrade autoscaler on this node",
                    out,
                );
                stage
            }
            (_, FromNode::Hello { node, .. }) if self.secrets.is_empty() => {
                self.let_in(peer, node, None, out)
            }
            (
                _,
                FromNode::Hello {
                    node,
                    nonce: node_nonce,
                    ..
                },
            ) => {
                let nonce = fresh_nonce.to_string();
                out.push(Output::Send(peer, FromMaster::Challenge { nonce: nonce.clone() }));
                Stage::Challenged {
                    node,
                    node_nonce,
                    nonce,
                }
            }
            (
                Stage::Challenged {
                    node,
                    node_nonce,
                    nonce,
                },
                FromNode::Auth { proof },
            ) => {
                let claim = |role, name| Claim {
                    role,
                    name,
                    node_nonce: &node_nonce,
                    master_nonce: &nonce,
                };
                let claimed = claim(Role::Node, &node);
                let Some(secret) = self.secrets.iter().find(|s| auth::verify(s, claimed, &proof)) else {
                    let why = "its [cluster] secret is not this master's";
                    out.extend(self.refused.note(&node, why, now).map(Output::Say));
                    return self.dismiss(peer, "wrong proof: the [cluster] secret differs", out);
                };
                // By the secret that both know.
                let proof = auth::prove(secret, claim(Role::Master, &self.name));
                self.let_in(peer, node, Some(proof), out)
            }
            (stage, _) => {
                refuse("greet first: HELLO 2 <node> <nonce>", out);
                stage
            }
        };
        self.peers.insert(peer, stage);
    }
}
