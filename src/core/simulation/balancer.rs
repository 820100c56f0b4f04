//! HAProxy hosts: the real [`Master`] with its disk, which may die between any two of its outputs, and
//! the machine that it and a HAProxy run on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Ms;
use super::cloud::EPOCH;
use super::events::{Event, Who};
use super::haproxy::Haproxy;
use super::ledger::Ledger;
use super::network::Packet;
use super::site::balancer_name;
use super::world::{Process, World, note};
use crate::core::master::lease::{Arbiter, PeerId, Saved, Wish};
use crate::core::master::{Master, Output};

/// From a change at the host to its master's look.
const LOOK: Ms = 1000;

pub struct Balancer {
    pub process: Process,
    master: Option<Master>,
    pub powered: bool,
    pub sshd_down_until: Ms,
    pub haproxy: Haproxy,
    /// A look of the master is on its way.
    looks: bool,
    /// The app servers that have a tunnel.
    pub tunnels: BTreeSet<usize>,
    disk: Option<String>,
    /// Written, and not yet on the disk.
    noted: Option<String>,
    pub disk_full_until: Ms,
    /// How far its wall clock is ahead, in milliseconds.
    pub wall: i64,
    peers: BTreeMap<PeerId, usize>,
    pub last_peer: PeerId,
    pub ledger: Option<Ledger>,
    /// The epoch of the lease that is held, and since when.
    pub lease_since: Option<(u64, Ms)>,
}

impl Balancer {
    pub fn new() -> Balancer {
        Balancer {
            process: Process::default(),
            master: None,
            powered: false,
            sshd_down_until: 0,
            haproxy: Haproxy::default(),
            looks: false,
            tunnels: BTreeSet::new(),
            disk: None,
            noted: None,
            disk_full_until: 0,
            wall: 0,
            peers: BTreeMap::new(),
            last_peer: 0,
            ledger: None,
            lease_since: None,
        }
    }

    /// Is a node about to leave, as far as the master knows?
    fn is_leaving(&self) -> bool {
        let lease = self.master.as_ref().and_then(|m| m.arbiter.lease());
        lease.is_some_and(|lease| lease.wish == Wish::Leave)
    }

    /// What was not on the disk is gone.
    pub fn power_off(&mut self) {
        self.powered = false;
        if self.noted.take().is_some()
            && let Some(ledger) = &mut self.ledger
        {
            ledger.not_saved();
        }
    }

    pub fn epoch_held(&self) -> Option<u64> {
        Some(self.master.as_ref()?.arbiter.lease()?.epoch)
    }
}

impl World {
    /// The wall clock of a HAProxy host, since 1970.
    fn wall_clock(&self, number: usize) -> Duration {
        let now = (EPOCH * 1000 + self.now) as i64 + self.balancers[number].wall;
        Duration::from_millis(now as u64)
    }

    pub fn start_master(&mut self, number: usize) {
        if self.balancers[number].process.up || !self.balancers[number].powered {
            return;
        }
        let (wall, now) = (self.wall_clock(number), self.clock(Who::Master(number)));
        let rules = self.site.lease_rules();
        let host = &mut self.balancers[number];
        if let Some(text) = host.noted.take() {
            host.disk = Some(text);
        }
        let saved = host.disk.as_ref().map(|text| Saved::parse(text, wall));
        let something = saved.is_some();
        let epoch = saved.as_ref().map_or(0, |saved| saved.epoch);
        let arbiter = Arbiter::new(rules.clone(), saved, now);
        let ledger = host.ledger.get_or_insert_with(|| Ledger::new(rules, now));
        let verdict = ledger
            .started(something, epoch, arbiter.lease(), now)
            .and(ledger.blocks(arbiter.cooldown_left(now)));
        host.process.up = true;
        host.process.life += 1;
        host.process.tick = None;
        host.peers.clear();
        host.last_peer = 0;
        host.tunnels.clear();
        host.looks = false;
        host.master = Some(Master::new(balancer_name(number), Vec::new(), arbiter));
        note!(
            self,
            "lb{number}: master starts with {:?}",
            self.balancers[number].disk
        );
        self.judge_master(number, verdict);
        self.save(number, true);
        self.see_entries(number);
        self.wake_master(number);
    }

    pub fn master_died(&mut self, number: usize) {
        let host = &mut self.balancers[number];
        host.master = None;
        let conns: Vec<usize> = std::mem::take(&mut host.peers).into_values().collect();
        for conn in conns {
            if self.balancers[number].powered && self.conns[conn].to_master.open {
                self.post_to_node(conn, Packet::End);
            }
            self.conns[conn].to_master.open = false;
        }
    }

    pub fn master_opened(&mut self, number: usize, peer: PeerId, conn: usize) {
        let now = self.clock(Who::Master(number));
        let host = &mut self.balancers[number];
        host.peers.insert(peer, conn);
        if let Some(master) = &mut host.master {
            let outputs = master.opened(peer, now);
            self.carry_out_master(number, outputs);
        }
    }

    pub fn master_closed(&mut self, number: usize, peer: PeerId) {
        let host = &mut self.balancers[number];
        host.peers.remove(&peer);
        if let Some(master) = &mut host.master {
            master.closed(peer);
        }
    }

    pub fn master_line(&mut self, number: usize, conn: usize, line: &str) {
        let now = self.clock(Who::Master(number));
        let server = self.conns[conn].server;
        let (peer, node) = (self.conns[conn].peer, format!("app{server}/i-{server}"));
        note!(self, "lb{number} < {node}: {line}");
        let nonce = format!("{:016x}", self.random.next());
        let host = &mut self.balancers[number];
        let (Some(master), Some(ledger)) = (&mut host.master, &mut host.ledger) else {
            return;
        };
        ledger.line(line, &node, peer, now);
        let outputs = master.line(peer, line, &nonce, now);
        let verdict = ledger.heard(master.arbiter.lease(), peer, now);
        if let (Ok(Some(machines)), Some(lease)) = (&verdict, master.arbiter.lease()) {
            self.grants.insert((number, lease.id.clone()), *machines);
        }
        self.judge_master(number, verdict.map(|_| ()));
        self.carry_out_master(number, outputs);
    }

    pub fn tick_master(&mut self, number: usize) {
        let now = self.clock(Who::Master(number));
        let host = &mut self.balancers[number];
        let (Some(master), Some(ledger)) = (&mut host.master, &mut host.ledger) else {
            return;
        };
        let outputs = master.tick(now);
        ledger.tick(now);
        let verdict = ledger.agree(master.arbiter.lease());
        self.judge_master(number, verdict);
        self.carry_out_master(number, outputs);
    }

    fn carry_out_master(&mut self, number: usize, outputs: Vec<Output>) {
        let crash = self.rate(|f| f.crash);
        let dies = match !outputs.is_empty() && self.random.chance(crash) {
            true => Some(self.random.index(outputs.len() + 1)),
            false => None,
        };
        for (at, output) in outputs.into_iter().enumerate() {
            if dies == Some(at) {
                break;
            }
            match output {
                Output::Send(peer, message) => {
                    if let Some(conn) = self.balancers[number].peers.get(&peer).copied() {
                        self.post_to_node(conn, Packet::Line(message));
                    }
                }
                Output::Close(peer) => {
                    if let Some(conn) = self.balancers[number].peers.get(&peer).copied() {
                        self.close_at_master(conn);
                    }
                }
                Output::Tell { except, message } => {
                    let host = &self.balancers[number];
                    let welcome = host.master.iter().flat_map(Master::welcome);
                    let others = welcome.filter(|peer| Some(*peer) != except);
                    let conns: Vec<usize> = others.filter_map(|p| host.peers.get(&p).copied()).collect();
                    for conn in conns {
                        self.post_to_node(conn, Packet::Line(message.clone()));
                    }
                }
                Output::Save => self.save(number, true),
                Output::Note => self.save(number, false),
                Output::Report(_) => {}
                Output::Say(text) => note!(self, "lb{number}: {text}"),
            }
        }
        if dies.is_some() {
            self.kill(Who::Master(number));
            let back = self.fault_end(20_000);
            self.at(back, Event::Start(Who::Master(number)));
        } else {
            self.wake_master(number);
        }
    }

    fn wake_master(&mut self, number: usize) {
        let deadline = self.balancers[number].master.as_ref().and_then(Master::deadline);
        if let Some(deadline) = deadline {
            self.wake(Who::Master(number), deadline);
        }
    }

    /// `synced`: all of the state, safe from a power cut; else the lease alone, behind what was saved
    /// before, and safe from the end of the process.
    fn save(&mut self, number: usize, synced: bool) {
        let (wall, now) = (self.wall_clock(number), self.clock(Who::Master(number)));
        let host = &mut self.balancers[number];
        if self.now < host.disk_full_until {
            return;
        }
        if let (Some(master), Some(ledger)) = (&host.master, &mut host.ledger) {
            let saved = master.arbiter.save(now);
            if synced {
                (host.disk, host.noted) = (Some(saved.text(wall)), None);
                ledger.saved();
            } else if let Some(before) = host.noted.as_ref().or(host.disk.as_ref()) {
                host.noted = Some(format!("{before}{}", saved.lease_line(wall)));
                ledger.noted();
            }
        }
    }

    /// An entry has changed, or how HAProxy has it: the master sees it within a second.
    pub fn entries_changed(&mut self, number: usize) {
        if !self.balancers[number].looks {
            self.balancers[number].looks = true;
            let life = self.balancers[number].process.life;
            let wait = self.random.within(1, LOOK);
            self.after(wait, Event::Entries(number, life));
        }
    }

    pub fn see_entries(&mut self, number: usize) {
        let now = self.clock(Who::Master(number));
        let listed = self.balancers[number].haproxy.listing(self.now);
        let host = &mut self.balancers[number];
        host.looks = false;
        if let (Some(master), Some(ledger)) = (&mut host.master, &mut host.ledger) {
            let outputs = master.saw(&listed, now);
            ledger.saw(&listed, now);
            let verdict = ledger.agree(master.arbiter.lease());
            self.judge_master(number, verdict);
            self.carry_out_master(number, outputs);
        }
        self.follow_entries(number);
    }

    /// The tunnels follow the entries. While a node leaves they outlive them: it has to say `FINISH`.
    fn follow_entries(&mut self, number: usize) {
        let host = &self.balancers[number];
        let listed: BTreeSet<usize> = self.listed(number).collect();
        let gone: Vec<usize> = host.tunnels.difference(&listed).copied().collect();
        let (shrinking, life) = (host.is_leaving(), host.process.life);
        let host = &mut self.balancers[number];
        host.tunnels.extend(listed);
        if gone.is_empty() {
            return;
        }
        if shrinking {
            host.looks = true;
            self.after(LOOK, Event::Entries(number, life));
            return;
        }
        host.tunnels.retain(|server| !gone.contains(server));
        let theirs = |(_, conn): (&PeerId, &usize)| gone.contains(&self.conns[*conn].server).then_some(*conn);
        let conns: Vec<usize> = host.peers.iter().filter_map(theirs).collect();
        for conn in conns {
            if self.conns[conn].balancer_life == life {
                self.close_at_master(conn);
            }
        }
    }

    /// The machines that stand behind a host's entries now.
    pub fn listed(&self, host: usize) -> impl Iterator<Item = usize> + '_ {
        let entries = self.balancers[host].haproxy.entries.iter();
        entries.filter_map(|e| self.addresses.get(&e.address).copied())
    }
}
