//! EC2: instances, the tokens that they were launched with, and answers that lag behind.

use std::collections::{BTreeMap, BTreeSet};

use super::Ms;
use crate::core::plan::{Instance, Life};

/// Seconds since 1970 at the beginning of a run.
pub const EPOCH: u64 = 1_800_000_000;
/// Terminated instances leave EC2's list after this.
const LISTED: Ms = 3_600_000;

#[derive(Debug)]
pub struct Vm {
    pub id: String,
    pub address: String,
    /// Carries the cluster's tag.
    pub tagged: bool,
    /// Before the beginning of the run: an hour ago.
    pub launched: Option<Ms>,
    pub zone: usize,
    pub running: Ms,
    /// When its app answers first; `None`: never.
    pub healthy: Option<Ms>,
    /// Its app does not answer until then.
    pub sick_until: Ms,
    /// It passes its health check, and HAProxy's does not.
    pub bad: bool,
    pub ended: Option<Ms>,
    /// Tagged `autoscaler:keep`.
    pub keep: bool,
    pub kept_at: Ms,
    pub stopped: bool,
    /// When it came to run beside all leases: by a person's hand, or as one was over that was asked for
    /// under it. 0: under a lease.
    pub unleased_at: Ms,
    /// EC2 does not terminate it until then.
    pub protected_until: Ms,
    /// EC2 has announced that it takes it back: when, if that is a fact.
    pub notice: Option<Option<Ms>>,
}

impl Vm {
    pub fn is_live(&self) -> bool {
        self.ended.is_none()
    }

    /// May autoscaler end it, enter it and count it?
    pub fn is_ours(&self) -> bool {
        self.tagged && self.is_live() && !self.keep && !self.stopped
    }
}

#[derive(Debug, Default)]
pub struct Cloud {
    /// By the number of their machine.
    pub vms: BTreeMap<usize, Vm>,
    /// By token and zone: how many were asked for, and what was launched.
    tokens: BTreeMap<(String, usize), (u32, Vec<usize>)>,
    /// How many more each zone has room for.
    pub room: Vec<u32>,
    pub capacity_changed: Vec<Ms>,
}

/// What RunInstances came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Launch {
    /// So many are to be made.
    New(u32),
    /// The token's instances, as they were launched before.
    Known(Vec<usize>),
    Terminated,
    Mismatch,
    NoCapacity,
}

impl Cloud {
    pub fn new(zones: usize) -> Cloud {
        Cloud {
            room: vec![u32::MAX; zones],
            capacity_changed: vec![0; zones],
            ..Cloud::default()
        }
    }

    /// What DescribeInstances says at `now` from a place that knows all until `seen`.
    pub fn view(&self, seen: Ms, now: Ms) -> Vec<Instance> {
        let known = |vm: &&Vm| vm.tagged && self.knows(vm, seen, now);
        let instance = |vm: &Vm| {
            let gone = vm.ended.is_some_and(|at| at <= seen);
            Instance {
                id: vm.id.clone(),
                life: match vm.stopped {
                    _ if gone => Life::Gone,
                    true => Life::Stopped,
                    false => Life::Live,
                },
                address: (vm.running <= seen && !gone).then(|| vm.address.clone()),
                launched_at: Some(vm.launched.map_or(EPOCH - 3600, |at| EPOCH + at / 1000)),
                keep: vm.keep,
                image: "ami-1".into(),
                of_group: false,
                in_service: true,
            }
        };
        self.vms.values().filter(known).map(instance).collect()
    }

    fn knows(&self, vm: &Vm, seen: Ms, now: Ms) -> bool {
        vm.launched.is_none_or(|at| at <= seen) && vm.ended.is_none_or(|at| now - at < LISTED)
    }

    /// Of these ids, those that EC2 does not know, and those that have ended.
    pub fn whereabouts(
        &self,
        ids: BTreeSet<String>,
        seen: Ms,
        now: Ms,
    ) -> (BTreeSet<String>, BTreeSet<String>) {
        let (mut unknown, mut gone) = (BTreeSet::new(), BTreeSet::new());
        for id in ids {
            match self.by_id(&id) {
                Some((_, vm)) if !self.knows(vm, seen, now) => _ = unknown.insert(id),
                Some((_, vm)) if vm.ended.is_some_and(|at| at <= seen) => _ = gone.insert(id),
                Some(_) => {}
                None => _ = unknown.insert(id),
            }
        }
        (unknown, gone)
    }

    pub fn by_id(&self, id: &str) -> Option<(usize, &Vm)> {
        let number = id.strip_prefix("i-")?.parse().ok()?;
        Some((number, self.vms.get(&number)?))
    }

    pub fn launch(&mut self, token: &str, zone: usize, count: u32) -> Launch {
        let key = (token.to_string(), zone);
        match self.tokens.get(&key) {
            Some((asked, _)) if *asked != count => Launch::Mismatch,
            Some((_, machines)) if machines.iter().any(|m| self.vms[m].is_live()) => {
                Launch::Known(machines.clone())
            }
            Some((_, machines)) if !machines.is_empty() => Launch::Terminated,
            _ => {
                self.tokens.insert(key, (count, Vec::new()));
                match self.room[zone] {
                    0 => Launch::NoCapacity,
                    room => Launch::New(count.min(room)),
                }
            }
        }
    }

    /// Live instances that were launched with `token`, as far as is known at `seen`.
    pub fn launched_with(&self, token: &str, zone: usize, seen: Ms) -> Vec<usize> {
        let found = self.tokens.get(&(token.to_string(), zone));
        let known = |m: &&usize| self.vms[*m].is_live() && self.vms[*m].launched.is_none_or(|at| at <= seen);
        found.map_or(Vec::new(), |(_, all)| all.iter().filter(known).copied().collect())
    }

    pub fn add(&mut self, machine: usize, vm: Vm, token: &str) {
        if let Some((_, machines)) = self.tokens.get_mut(&(token.to_string(), vm.zone)) {
            machines.push(machine);
        }
        let room = &mut self.room[vm.zone];
        *room = if *room == u32::MAX { *room } else { *room - 1 };
        self.vms.insert(machine, vm);
    }

    /// Tagged and not ended.
    pub fn live(&self) -> impl Iterator<Item = (&usize, &Vm)> {
        self.vms.iter().filter(|(_, vm)| vm.tagged && vm.is_live())
    }
}
