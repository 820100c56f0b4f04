//! What people do by hand, and what EC2 does on its own.

use super::Ms;
use super::events::{Event, Who};
use super::haproxy::Admin;
use super::world::{World, note};
use crate::core::node::Machine;

/// From the announcement of an interruption to the end.
const INTERRUPTION: Ms = 120_000;

impl World {
    /// HAProxy tells otherwise than before.
    pub fn touch(&mut self, host: usize) {
        self.after_change(host);
    }

    /// The serial number of a machine's entry on one host.
    fn entry_of(&self, machine: usize, host: usize) -> Option<u64> {
        let address = &self.cloud.vms[&machine].address;
        let mut entries = self.balancers[host].haproxy.entries.iter();
        entries.find(|e| e.address == *address).map(|e| e.serial)
    }

    fn is_alone(&self, host: usize) -> bool {
        self.balancers[host].haproxy.entries.len() < 2
    }

    /// A new host takes the name of an old one, with nobody entered, or one.
    pub fn make_anew(&mut self, host: usize) {
        let kept = self.random.index(2);
        let elsewhere = (0..self.site.balancers)
            .any(|other| other != host && self.balancers[other].haproxy.entries.iter().any(|e| e.serves()));
        let kept = if elsewhere { kept } else { 1 };
        let serials: Vec<u64> = self.balancers[host]
            .haproxy
            .entries
            .iter()
            .map(|e| e.serial)
            .collect();
        let first = self.balancers[host]
            .haproxy
            .entries
            .iter()
            .find(|e| e.serves())
            .map(|e| e.serial);
        if first.is_none() && kept == 1 {
            return;
        }
        for serial in serials {
            if kept == 0 || Some(serial) != first {
                self.take_out(host, serial, None);
            }
        }
        self.balancers[host].haproxy.forget_removals();
    }

    /// With the tag that keeps it out.
    pub fn take_out_for_good(&mut self, machine: usize) {
        let vm = &self.cloud.vms[&machine];
        if !vm.tagged || !vm.is_live() || !self.is_spared(&[machine]) {
            return;
        }
        note!(self, "a person keeps app{machine} out");
        let now = self.now;
        let vm = self.cloud.vms.get_mut(&machine).expect("one of them");
        (vm.keep, vm.kept_at) = (true, now);
        for host in 0..self.site.balancers {
            if let Some(serial) = self.entry_of(machine, host)
                && self.balancers[host].powered
            {
                self.take_out(host, serial, None);
            }
        }
    }

    /// In HAProxy alone, until then or for good.
    pub fn maintain(&mut self, machine: usize, until: Ms) {
        if !self.is_spared(&[machine]) {
            return;
        }
        let for_good = self.random.chance(0.5);
        for host in 0..self.site.balancers {
            let Some(serial) = self.entry_of(machine, host) else {
                continue;
            };
            self.set_admin(host, serial, Admin::Maint);
            if !for_good {
                self.at(until, Event::Ready(host, serial));
            }
        }
    }

    pub fn set_admin(&mut self, host: usize, serial: u64, admin: Admin) {
        let now = self.now;
        let mut entries = self.balancers[host].haproxy.entries.iter_mut();
        if let Some(entry) = entries.find(|e| e.serial == serial) {
            (entry.admin, entry.since) = (admin, now);
            note!(self, "lb{host}: a person sets entry {serial} to {admin:?}");
            self.after_change(host);
        }
    }

    /// On one host, which the others make good.
    pub fn remove_by_hand(&mut self, machine: usize, host: usize) {
        if let Some(serial) = self.entry_of(machine, host)
            && !self.is_alone(host)
            && self.is_spared(&[machine])
        {
            note!(self, "a person removes app{machine} on lb{host}");
            self.take_out(host, serial, None);
        }
    }

    /// A machine, with its id or without, or one that never was.
    pub fn enter_by_hand(&mut self, machine: usize, host: usize) {
        let mut what = self.machine(machine);
        match self.random.index(3) {
            0 => {
                what = Machine {
                    instance: Some(format!("i-{}", 900_000 + machine)),
                    host: format!("10.9.9.{}", machine % 250 + 1),
                    port: 80,
                }
            }
            1 => what.instance = None,
            _ => {}
        }
        let vm = &self.cloud.vms[&machine];
        if vm.is_live() && !vm.keep {
            note!(self, "a person enters {what:?} on lb{host}");
            self.add_host(host, &what, None);
        }
    }

    /// An entry loses its id.
    pub fn edit_by_hand(&mut self, machine: usize, host: usize) {
        if let Some(serial) = self.entry_of(machine, host)
            && self.cloud.vms[&machine].is_live()
        {
            let mut entries = self.balancers[host].haproxy.entries.iter_mut();
            let entry = entries.find(|e| e.serial == serial).expect("just found");
            entry.instance = None;
            note!(self, "a person edits the entry of app{machine} on lb{host}");
            self.after_change(host);
        }
    }

    pub fn stop(&mut self, machine: usize, until: Ms) {
        let vm = &self.cloud.vms[&machine];
        if !vm.is_live() || vm.stopped || !self.is_spared(&[machine]) {
            return;
        }
        let vm = self.cloud.vms.get_mut(&machine).expect("one of them");
        vm.stopped = true;
        self.power_off(Who::Daemon(machine));
        if self.random.chance(0.7) {
            self.at(until, Event::Resume(machine));
        }
    }

    /// EC2 takes one back, or many at once; or says that it may.
    pub fn take_back(&mut self, machine: usize, for_good: bool) {
        let mut all = match self.random.chance(0.4) {
            true => self.some_machines(0.7),
            false => vec![machine],
        };
        all.retain(|n| self.cloud.vms[n].tagged && self.cloud.vms[n].notice.is_none());
        if for_good && (!self.is_spared(&all) || self.now + INTERRUPTION > self.site.faults.until) {
            return;
        }
        for machine in all {
            let end = for_good.then_some(self.now + INTERRUPTION);
            note!(self, "EC2 takes app{machine} back: {end:?}");
            let vm = self.cloud.vms.get_mut(&machine).expect("one of them");
            vm.notice = Some(end);
            let wait = self.random.within(1, 5000);
            self.after(wait, Event::Notice(machine));
            if let Some(end) = end {
                self.at(end, Event::Retire(machine));
            }
        }
    }
}
