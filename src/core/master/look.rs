//! Who is told to `LOOK` at the site, and when: the nodes, in turn.

use std::time::{Duration, Instant};

use super::lease::PeerId;
use super::{Master, Output, Stage};
use crate::core::protocol::FromMaster;

/// Between two `LOOK`s while nothing changes.
pub const LOOK: Duration = Duration::from_secs(60);

impl Master {
    /// When the next node is to look; `None` while one changes the cluster.
    pub(super) fn look_due(&self) -> Option<Instant> {
        self.next_look.filter(|_| self.arbiter.lease().is_none())
    }

    /// Has the next node look, whether it is due or not.
    pub(super) fn look(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.next_look = Some(now + LOOK);
        match self.looker() {
            Some(peer) => {
                self.last_looker = peer;
                self.look_owed = false;
                out.push(Output::Send(peer, FromMaster::Look));
            }
            // Whoever comes first.
            None => self.look_owed = true,
        }
    }

    /// Whose turn it is: of those who report a load, else of those who have not asked for `STATUS`;
    /// one whose machine is DOWN only where there is nobody else.
    fn looker(&self) -> Option<PeerId> {
        let rank = |stage: &Stage| match stage {
            Stage::Welcome(guest) if guest.reports => Some(u8::from(self.fleet.is_down(&guest.node))),
            Stage::Welcome(guest) if !guest.asks => Some(2),
            _ => None,
        };
        let ranked = || {
            self.peers
                .iter()
                .filter_map(|(p, stage)| Some((rank(stage)?, *p)))
        };
        let best = ranked().map(|(rank, _)| rank).min()?;
        let of_best = || ranked().filter(|(rank, _)| *rank == best).map(|(_, peer)| peer);
        of_best()
            .find(|peer| *peer > self.last_looker)
            .or_else(|| of_best().next())
    }
}
