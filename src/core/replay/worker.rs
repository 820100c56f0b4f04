//! What takes the place of the worker, EC2 and HAProxy: each step comes to a good end.

use std::time::Duration;

use super::{LONG_AGO, MASTER, Server, World};
use crate::core::lease::PeerId;
use crate::core::node::{Aim, Launched, Machine, Outcome, Step};
use crate::core::plan::{Instance, Life, Listed, State, Survey};

/// For so long EC2 lists what is terminated.
const TERMINATED_LISTED: Duration = Duration::from_secs(3600);

impl World<'_> {
    pub(super) fn step(&mut self, peer: PeerId, step: Step) {
        let told = vec![(MASTER.to_string(), Ok(()))];
        let outcome = match step {
            Step::Survey { purpose, .. } => Outcome::Surveyed(purpose, Ok(self.survey())),
            Step::Check => Outcome::Checked(told),
            Step::Launch { .. } => {
                let why = self.reason(peer, Aim::Grow);
                self.note(self.fleet() + 1, why);
                let ready = self.now + self.boot;
                self.booting = Some((ready, peer));
                self.run.boots.push((self.now, ready, self.machines.len()));
                self.run.peak = self.run.peak.max(self.fleet());
                Outcome::Launched(Launched {
                    machines: vec![machine(self.joined + 1)],
                    ..Launched::default()
                })
            }
            Step::Enter { machine, .. } => {
                let launched = self.now.saturating_sub(self.boot);
                self.join(LONG_AGO + launched.as_secs());
                Outcome::Entered(machine, told)
            }
            Step::Confirm { machine, .. } => Outcome::Confirmed(machine, Ok(())),
            Step::Identify => Outcome::Identified(Ok(machine(peer))),
            Step::Drain { machine, .. } => {
                let why = self.reason(peer, Aim::Leave);
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
            life: if gone { Life::Gone } else { Life::Live },
            address: Some("10.0.0.1".into()).filter(|_| !gone),
            launched_at: Some(launched_at),
            keep: false,
            in_service: true,
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
            ..Survey::default()
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
