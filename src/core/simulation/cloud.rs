//! EC2: instances that boot, or do not; tokens; and answers that lag behind.

use std::collections::BTreeMap;

use super::Ms;
use crate::core::fleet::Instance;

/// Seconds since 1970 at the beginning of a run.
pub const EPOCH: u64 = 1_800_000_000;

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
    /// `None`: its app never answers.
    pub healthy: Option<Ms>,
    pub ended: Option<Ms>,
}

impl Vm {
    pub fn is_live(&self) -> bool {
        self.ended.is_none()
    }

    /// Seconds since 1970, as EC2 tells it.
    fn launched_at(&self) -> u64 {
        self.launched.map_or(EPOCH - 3600, |at| EPOCH + at / 1000)
    }
}

#[derive(Debug, Default)]
pub struct Cloud {
    /// By the number of their machine.
    pub vms: BTreeMap<usize, Vm>,
    tokens: BTreeMap<(String, usize), usize>,
    /// Zones without capacity.
    pub full: Vec<bool>,
    pub capacity_changed: Vec<Ms>,
}

/// What RunInstances came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Launch {
    New,
    /// The token's instance, as it was launched before.
    Known(usize),
    Terminated,
    NoCapacity,
}

impl Cloud {
    pub fn new(zones: usize) -> Cloud {
        Cloud {
            full: vec![false; zones],
            capacity_changed: vec![0; zones],
            ..Cloud::default()
        }
    }

    /// What DescribeInstances says from a place that knows all until `seen`.
    pub fn view(&self, seen: Ms) -> Vec<Instance> {
        let known = |vm: &&Vm| vm.tagged && vm.launched.is_none_or(|at| at <= seen);
        let instance = |vm: &Vm| {
            let gone = vm.ended.is_some_and(|at| at <= seen);
            Instance {
                id: vm.id.clone(),
                live: !gone,
                gone,
                address: (vm.running <= seen && !gone).then(|| vm.address.clone()),
                launched_at: vm.launched_at(),
            }
        };
        self.vms.values().filter(known).map(instance).collect()
    }

    pub fn by_id(&self, id: &str) -> Option<(usize, &Vm)> {
        let (machine, vm) = self.vms.iter().find(|(_, vm)| vm.id == id)?;
        Some((*machine, vm))
    }

    pub fn launch(&self, token: &str, zone: usize) -> Launch {
        match self.tokens.get(&(token.to_string(), zone)) {
            Some(machine) if self.vms[machine].is_live() => Launch::Known(*machine),
            Some(_) => Launch::Terminated,
            None if self.full[zone] => Launch::NoCapacity,
            None => Launch::New,
        }
    }

    pub fn add(&mut self, machine: usize, vm: Vm, token: &str) {
        self.tokens.insert((token.into(), vm.zone), machine);
        self.vms.insert(machine, vm);
    }

    /// Tagged and not ended.
    pub fn live(&self) -> impl Iterator<Item = (&usize, &Vm)> {
        self.vms.iter().filter(|(_, vm)| vm.tagged && vm.is_live())
    }
}
