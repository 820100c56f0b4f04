//! Faults that begin at some moment, and end at another.

use super::Ms;
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
                let process = self.process_mut(who);
                process.stalled_until = process.stalled_until.max(until);
            }
            Kind::Suspend => self.suspend(server, balancer, until),
            Kind::Cut => self.cut(until),
            Kind::Reset => self.reset(),
            Kind::SshdDown => self.balancers[balancer].sshd_down_until = until,
            Kind::Ec2Down => self.ec2_down_until = until,
            Kind::NoCapacity => self.little_capacity(0, until),
            Kind::LittleCapacity => {
                let room = self.random.within(1, 3) as u32;
                self.little_capacity(room, until);
            }
            Kind::WallClock => {
                let hour = self.random.within(0, 7_200_000) as i64 - 3_600_000;
                self.balancers[balancer].wall += hour;
                self.clocks_jump(balancer);
            }
            Kind::DiskFull => self.balancers[balancer].disk_full_until = until,
            Kind::Retired => {
                // Where the last one goes, nobody is left to decide anything.
                if self.cloud.vms[&server].tagged && self.is_spared(&[server]) {
                    self.end_machine(server);
                }
            }
            Kind::AppSick => {
                let for_good =
                    self.cloud.vms[&server].tagged && self.is_spared(&[server]) && self.random.chance(0.3);
                self.fall_sick(server, if for_good { Ms::MAX } else { until });
            }
            Kind::HalfSick => {
                for machine in self.some_machines(0.5) {
                    self.fall_sick(machine, until);
                }
            }
            Kind::Rolling => self.restart_all(),
            Kind::Deaf => self.servers[server].deaf_until = until,
            Kind::Silent => {
                self.balancers[balancer].haproxy.silent_until = until;
                self.touch(balancer);
                self.at(until, Event::Touch(balancer));
            }
            Kind::Garbled => self.balancers[balancer].haproxy.garbled_until = until,
            Kind::Refusing => self.balancers[balancer].haproxy.refusing_until = until,
            Kind::Anew => self.make_anew(balancer),
            Kind::TakenOut => self.take_out_for_good(server),
            Kind::Maintenance => self.maintain(server, until),
            Kind::Removed => self.remove_by_hand(server, balancer),
            Kind::Entered => self.enter_by_hand(server, balancer),
            Kind::Edited => self.edit_by_hand(server, balancer),
            Kind::Stopped => self.stop(server, until),
            Kind::Interrupted => self.take_back(server, true),
            Kind::Rebalanced => self.take_back(server, false),
            Kind::Protected => {
                let vm = self.cloud.vms.get_mut(&server).expect("one of them");
                vm.protected_until = until;
            }
        }
        let pause = self.random.within(500, self.site.faults.pause);
        self.after(pause, Event::Fault);
    }

    fn little_capacity(&mut self, room: u32, until: Ms) {
        let zone = self.random.index(self.site.zones);
        self.cloud.room[zone] = room;
        self.cloud.capacity_changed[zone] = self.now;
        self.at(until, Event::Capacity(zone));
    }

    /// Machines that live, each with this chance.
    pub fn some_machines(&mut self, share: f64) -> Vec<usize> {
        let live = |n: &usize| self.cloud.vms[n].is_live();
        let live: Vec<usize> = (0..self.servers.len()).filter(live).collect();
        live.into_iter().filter(|_| self.random.chance(share)).collect()
    }

    /// One after another, as for a new version.
    fn restart_all(&mut self) {
        let mut at = self.now;
        for machine in self.some_machines(1.0) {
            let end = at + self.random.within(2000, 20_000);
            if end > self.site.faults.until {
                return;
            }
            self.at(at, Event::Sick(machine, end));
            at = end + self.random.within(0, 10_000);
        }
    }

    /// Does somebody serve on every HAProxy host beside those who go, who does not go for good?
    pub fn is_spared(&self, who: &[usize]) -> bool {
        let stays = |n: &usize| {
            let vm = &self.cloud.vms[n];
            let unharmed = vm.is_live() && !vm.keep && !vm.stopped && vm.notice.is_none();
            let listed = |host: usize| {
                let entries = &self.balancers[host].haproxy.entries;
                entries.iter().any(|e| e.serves() && e.address == vm.address)
            };
            !who.contains(n) && unharmed && self.serves(*n) && (0..self.site.balancers).all(listed)
        };
        (0..self.servers.len()).any(|n| stays(&n))
    }

    /// Until when a fault lasts that begins now.
    pub fn fault_end(&mut self, longest: Ms) -> Ms {
        let end = self.now + self.random.within(500, longest);
        end.min(self.site.faults.until.max(self.now))
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
            self.health_changed(server);
            self.at(until, Event::Health(server));
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
