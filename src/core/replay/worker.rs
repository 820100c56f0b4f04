//! What takes the place of the worker, EC2 and HAProxy: each step comes to a good end.

use std::time::Duration;

use super::{Boot, LONG_AGO, MASTER, Server, World};
use crate::core::fleet::{Instance, Listed, Survey};
use crate::core::lease::{PeerId, Wish};
use crate::core::listing::State;
use crate::core::node::{Machine, Outcome, Step};

/// For so long EC2 lists what is terminated.
const TERMINATED_LISTED: Duration = Duration::from_secs(3600);

impl World<'_> {
    pub(super) fn step(&mut self, peer: PeerId, step: Step) {
        let told = vec![(MASTER.to_string(), Ok(()))];
        let outcome = match step {
            Step::Survey => Outcome::Surveyed(Ok(self.survey())),
            Step::Launch { .. } => {
                let why = self.reason(peer, Wish::Grow);
                self.note(self.fleet() + 1, why);
                let ready = self.now + self.boots.time(self.joined + 1);
                self.booting = Some((ready, peer));
                self.run.boots.push(Boot {
                    begin: self.now,
                    end: ready,
                    level: self.machines.len(),
                });
                self.run.peak = self.run.peak.max(self.fleet());
                Outcome::Launched(Ok(machine(self.joined + 1)))
            }
            Step::Enter { machine, .. } => {
                let launched = self.now.saturating_sub(self.boots.time(self.joined + 1));
                self.join(LONG_AGO + launched.as_secs());
                Outcome::Entered(machine, told)
            }
            Step::Identify => Outcome::Identified(Ok(machine(peer))),
            Step::Drain { machine, .. } => {
                let why = self.reason(peer, Wish::Shrink);
                self.note(self.fleet() - 1, why);
                Outcome::Drained(machine, told)
            }
            Step::Depart { machine } => Outcome::Departed(machine, Ok(())),
            // `act` knows when it is over, and the rest is for what can't go wrong here.
            _ => return,
        };
        let gone = matches!(outcome, Outcome::Departed(..));
        self.finish(peer, outcome);
        if gone {
            self.master.closed(peer);
            let now = self.now;
            let gone = self.machines.extract_if(.., |server| server.peer == peer);
            self.left
                .extend(gone.map(|server| (peer, server.launched_at, now)));
            self.count();
        }
    }

    /// What EC2 and HAProxy would say of the machines.
    fn survey(&self) -> Survey {
        let instance = |peer: PeerId, launched_at, gone: bool| Instance {
            id: format!("i-{peer}"),
            live: !gone,
            gone,
            address: Some("10.0.0.1".into()).filter(|_| !gone),
            launched_at,
        };
        let live = self
            .machines
            .iter()
            .map(|s| instance(s.peer, s.launched_at, false));
        let listed_still = |at: Duration| self.now < at + TERMINATED_LISTED;
        let gone = self.left.iter().filter(|(.., at)| listed_still(*at));
        let gone = gone.map(|(peer, launched_at, _)| instance(*peer, *launched_at, true));
        Survey {
            now: LONG_AGO + self.now.as_secs(),
            instances: live.chain(gone).collect(),
            listings: vec![Some(self.machines.iter().map(listed).collect())],
        }
    }
}

/// The entry of a machine that serves.
pub(super) fn listed(server: &Server) -> Listed {
    Listed {
        state: State::Up,
        since: None,
        name: format!("app{}", server.peer),
        address: "10.0.0.1".into(),
        port: Some(80),
        instance: Some(format!("i-{}", server.peer)),
    }
}

/// The machine of `peer`, as a node names it.
pub(super) fn machine(peer: PeerId) -> Machine {
    Machine {
        instance: Some(format!("i-{peer}")),
        host: "10.0.0.1".into(),
        port: 80,
    }
}
