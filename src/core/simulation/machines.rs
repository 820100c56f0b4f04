//! Instances that come and go.

use super::Ms;
use super::cloud::Vm;
use super::events::{Event, Who};
use super::server::Server;
use super::world::{World, note};

impl World {
    /// RunInstances has launched one. Its number.
    pub fn new_machine(&mut self, by: usize, token: &str, zone: usize) -> usize {
        let number = self.servers.len();
        let sick = self.rate(|f| f.sick);
        let sick = self.random.chance(sick);
        let running = self.now + self.random.within(1000, 5000);
        let healthy = running + self.random.within(1, self.site.boot_timeout / 3);
        let vm = Vm {
            id: format!("i-{number}"),
            address: self.new_address(number),
            tagged: true,
            launched: Some(self.now),
            zone,
            running,
            healthy: (!sick).then_some(healthy),
            ended: None,
        };
        note!(
            self,
            "EC2 launches {} at {} for app{by}, sick: {sick}",
            vm.id,
            vm.address
        );
        self.judge_launch(by, zone);
        self.addresses.insert(vm.address.clone(), number);
        self.cloud.add(number, vm, token);
        self.servers.push(Server::new(self.site.balancers));
        if sick && self.random.chance(0.4) {
            let lives = self.random.within(1, 8000);
            self.after(lives, Event::Retire(number));
        }
        self.at(running, Event::PowerOn(Who::Daemon(number)));
        self.settled.changes.push((self.now, 1));
        number
    }

    fn new_address(&mut self, number: usize) -> String {
        let free = |address: &&String| {
            let vm = &self.cloud.vms[&self.addresses[*address]];
            vm.ended.is_some()
        };
        if self.site.reuses_addresses
            && let Some(address) = self.addresses.keys().find(free)
        {
            return address.clone();
        }
        format!("10.0.{}.{}", number / 250, number % 250 + 1)
    }

    /// TerminateInstances, called by the daemon of machine `by`.
    pub fn terminate(&mut self, machine: usize, by: usize) {
        self.judge_termination(machine);
        if self.cloud.vms[&machine].is_live() && machine == by {
            self.settled.changes.push((self.now, -1));
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
}
