//! Instances that come and go, and their apps.

use super::Ms;
use super::cloud::Vm;
use super::events::{Event, Who};
use super::haproxy::Admin;
use super::server::Server;
use super::site::Lasting;
use super::world::{World, note};

impl World {
    /// RunInstances launches `count` machines. Their numbers.
    pub fn launch(&mut self, by: usize, token: &str, zone: usize, count: u32) -> Vec<usize> {
        self.judge_launch(by, count as usize);
        (0..count).map(|_| self.new_machine(by, token, zone)).collect()
    }

    fn new_machine(&mut self, by: usize, token: &str, zone: usize) -> usize {
        let number = self.servers.len();
        let sick = self.rate(|f| f.sick);
        let sick = self.random.chance(sick);
        let running = self.now + self.random.within(1000, 5000);
        let healthy = running + self.random.within(1, self.site.boot_timeout / 3);
        let (healthy, bad) = match self.site.faults.lasting {
            Some(Lasting::BadImage { healthy: true }) => (Some(healthy), true),
            Some(Lasting::BadImage { healthy: false }) => (None, false),
            _ if sick && self.random.chance(0.4) => (Some(healthy), true),
            _ => ((!sick).then_some(healthy), false),
        };
        let vm = Vm {
            id: format!("i-{number}"),
            address: self.new_address(number),
            tagged: true,
            launched: Some(self.now),
            zone,
            running,
            healthy,
            sick_until: 0,
            bad,
            ended: None,
            keep: false,
            kept_at: 0,
            stopped: false,
            unleased_at: if self.granted(by) == 0 { self.now } else { 0 },
            protected_until: 0,
            notice: None,
        };
        note!(
            self,
            "EC2 launches {} at {} for app{by}, healthy: {healthy:?}, bad: {bad}",
            vm.id,
            vm.address
        );
        self.addresses.insert(vm.address.clone(), number);
        self.cloud.add(number, vm, token);
        self.servers.push(Server::new(self.site.balancers));
        if sick && self.random.chance(0.4) {
            let lives = self.random.within(1, 8000);
            self.after(lives, Event::Retire(number));
        }
        self.at(running, Event::PowerOn(Who::Daemon(number)));
        if let Some(healthy) = healthy {
            self.at(healthy, Event::Health(number));
        }
        self.settled.changes.push((self.now, 1));
        number
    }

    fn new_address(&mut self, number: usize) -> String {
        let rest = 20_000;
        let free = |address: &&String| {
            let vm = &self.cloud.vms[&self.addresses[*address]];
            vm.ended.is_some_and(|at| at + rest < self.now)
        };
        if self.site.reuses_addresses
            && let Some(address) = self.addresses.keys().find(free)
        {
            return address.clone();
        }
        format!("10.0.{}.{}", number / 250, number % 250 + 1)
    }

    pub fn is_protected(&self, machine: usize) -> bool {
        self.site.has(Lasting::NoTerminations) || self.now < self.cloud.vms[&machine].protected_until
    }

    /// TerminateInstances, called by the daemon of machine `by`.
    pub fn terminate(&mut self, machine: usize, by: usize) {
        if self.cloud.vms[&machine].is_live() {
            self.judge_termination(machine, by);
            // One that does not serve is no size of the site.
            if machine == by && self.serves(machine) {
                self.settled.changes.push((self.now, -1));
            }
        }
        self.end_machine(machine);
    }

    /// The instance ends, for whatever reason, and its machine a little later.
    pub fn end_machine(&mut self, machine: usize) {
        let now = self.now;
        if let Some(vm) = self.cloud.vms.get_mut(&machine)
            && vm.is_live()
        {
            vm.ended = Some(now);
            note!(self, "{} is terminated", self.cloud.vms[&machine].id);
            let rest: Ms = self.random.within(1, 3000);
            self.after(rest, Event::PowerOff(machine));
        }
    }

    /// Its app does not answer until then.
    pub fn fall_sick(&mut self, machine: usize, until: Ms) {
        let vm = self.cloud.vms.get_mut(&machine).expect("one of them");
        vm.sick_until = vm.sick_until.max(until);
        note!(self, "the app of app{machine} is sick until {until}");
        self.health_changed(machine);
        if until < Ms::MAX {
            self.at(until, Event::Health(machine));
        }
    }

    /// A stopped instance is started again.
    pub fn resume(&mut self, machine: usize) {
        let now = self.now;
        let vm = self.cloud.vms.get_mut(&machine).expect("one of them");
        if vm.is_live() {
            vm.stopped = false;
            vm.unleased_at = now;
            note!(self, "app{machine} runs again");
            self.power_on(Who::Daemon(machine));
        }
    }

    /// HAProxy starts: nobody drains, and each is checked.
    pub fn haproxy_starts(&mut self, host: usize) {
        for entry in &mut self.balancers[host].haproxy.entries {
            entry.admin = Admin::Ready;
        }
        self.check_all_soon(host);
        self.after_change(host);
    }
}
