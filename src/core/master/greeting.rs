//! Who gets in: connections as they come, and their way from `HELLO` to `WELCOME`.

use std::time::Instant;

use super::super::auth::{self, Claim, Role};
use super::super::lease::PeerId;
use super::super::protocol::{self, FromMaster, FromNode};
use super::super::strangers::{self, Strangers};
use super::{Master, Output, Stage};

/// Names that are complained of, each once.
const MOST_REFUSED: usize = 32;

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
        self.peers.remove(&peer);
        self.strangers.remove(peer);
    }

    /// The handshake: `HELLO`, and `AUTH` where there is a secret.
    pub(super) fn greet(
        &mut self,
        peer: PeerId,
        message: FromNode,
        fresh_nonce: &str,
        out: &mut Vec<Output>,
    ) {
        let refuse = |text: &str, out: &mut Vec<Output>| {
            out.push(Output::Send(peer, FromMaster::Error(text.into())));
        };
        let stage = self.peers.remove(&peer).unwrap_or(Stage::New);
        let stage = match (stage, message) {
            (stage, FromNode::Hello { version, .. }) if version != protocol::VERSION => {
                refuse(
                    "this master speaks version 2: upgrade autoscaler on this node",
                    out,
                );
                stage
            }
            (stage, FromNode::Hello { node, nonce, .. })
                if !protocol::is_word(&node) || !protocol::is_word(&nonce) =>
            {
                refuse("a node and its nonce have at most 128 characters", out);
                stage
            }
            (_, FromNode::Hello { node, .. }) if self.secret.is_empty() => {
                let master = self.name.clone();
                self.strangers.remove(peer);
                out.push(Output::Send(peer, FromMaster::Welcome { master, proof: None }));
                Stage::Welcome { node }
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
                if !auth::verify(&self.secret, claim(Role::Node, &node), &proof) {
                    self.complain(node, out);
                    return self.dismiss(peer, "wrong proof: the [cluster] secret differs", out);
                }
                self.strangers.remove(peer);
                self.refused.remove(&node);
                let master = self.name.clone();
                let proof = Some(auth::prove(&self.secret, claim(Role::Master, &master)));
                out.push(Output::Send(peer, FromMaster::Welcome { master, proof }));
                Stage::Welcome { node }
            }
            (stage, _) => {
                refuse("greet first: HELLO 2 <node> <nonce>", out);
                stage
            }
        };
        self.peers.insert(peer, stage);
    }

    /// Says that `node` could not prove itself: once, and of so many names at most, as anyone can
    /// try with any name.
    fn complain(&mut self, node: String, out: &mut Vec<Output>) {
        if self.refused.len() == MOST_REFUSED || self.refused.contains(&node) {
            return;
        }
        let mut text = format!("{node}: refused, its [cluster] secret is not this master's");
        self.refused.insert(node);
        if self.refused.len() == MOST_REFUSED {
            text += "; further names are not told of";
        }
        out.push(Output::Say(text));
    }
}
