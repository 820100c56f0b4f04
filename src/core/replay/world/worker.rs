//! What takes the place of the worker, EC2 and HAProxy: each step comes to a good end.

use std::time::Duration;

use super::{Boot, LONG_AGO, MASTER, Server, World};
use crate::core::haproxy::listing::Listed;
use crate::core::haproxy::state::State;
use crate::core::master::lease::PeerId;
use crate::core::node::{Aim, Launched, Outcome, Step};
use crate::core::plan::{Instance, Life, Machine, Survey};

/// For so long EC2 lists what is terminated.
const TERMINATED_LISTED: Duration = Duration::from_secs(3600);
const ADDRESS: &str = "10.0.0.1";

/// A machine on its way, and whoever waits for it.
#[derive(Debug)]
pub(super) struct Booting {
    number: PeerId,
    launched: Duration,
    pub(super) ready: Duration,
    by: PeerId,
}

/// One that has left.
#[derive(Debug)]
pub(super) struct Left {
    number: PeerId,
    launched_at: u64,
    at: Duration,
}

impl World<'_> {
    pub(super) fn step(&mut self, peer: PeerId, step: Step) {
        let told = vec![(MASTER.to_string(), Ok(()))];
        let outcome = match step {
            Step::Survey { purpose, .. } => Outcome::Surveyed(purpose, Ok(self.survey())),
            Step::Check => Outcome::Checked(told),
            Step::Launch { count, .. } => Outcome::Launched(Launched {
                machines: self.launch(count, peer),
                ..Launched::default()
            }),
            // `act` knows when it is over.
            Step::Boot { .. } => return,
            Step::Enter { machine, .. } => {
                self.enter(&machine);
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
            // For what can't go wrong here.
            Step::Find { .. } | Step::Remove { .. } | Step::Terminate { .. } => return,
        };
        let gone = matches!(outcome, Outcome::Departed(..));
        self.finish(peer, outcome);
        if gone {
            self.depart(peer);
        }
    }

    fn launch(&mut self, count: u32, by: PeerId) -> Vec<Machine> {
        let why = self.reason(by, Aim::Grow);
        let before = self.fleet();
        self.note(before + count as usize, why);
        let mut machines = Vec::new();
        let mut boots = Vec::new();
        for _ in 0..count {
            self.launched += 1;
            let number = self.launched;
            let ready = self.now + self.boots.time(number);
            machines.push(machine(number));
            boots.push(ready);
            self.booting.push(Booting {
                number,
                launched: self.now,
                ready,
                by,
            });
        }
        // Drawn in the order in which they come to serve.
        boots.sort_unstable();
        let begin = self.now;
        let levels = before..;
        let drawn = boots.into_iter().zip(levels);
        self.run
            .boots
            .extend(drawn.map(|(end, level)| Boot { begin, end, level }));
        self.run.peak = self.run.peak.max(self.fleet());
        machines
    }

    /// Those that wait for a machine hear that it runs.
    pub(super) fn boot(&mut self) {
        for at in (0..self.booting.len()).rev() {
            // Entered by then, and so no longer here, unless whoever launched it has left.
            if let Some(boot) = self.booting.get(at)
                && boot.ready == self.now
            {
                let (by, number) = (boot.by, boot.number);
                self.finish(by, Outcome::Booted(machine(number), Ok(())));
            }
        }
    }

    fn enter(&mut self, entered: &Machine) {
        let is_it = |boot: &Booting| machine(boot.number) == *entered;
        if let Some(at) = self.booting.iter().position(is_it) {
            let boot = self.booting.remove(at);
            self.begin(boot.number, LONG_AGO + boot.launched.as_secs());
            self.count();
        }
    }

    fn depart(&mut self, peer: PeerId) {
        self.master.closed(peer);
        let at = self.now;
        let gone = self.machines.extract_if(.., |server| server.peer == peer);
        self.left.extend(gone.map(|server| Left {
            number: peer,
            launched_at: server.launched_at,
            at,
        }));
        self.left.retain(|left| at < left.at + TERMINATED_LISTED);
        self.count();
    }

    /// What EC2 and HAProxy would say of the machines.
    fn survey(&self) -> Survey {
        let instance = |number: PeerId, launched_at, life| Instance {
            id: id(number),
            life,
            address: Some(ADDRESS.into()).filter(|_| life == Life::Live),
            launched_at: Some(launched_at),
            keep: false,
            image: "ami-1".into(),
            of_group: false,
            in_service: true,
        };
        let serving = self.machines.iter();
        let serving = serving.map(|server| instance(server.peer, server.launched_at, Life::Live));
        let booting = self.booting.iter();
        let booting =
            booting.map(|boot| instance(boot.number, LONG_AGO + boot.launched.as_secs(), Life::Live));
        let left = self.left.iter();
        let left = left.filter(|left| self.now < left.at + TERMINATED_LISTED);
        let left = left.map(|left| instance(left.number, left.launched_at, Life::Gone));
        let healthy = self.booting.iter().filter(|boot| boot.ready < self.now);
        Survey {
            now: LONG_AGO + self.now.as_secs(),
            instances: serving.chain(booting).chain(left).collect(),
            listings: vec![Ok(self.machines.iter().map(listed).collect())],
            healthy: healthy.map(|boot| id(boot.number)).collect(),
            sees: true,
            ..Survey::default()
        }
    }
}

fn id(number: PeerId) -> String {
    format!("i-{number}")
}

/// The entry of a machine that serves.
pub(super) fn listed(server: &Server) -> Listed {
    Listed {
        state: State::Up,
        since: None,
        name: format!("app{}", server.peer),
        address: ADDRESS.into(),
        port: Some(80),
        instance: Some(id(server.peer)),
    }
}

/// The machine of this number, as a node names it.
pub(super) fn machine(number: PeerId) -> Machine {
    Machine {
        instance: Some(id(number)),
        host: ADDRESS.into(),
        port: 80,
    }
}
