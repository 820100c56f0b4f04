//! Faults that begin at some moment, and end at another.

use super::Ms;
use super::balancer::Balancer;
use super::events::{Event, Who};
use super::site::Kind;
use super::world::{World, note};

const LONGEST: Ms = 60_000;

impl World {
    /// One fault, and when the next one comes.
    pub fn fault(&mut self) {
        if !self.faulty() || self.site.faults.kinds.is_empty() {
            return;
        }
        let kinds = self.site.faults.kinds.len();
        let kind = self.site.faults.kinds[self.random.index(kinds)];
        let server = self.random.index(self.servers.len());
        let balancer = self.random.index(self.site.balancers);
        let until = self.fault_end(LONGEST);
        note!(self, "FAULT {kind:?}: app{server}, lb{balancer}, until {until}");
        match kind {
            Kind::KillDaemon => self.kill_until(Who::Daemon(server), until),
            Kind::KillMaster => self.kill_until(Who::Master(balancer), until),
            Kind::PowerOffServer => self.power_off_until(Who::Daemon(server), until),
            Kind::PowerOffBalancer => self.power_off_until(Who::Master(balancer), until),
            Kind::Stall => {
                let who = self.anyone(server, balancer);
                self.process_mut(who).stalled_until = until;
            }
            Kind::Suspend => self.suspend(server, balancer, until),
            Kind::Cut => self.cut(until),
            Kind::Reset => self.reset(),
            Kind::SshdDown => self.balancers[balancer].sshd_down_until = until,
            Kind::Ec2Down => self.ec2_down_until = until,
            Kind::NoCapacity => {
                let zone = self.random.index(self.site.zones);
                self.cloud.full[zone] = true;
                self.cloud.capacity_changed[zone] = self.now;
                self.at(until, Event::Capacity(zone));
            }
            Kind::WallClock => {
                let hour = self.random.within(0, 7_200_000) as i64 - 3_600_000;
                self.balancers[balancer].wall += hour;
                self.clocks_jump(balancer);
            }
            Kind::DiskFull => self.balancers[balancer].disk_full_until = until,
            Kind::Retired => {
                // Where the last one goes, nobody is left to decide anything.
                let stays = |n: &usize| {
                    let listed = |host: &Balancer| host.servers(&self.addresses).any(|s| s == *n);
                    *n != server && self.cloud.vms[n].is_live() && self.balancers.iter().all(listed)
                };
                if (0..self.servers.len()).any(|n| stays(&n)) && self.cloud.vms[&server].tagged {
                    self.end_machine(server);
                }
            }
        }
        let pause = self.random.within(500, self.site.faults.pause);
        self.after(pause, Event::Fault);
    }

    fn anyone(&mut self, server: usize, balancer: usize) -> Who {
        match self.random.chance(0.6) {
            true => Who::Daemon(server),
            false => Who::Master(balancer),
        }
    }

    fn kill_until(&mut self, who: Who, until: Ms) {
        self.kill(who);
        self.at(until, Event::Start(who));
    }

    fn power_off_until(&mut self, who: Who, until: Ms) {
        self.power_off(who);
        self.at(until, Event::PowerOn(who));
    }

    fn suspend(&mut self, server: usize, balancer: usize, until: Ms) {
        let who = self.anyone(server, balancer);
        let process = self.process(who);
        if !process.up || self.now < process.stalled_until {
            return;
        }
        let time = until - self.now;
        let process = self.process_mut(who);
        process.stalled_until = until;
        process.suspended_until = until;
        process.lost += time;
        match who {
            Who::Daemon(number) => {
                // A grant may be waiting for it, and it may hold one.
                self.servers[number].deluded_until = until + self.site.lease + 10_000;
            }
            Who::Master(number) => self.clocks_jump(number),
        }
    }

    fn clocks_jump(&mut self, balancer: usize) {
        if let Some(ledger) = &mut self.balancers[balancer].ledger {
            ledger.clocks_jump();
        }
    }

    /// Two halves that do not reach each other.
    fn cut(&mut self, until: Ms) {
        let balancers: Vec<bool> = (0..self.site.balancers)
            .map(|_| self.random.chance(0.5))
            .collect();
        for server in 0..self.servers.len() {
            let half = self.random.chance(0.5);
            for (balancer, other) in balancers.iter().enumerate() {
                if half != *other {
                    self.cuts.insert((server, balancer), until);
                }
            }
        }
    }

    fn reset(&mut self) {
        let open = |n: &usize| self.conns[*n].to_node.open || self.conns[*n].to_master.open;
        let open: Vec<usize> = (0..self.conns.len()).filter(open).collect();
        if !open.is_empty() {
            let conn = open[self.random.index(open.len())];
            self.close_at_node(conn, "reset");
            self.close_at_master(conn);
        }
    }
}
