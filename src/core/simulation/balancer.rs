//! HAProxy hosts: `hosts.d`, and the real [`Master`] with its disk, which may die between any two
//! of its outputs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Ms;
use super::cloud::EPOCH;
use super::events::{Event, Who};
use super::ledger::{Hosts, Ledger};
use super::network::Packet;
use super::site::balancer_name;
use super::world::{Process, World, note};
use crate::core::entry::{Entry, Form};
use crate::core::fleet::Listed;
use crate::core::lease::{Arbiter, PeerId, Saved, Wish};
use crate::core::master::{Master, Output};
use crate::core::membership::Cloud;
use crate::core::prune;

const PRUNE: Ms = 20_000;

pub struct Balancer {
    pub process: Process,
    master: Option<Master>,
    pub powered: bool,
    pub sshd_down_until: Ms,
    pub hosts: Vec<Listed>,
    /// How many entries the master last saw.
    hosts_seen: usize,
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
    serial: usize,
    /// How many entries went since the last grant, by others than its holder.
    pub taken_out_unasked: usize,
    pub ledger: Option<Ledger>,
}

impl Balancer {
    pub fn new(hosts: Vec<Listed>) -> Balancer {
        Balancer {
            process: Process::default(),
            master: None,
            powered: false,
            sshd_down_until: 0,
            hosts_seen: 0,
            serial: hosts.len(),
            taken_out_unasked: 0,
            hosts,
            tunnels: BTreeSet::new(),
            disk: None,
            noted: None,
            disk_full_until: 0,
            wall: 0,
            peers: BTreeMap::new(),
            last_peer: 0,
            ledger: None,
        }
    }

    /// The machines that stand behind its entries now.
    pub fn servers<'a>(&'a self, addresses: &'a BTreeMap<String, usize>) -> impl Iterator<Item = usize> + 'a {
        self.hosts
            .iter()
            .filter_map(|l| addresses.get(&l.address).copied())
    }

    pub fn lists(&self, id: &str) -> bool {
        self.hosts.iter().any(|l| l.instance.as_deref() == Some(id))
    }

    /// Is a node about to leave, as far as the master knows?
    fn is_shrinking(&self) -> bool {
        let lease = self.master.as_ref().and_then(|m| m.arbiter.lease());
        lease.is_some_and(|lease| lease.wish == Wish::Shrink)
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

    pub fn is_leased(&self) -> bool {
        self.master.as_ref().is_some_and(|m| m.arbiter.lease().is_some())
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
        let (peer, node) = (self.conns[conn].peer, format!("app{}", self.conns[conn].server));
        note!(self, "lb{number} < {node}: {line}");
        let nonce = format!("{:016x}", self.random.next());
        let (most, least) = (self.site.max_hosts, self.site.min_hosts);
        let host = &mut self.balancers[number];
        let (Some(master), Some(ledger)) = (&mut host.master, &mut host.ledger) else {
            return;
        };
        ledger.line(line, &node, peer, now);
        let outputs = master.line(peer, line, &nonce, now);
        let hosts = Hosts {
            seen: host.hosts_seen,
            most,
            least,
        };
        let verdict = ledger.heard(master.arbiter.lease(), hosts, peer, now);
        if verdict == Ok(true) {
            host.taken_out_unasked = 0;
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
            } else if let Some(before) = host.noted.as_ref().or(host.disk.as_ref()) {
                host.noted = Some(format!("{before}{}", saved.lease_line(wall)));
            } else {
                return;
            }
            ledger.saved();
        }
    }

    /// `hosts.d` has changed: the master sees it within a second.
    fn entries_changed(&mut self, number: usize) {
        let life = self.balancers[number].process.life;
        let wait = self.random.within(1, 1000);
        self.after(wait, Event::Entries(number, life));
    }

    pub fn see_entries(&mut self, number: usize) {
        let now = self.clock(Who::Master(number));
        let host = &mut self.balancers[number];
        host.hosts_seen = host.hosts.len();
        if let Some(master) = &mut host.master {
            let outputs = master.saw(&host.hosts, now);
            self.carry_out_master(number, outputs);
        }
        let host = &mut self.balancers[number];
        let listed: BTreeSet<usize> = host.servers(&self.addresses).collect();
        let gone: Vec<usize> = host.tunnels.difference(&listed).copied().collect();
        host.tunnels.extend(listed);
        if gone.is_empty() {
            return;
        }
        if host.is_shrinking() {
            let life = host.process.life;
            self.after(1000, Event::Entries(number, life));
            return;
        }
        host.tunnels.retain(|server| !gone.contains(server));
        let life = host.process.life;
        let theirs = |(_, conn): (&PeerId, &usize)| gone.contains(&self.conns[*conn].server).then_some(*conn);
        let conns: Vec<usize> = host.peers.iter().filter_map(theirs).collect();
        for conn in conns {
            if self.conns[conn].balancer_life == life {
                self.close_at_master(conn);
            }
        }
    }

    /// `add-host`.
    pub fn add_host(&mut self, number: usize, address: &str, port: u16, id: Option<&str>) {
        let host = &mut self.balancers[number];
        if host
            .hosts
            .iter()
            .any(|l| l.address == address && l.port == Some(port))
        {
            return;
        }
        host.serial += 1;
        let name = match id {
            Some(id) if !host.hosts.iter().any(|l| l.name == id) => id.to_string(),
            _ => format!("app{}", host.serial),
        };
        host.hosts.push(Listed {
            state: crate::core::listing::State::Unknown,
            since: None,
            name,
            address: address.into(),
            port: Some(port),
            instance: id.map(String::from),
        });
        note!(self, "lb{number}: {address} is entered");
        self.entries_changed(number);
    }

    /// `remove-host`, by name or by address. False: there is none, or it is the last.
    pub fn remove_host(&mut self, number: usize, is: impl Fn(&Listed) -> bool) -> bool {
        let host = &mut self.balancers[number];
        let Some(at) = host.hosts.iter().position(is) else {
            return false;
        };
        if host.hosts.len() == 1 {
            return false;
        }
        let gone = host.hosts.remove(at);
        note!(self, "lb{number}: {} is removed", gone.address);
        self.entries_changed(number);
        true
    }

    /// `prune`, by cron.
    pub fn prune(&mut self, number: usize) {
        self.after(PRUNE, Event::Prune(number));
        if !self.balancers[number].powered || self.now < self.ec2_down_until {
            return;
        }
        let instances = self.lagging_view();
        let second = self.lagging_view();
        let host = &self.balancers[number];
        let unknown = |id: &&String| {
            let known = |view: &[crate::core::fleet::Instance]| view.iter().any(|i| i.id == **id);
            !known(&instances) && !known(&second)
        };
        let ids = host.hosts.iter().filter_map(|l| l.instance.as_ref());
        let gone = ids.filter(unknown).cloned().collect();
        let cloud = Cloud { instances, gone };
        let entry = |l: &Listed| Entry {
            name: l.name.clone(),
            form: Form::Host {
                address: l.address.parse().expect("an address"),
                port: 80,
                instance: l.instance.clone(),
            },
        };
        let entries: Vec<Entry> = host.hosts.iter().map(entry).collect();
        // Afterwards a person has read cron's mail about what it refused.
        let force = !self.faulty();
        let Ok(plan) = prune::plan(&entries, &cloud, force) else {
            return;
        };
        for entry in plan.remove {
            if self.remove_host(number, |l| l.name == entry.name) {
                self.balancers[number].taken_out_unasked += 1;
            }
        }
    }
}
