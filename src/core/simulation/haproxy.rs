//! A HAProxy host: its entries, how HAProxy has each, and `add-host` and `remove-host` there.

use std::collections::BTreeMap;

use super::Ms;
use super::calls::{Call, Reply};
use super::events::Event;
use super::world::{World, note};
use crate::core::haproxy::listing::Listed;
use crate::core::haproxy::state::State;
use crate::core::node::Machine;

/// For the requests of a server that drains.
const LONGEST_DRAIN: Ms = 8000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admin {
    Ready,
    Drain,
    Maint,
}

#[derive(Debug)]
pub struct Entry {
    pub serial: u64,
    pub name: String,
    pub address: String,
    pub instance: Option<String>,
    /// By HAProxy's checks.
    pub up: bool,
    pub admin: Admin,
    pub since: Ms,
    /// When its checks said otherwise last.
    pub flipped: Ms,
}

impl Entry {
    pub fn serves(&self) -> bool {
        self.up && self.admin == Admin::Ready
    }

    pub fn is(&self, machine: &Machine) -> bool {
        match (&self.instance, &machine.instance) {
            (Some(one), Some(other)) => one == other,
            _ => self.address == machine.host,
        }
    }
}

#[derive(Debug, Default)]
pub struct Haproxy {
    pub entries: Vec<Entry>,
    last_serial: u64,
    pub silent_until: Ms,
    pub garbled_until: Ms,
    pub refusing_until: Ms,
    /// What `remove-host` took out, by id or address, and when.
    removed: BTreeMap<String, Ms>,
    /// Since when nobody serves.
    pub dark_since: Option<Ms>,
}

impl Haproxy {
    /// Enters it, DOWN until its first check.
    pub fn enter(&mut self, name: String, address: &str, instance: Option<String>, now: Ms) -> u64 {
        self.last_serial += 1;
        self.entries.push(Entry {
            serial: self.last_serial,
            name,
            address: address.into(),
            instance,
            up: false,
            admin: Admin::Ready,
            since: now,
            flipped: now,
        });
        self.last_serial
    }

    pub fn lists(&self, id: &str) -> bool {
        self.entries.iter().any(|e| e.instance.as_deref() == Some(id))
    }

    pub fn removed_at(&self, machine: &Machine) -> Option<Ms> {
        self.removed.get(&key(machine)).copied()
    }

    pub fn forget_removals(&mut self) {
        self.removed.clear();
    }

    fn at(&mut self, serial: u64) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|e| e.serial == serial)
    }

    /// Does anybody else get requests?
    fn others_serve(&self, serial: u64, now: Ms) -> bool {
        let mut others = self.entries.iter().filter(|e| e.serial != serial);
        match now < self.silent_until {
            true => others.next().is_some(),
            false => others.any(Entry::serves),
        }
    }

    /// As `list-hosts --state` tells it, or HAProxy the master.
    pub fn listing(&self, now: Ms) -> Vec<Listed> {
        let silent = now < self.silent_until;
        let listed = |e: &Entry| Listed {
            name: e.name.clone(),
            address: e.address.clone(),
            port: Some(80),
            instance: e.instance.clone(),
            state: match e.admin {
                _ if silent => State::Unknown,
                Admin::Maint => State::Maint,
                Admin::Drain => State::Drain,
                Admin::Ready if e.up => State::Up,
                Admin::Ready => State::Down,
            },
            since: (!silent).then_some((now - e.since) / 1000),
        };
        self.entries.iter().map(listed).collect()
    }
}

fn key(machine: &Machine) -> String {
    machine.instance.clone().unwrap_or_else(|| machine.host.clone())
}

impl World {
    /// HAProxy's next checks of these servers come to the same.
    pub fn check_soon(&mut self, host: usize, serial: u64) {
        let longest = [2000, 6000][self.random.index(2)];
        let wait = self.random.within(200, longest);
        self.after(wait, Event::Check(host, serial));
    }

    /// The app of a machine, or the way to it, is another than before.
    pub fn health_changed(&mut self, machine: usize) {
        let address = self.cloud.vms[&machine].address.clone();
        for host in 0..self.balancers.len() {
            let haproxy = &self.balancers[host].haproxy;
            let at = haproxy.entries.iter().filter(|e| e.address == address);
            for serial in at.map(|e| e.serial).collect::<Vec<_>>() {
                self.check_soon(host, serial);
            }
        }
    }

    pub fn check_all_soon(&mut self, host: usize) {
        let entries = self.balancers[host].haproxy.entries.iter();
        for serial in entries.map(|e| e.serial).collect::<Vec<_>>() {
            self.check_soon(host, serial);
        }
    }

    /// Does HAProxy's check of this address pass?
    fn passes(&self, host: usize, address: &str) -> bool {
        self.addresses
            .get(address)
            .is_some_and(|machine| self.serves(*machine) && self.is_cut(*machine, host).is_none())
    }

    pub fn check(&mut self, host: usize, serial: u64) {
        let now = self.now;
        if !self.balancers[host].powered {
            return;
        }
        let Some(entry) = self.balancers[host].haproxy.at(serial) else {
            return;
        };
        let address = entry.address.clone();
        let up = self.passes(host, &address);
        let haproxy = &mut self.balancers[host].haproxy;
        let Some(entry) = haproxy.at(serial).filter(|e| e.up != up) else {
            return;
        };
        (entry.up, entry.since, entry.flipped) = (up, now, now);
        note!(self, "lb{host}: {address} is {}", if up { "UP" } else { "DOWN" });
        self.after_change(host);
    }

    /// The last that others leave to serve takes its drain back.
    pub fn after_change(&mut self, host: usize) {
        let now = self.now;
        let haproxy = &mut self.balancers[host].haproxy;
        if !haproxy.entries.iter().any(Entry::serves) && now >= haproxy.silent_until {
            for entry in haproxy
                .entries
                .iter_mut()
                .filter(|e| e.up && e.admin == Admin::Drain)
            {
                (entry.admin, entry.since) = (Admin::Ready, now);
            }
        }
        haproxy.dark_since = match haproxy.entries.iter().any(Entry::serves) {
            true => None,
            false => Some(haproxy.dark_since.unwrap_or(now)),
        };
        self.entries_changed(host);
    }

    /// `add-host`. `by`: by a plan, and thus not what was removed a little while ago, and whose
    /// daemon; `None`: by hand.
    pub fn add_host(&mut self, host: usize, machine: &Machine, by: Option<(bool, usize)>) -> Reply {
        let (now, most) = (self.now, self.site.max_hosts + 1);
        if self.is_refusing(host) {
            return Reply::Refused;
        }
        let boot_timeout = self.site.boot_timeout;
        let haproxy = &mut self.balancers[host].haproxy;
        let removed = haproxy.removed_at(machine);
        if by.is_some_and(|(by_plan, _)| by_plan) && removed.is_some_and(|at| now - at < boot_timeout) {
            return Reply::Done;
        }
        let known = |e: &Entry| match (&e.instance, &machine.instance) {
            (Some(one), Some(other)) => one == other && e.address == machine.host,
            _ => e.address == machine.host,
        };
        if let Some(entry) = haproxy.entries.iter_mut().find(|e| known(e)) {
            if entry.instance.is_none() {
                entry.instance.clone_from(&machine.instance);
            }
            if entry.admin == Admin::Drain {
                (entry.admin, entry.since) = (Admin::Ready, now);
                self.after_change(host);
            }
            return Reply::Done;
        }
        let others = |e: &Entry| e.address != machine.host && !e.is(machine);
        let instead = haproxy.entries.len();
        haproxy.entries.retain(others);
        if haproxy.entries.len() == instead && instead >= most {
            return Reply::Refused;
        }
        let serial = haproxy.last_serial + 1;
        let name = machine
            .instance
            .clone()
            .unwrap_or_else(|| format!("app-{serial}"));
        haproxy.enter(name, &machine.host, machine.instance.clone(), now);
        note!(
            self,
            "lb{host}: {} at {} is entered",
            machine.title(),
            machine.host
        );
        if let Some((_, by)) = by {
            self.judge_entry(host, machine, by);
        }
        self.check_soon(host, serial);
        self.after_change(host);
        Reply::Done
    }

    /// `remove-host`: drains it first. `None`: the answer comes when that is over.
    pub fn remove_host(
        &mut self,
        host: usize,
        is: impl Fn(&Entry) -> bool,
        force: bool,
        call: &Call,
    ) -> Option<Reply> {
        let now = self.now;
        let haproxy = &mut self.balancers[host].haproxy;
        let alone = haproxy.entries.len() == 1;
        let Some(entry) = haproxy.entries.iter().find(|e| is(e)) else {
            return Some(Reply::NoEntry);
        };
        let (serial, serves, up) = (entry.serial, entry.serves(), entry.up);
        if alone && !force {
            return Some(Reply::Refused);
        }
        if serves && !force && !haproxy.others_serve(serial, now) {
            return Some(Reply::Refused);
        }
        let entry = haproxy.at(serial).expect("just found");
        if up && entry.admin == Admin::Ready && now >= haproxy.silent_until {
            let entry = haproxy.at(serial).expect("just found");
            (entry.admin, entry.since) = (Admin::Drain, now);
            self.entries_changed(host);
            let wait = self.random.within(50, LONGEST_DRAIN);
            self.after(wait, Event::Drained(host, serial, Box::new(call.clone())));
            return None;
        }
        self.take_out(host, serial, Some(call.by));
        Some(Reply::Done)
    }

    /// The requests of a server that drains have ended.
    pub fn drained(&mut self, host: usize, serial: u64, call: &Call) {
        let powered = self.balancers[host].powered;
        let forced = call.order.is_forced();
        let haproxy = &mut self.balancers[host].haproxy;
        let alone = haproxy.entries.len() == 1;
        let reply = match haproxy.at(serial).map(|e| e.admin) {
            _ if !powered => return,
            None => Reply::Done,
            Some(Admin::Drain) if forced || !alone => {
                self.take_out(host, serial, Some(call.by));
                Reply::Done
            }
            // It was put back, for nobody else was left or by a person.
            Some(_) if forced => {
                self.take_out(host, serial, Some(call.by));
                Reply::Done
            }
            Some(_) => Reply::Refused,
        };
        self.reply(call, reply);
    }

    /// Its entry goes. `by`: whose daemon wants it so.
    pub fn take_out(&mut self, host: usize, serial: u64, by: Option<usize>) {
        let now = self.now;
        let haproxy = &mut self.balancers[host].haproxy;
        let Some(at) = haproxy.entries.iter().position(|e| e.serial == serial) else {
            return;
        };
        let entry = haproxy.entries.remove(at);
        let machine = Machine {
            instance: entry.instance.clone(),
            host: entry.address.clone(),
            port: 80,
        };
        haproxy.removed.insert(key(&machine), now);
        note!(self, "lb{host}: {} at {} is removed", entry.name, entry.address);
        if let Some(by) = by {
            self.judge_removal(host, by, &entry);
        }
        self.after_change(host);
    }

    pub fn is_refusing(&self, host: usize) -> bool {
        use super::site::Lasting::Refusing;
        let lasting = self.site.has(Refusing(None)) || self.site.has(Refusing(Some(host)));
        lasting || self.now < self.balancers[host].haproxy.refusing_until
    }
}
