//! What may happen to a machine: who ends, enters or removes it, and when.

use std::collections::BTreeSet;

use super::super::balancer::Balancer;
use super::super::haproxy::{Admin, Entry};
use super::super::world::World;
use super::{EC2_CLOCK, KNOWN};
use crate::core::node::Machine;

impl World {
    /// Nobody ends a machine that serves, but itself; nor itself where nobody else serves.
    pub fn judge_termination(&mut self, machine: usize, by: usize) {
        let vm = &self.cloud.vms[&machine];
        let now = self.now;
        let kept = vm.keep && now > vm.kept_at + KNOWN + self.site.lag;
        let ups = self.balancers.iter().flat_map(|host| &host.haproxy.entries);
        let served = ups.filter(|e| e.instance.as_ref() == Some(&vm.id) && e.up);
        let served = served.map(|e| now - e.flipped).max().filter(|time| *time > KNOWN);
        let powered = self.servers[machine].powered_at;
        let healthy = self.serves(machine)
            && vm
                .healthy
                .is_some_and(|at| at.max(vm.sick_until).max(powered) + KNOWN < now);
        // Rule 6 goes by what its launcher sees.
        let own = self.servers[by].known.own.contains(&vm.id);
        let listed = self.balancers.iter().any(|host| host.haproxy.lists(&vm.id));
        let alone = self.servers[by].known.alone;
        let time = self.site.boot_timeout.saturating_sub(EC2_CLOCK);
        let boots = vm.launched.is_some_and(|at| now - at < time) && !listed && !own;
        // A HAProxy that cannot be asked says of nobody that it does not serve.
        let says = |host: &&Balancer| host.powered && now > host.haproxy.silent_until + KNOWN;
        let mut says = self.balancers.iter().filter(says);
        let nowhere = says.clone().next().is_none();
        let somebody =
            nowhere || says.any(|host| host.haproxy.dark_since.is_none_or(|since| now - since < KNOWN));
        let why = if !vm.tagged {
            "and is not tagged"
        } else if kept {
            "and a person keeps it"
        } else if by == machine && !somebody {
            "and nobody else serves"
        } else if by == machine {
            return;
        } else if vm.stopped {
            "and is stopped"
        } else if served.is_some() {
            "and serves"
        } else if healthy && !own && !alone {
            "and is healthy"
        } else if boots {
            "and has time to boot"
        } else if listed && !own && self.is_fault_elsewhere() {
            "and half of all are DOWN"
        } else {
            return;
        };
        self.violate(format!("app{machine} is terminated by app{by}, {why}"));
    }

    /// Does it reach nobody, and is none but its own machine UP? Then it takes itself for a witness.
    pub(super) fn sees_itself_alone(&self, number: usize) -> bool {
        let own = &self.cloud.vms[&number].address;
        let mut serving = self
            .balancers
            .iter()
            .flat_map(|host| &host.haproxy.entries)
            .filter(|e| e.serves());
        self.now < self.servers[number].deaf_until + KNOWN && serving.all(|e| e.address == *own)
    }

    /// Have two or more been DOWN for a while, and are these half of all?
    fn is_fault_elsewhere(&self) -> bool {
        let kept = |e: &&Entry| {
            let machine = self.addresses.get(&e.address);
            machine.is_some_and(|n| self.cloud.vms[n].keep)
        };
        let all = || self.balancers.iter().flat_map(|host| &host.haproxy.entries);
        let up = |e: &&Entry| e.up || kept(e) || e.admin != Admin::Ready || self.now - e.flipped < KNOWN;
        let places: BTreeSet<&str> = all().map(|e| e.address.as_str()).collect();
        let up: BTreeSet<&str> = all().filter(up).map(|e| e.address.as_str()).collect();
        let down = places.len() - up.len();
        down >= 2 && 2 * down >= places.len()
    }

    /// Only what serves is entered, and nothing that a person has taken out.
    pub fn judge_entry(&mut self, host: usize, machine: &Machine, by: usize) {
        let Some((number, vm)) = machine.instance.as_ref().and_then(|id| self.cloud.by_id(id)) else {
            return;
        };
        let now = self.now;
        // Whoever launched it goes on with that without looking at EC2 again.
        let own = self.servers[by].known.own.contains(&vm.id);
        // One that is back from a departure in vain was there before, if only by a person's hand.
        // A person's entry may have had no id.
        let nameless = Machine {
            instance: None,
            ..machine.clone()
        };
        let removed_at = |m| self.balancers[host].haproxy.removed_at(m);
        let mut removed = [machine, &nameless].into_iter().filter_map(removed_at);
        let back = by == number && removed.any(|at| now - at < KNOWN);
        // A HAProxy that cannot say how it is has it for all that is known.
        let mut others = self.balancers.iter().enumerate().filter(|(n, _)| *n != host);
        let elsewhere = others.any(|(_, other)| other.haproxy.entries.iter().any(|e| e.is(machine)));
        let why = if vm.keep && now > vm.kept_at + KNOWN + self.site.lag && !own {
            "and a person keeps it out"
        } else if vm.ended.is_some_and(|at| now > at + KNOWN + self.site.lag) && !own {
            "and is gone"
        } else if vm.healthy.is_none_or(|at| at > now) && !elsewhere && !back {
            "and has never served"
        } else {
            return;
        };
        self.violate(format!("app{number} is entered at lb{host}, {why}"));
    }

    /// Nobody takes another out that serves.
    pub fn judge_removal(&mut self, host: usize, by: usize, entry: &Entry) {
        let machine = self.addresses.get(&entry.address).copied();
        let id = entry.instance.as_ref().and_then(|id| self.cloud.by_id(id));
        let live = id.is_some_and(|(n, vm)| vm.is_live() && n != by);
        let others = live && entry.up && self.now - entry.flipped > KNOWN && machine != Some(by);
        if others {
            self.violate(format!(
                "app{by} takes {} out of lb{host}, which serves",
                entry.name
            ));
        }
    }
}
