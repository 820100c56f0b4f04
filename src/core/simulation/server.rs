//! App servers: machines, and the real [`Node`] in their daemon.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Ms;
use super::events::{Event, Who};
use super::invariants::Known;
use super::network::Packet;
use super::site::{SAMPLE_INTERVAL, balancer_name};
use super::world::{Process, World, note};
use crate::core::node::{Action, LinkId, Node, Warning};
use crate::core::protocol::FromMaster;

pub struct Server {
    pub process: Process,
    pub node: Option<Node>,
    pub powered: bool,
    pub powered_at: Ms,
    /// Its connection to each master, greeted or not.
    to: Vec<Option<usize>>,
    pub links: BTreeMap<LinkId, usize>,
    last_link: LinkId,
    looking: bool,
    /// Its clock stood still: what it holds until then may be void without its knowing.
    pub deluded_until: Ms,
    /// It reaches no other machine until then.
    pub deaf_until: Ms,
    /// What its daemon last found out.
    pub known: Known,
    /// How many machines it may launch under its leases.
    pub granted: usize,
    pub passed_over: bool,
}

impl Server {
    pub fn new(balancers: usize) -> Server {
        Server {
            process: Process::default(),
            node: None,
            powered: false,
            powered_at: 0,
            to: vec![None; balancers],
            links: BTreeMap::new(),
            last_link: 0,
            looking: false,
            deluded_until: 0,
            deaf_until: 0,
            known: Known::default(),
            granted: 0,
            passed_over: false,
        }
    }

    pub fn new_link(&mut self, balancer: usize, conn: usize) -> (LinkId, u32) {
        self.last_link += 1;
        self.to[balancer] = Some(conn);
        (self.last_link, self.process.life)
    }
}

impl World {
    /// The machine boots, and its daemon or its master with it.
    pub fn power_on(&mut self, who: Who) {
        match who {
            Who::Daemon(number) => {
                if self.cloud.vms[&number].ended.is_some() || self.cloud.vms[&number].stopped {
                    return;
                }
                self.servers[number].powered = true;
                self.servers[number].powered_at = self.now;
                self.health_changed(number);
            }
            Who::Master(number) => {
                self.balancers[number].powered = true;
                self.haproxy_starts(number);
            }
        }
        self.start(who);
    }

    /// Nothing is sent any more, not even an end.
    pub fn power_off(&mut self, who: Who) {
        note!(self, "{who:?}: power off");
        match who {
            Who::Daemon(number) => {
                self.servers[number].powered = false;
                self.health_changed(number);
            }
            Who::Master(number) => self.balancers[number].power_off(),
        }
        self.kill(who);
    }

    pub fn start_daemon(&mut self, number: usize) {
        if self.servers[number].process.up || !self.servers[number].powered {
            return;
        }
        note!(self, "app{number}: daemon starts");
        let settings = self.site.node_settings();
        let myself = Some(self.machine(number));
        let clock = self.clock(Who::Daemon(number));
        let server = &mut self.servers[number];
        server.process.up = true;
        server.process.life += 1;
        server.process.tick = None;
        server.node = Some(Node::new(settings, myself, clock));
        server.to.fill(None);
        server.links.clear();
        server.last_link = 0;
        server.looking = true;
        server.deluded_until = 0;
        server.known = Known::default();
        let life = server.process.life;
        let first = self.random.within(1, SAMPLE_INTERVAL);
        self.after(first, Event::Sample(number, life));
        let first = self.random.within(1, 1000);
        self.after(first, Event::Look(number, life));
        self.wake(Who::Daemon(number), clock);
        if self.cloud.vms[&number].notice.is_some() {
            self.after(5000, Event::Notice(number));
        }
    }

    /// The daemon looks at its instance's metadata.
    pub fn notice(&mut self, number: usize) {
        let Some(end) = self.cloud.vms[&number].notice else {
            return;
        };
        let left = end.map(|end| Duration::from_millis(end.saturating_sub(self.now)));
        let warning = left.map_or(Warning::Rebalance, Warning::Interruption);
        let machine = self.machine(number);
        self.daemon(number, |node, now| {
            node.interrupted(warning, "a notice", machine, now)
        });
    }

    pub fn daemon_died(&mut self, number: usize) {
        let server = &mut self.servers[number];
        server.node = None;
        server.links.clear();
        let life = server.process.life;
        let conns: Vec<usize> = server.to.iter_mut().filter_map(Option::take).collect();
        self.tasks
            .retain(|_, task| (task.server, task.life) != (number, life));
        for conn in conns {
            if self.servers[number].powered && self.conns[conn].to_node.open {
                self.post_to_master(conn, Packet::End);
            }
            self.conns[conn].to_node.open = false;
        }
    }

    /// Looks for masters on the tunnel ports.
    pub fn look(&mut self, number: usize, life: u32) {
        for balancer in 0..self.site.balancers {
            let host = &self.balancers[balancer];
            let tunnel = host.process.up && host.tunnels.contains(&number);
            if self.servers[number].to[balancer].is_none()
                && tunnel
                && self.is_cut(number, balancer).is_none()
            {
                self.open(number, balancer);
            }
        }
        let server = &mut self.servers[number];
        server.looking = server.to.iter().any(Option::is_none);
        if server.looking {
            let pause = self.random.within(1000, 5000);
            self.after(pause, Event::Look(number, life));
        }
    }

    pub fn sample(&mut self, number: usize, life: u32) {
        self.after(SAMPLE_INTERVAL, Event::Sample(number, life));
        let share = self.share(number);
        self.daemon(number, |node, now| node.sampled(share, now));
    }

    /// The CPU in use, 0 to 100: what each HAProxy host sends here.
    pub fn share(&self, number: usize) -> f64 {
        let (mut share, mut serving) = (0.0, 0.0);
        for host in self.balancers.iter().filter(|host| host.powered) {
            let up = host.haproxy.entries.iter().filter(|e| e.serves());
            let machines = up.filter_map(|e| self.addresses.get(&e.address));
            let (mut count, mut own) = (0.0, 0.0);
            for machine in machines.filter(|n| self.is_healthy(**n)) {
                count += 1.0;
                own += f64::from(u8::from(*machine == number));
            }
            if count > 0.0 {
                serving += 1.0;
                share += self.load * own / count;
            }
        }
        if serving == 0.0 {
            0.0
        } else {
            (share / serving).min(100.0)
        }
    }

    /// Does its app answer?
    pub fn is_healthy(&self, number: usize) -> bool {
        let vm = &self.cloud.vms[&number];
        let now = self.now;
        self.servers[number].powered && vm.healthy.is_some_and(|at| at <= now) && vm.sick_until <= now
    }

    /// Would HAProxy take it up?
    pub fn serves(&self, number: usize) -> bool {
        self.is_healthy(number) && !self.cloud.vms[&number].bad
    }

    pub fn tick_daemon(&mut self, number: usize) {
        self.daemon(number, |node, now| node.tick(now));
    }

    pub fn node_heard(&mut self, conn: usize, message: FromMaster) {
        let (number, link) = (self.conns[conn].server, self.conns[conn].link);
        note!(self, "app{number} < {message}");
        if let FromMaster::Welcome { master, .. } = &message
            && !self.conns[conn].greeted
        {
            self.conns[conn].greeted = true;
            let mut taken = false;
            self.servers[number].links.insert(link, conn);
            self.daemon(number, |node, now| taken = node.connected(link, master, now));
            if !taken && self.servers[number].process.up {
                self.servers[number].links.remove(&link);
                self.close_at_node(conn, "not needed");
            }
            return;
        }
        self.daemon(number, |node, now| node.heard(link, message, now));
    }

    pub fn node_lost(&mut self, conn: usize, why: &str) {
        let c = &self.conns[conn];
        let (number, link, balancer, greeted) = (c.server, c.link, c.balancer, c.greeted);
        let server = &mut self.servers[number];
        if server.to[balancer] == Some(conn) {
            server.to[balancer] = None;
        }
        server.links.remove(&link);
        if !server.looking {
            server.looking = true;
            let life = server.process.life;
            let pause = self.random.within(1000, 3000);
            self.after(pause, Event::Look(number, life));
        }
        if greeted {
            self.daemon(number, |node, now| node.disconnected(link, why, now));
        }
    }

    /// Lets the node act on one event, and carries out what it wants done.
    pub fn daemon(&mut self, number: usize, event: impl FnOnce(&mut Node, Instant)) {
        let now = self.clock(Who::Daemon(number));
        let Some(node) = &mut self.servers[number].node else {
            return;
        };
        event(node, now);
        let actions = node.actions();
        let deadline = node.deadline();
        self.judge_beliefs(number);
        let crash = self.rate(|f| f.crash);
        let dies = match !actions.is_empty() && self.random.chance(crash) {
            true => Some(self.random.index(actions.len() + 1)),
            false => None,
        };
        for (at, action) in actions.into_iter().enumerate() {
            if dies == Some(at) {
                break;
            }
            match action {
                Action::Send(link, message) => {
                    self.judge_question(number, &message);
                    if let Some(conn) = self.servers[number].links.get(&link).copied() {
                        self.post_to_master(conn, Packet::Line(message.to_string()));
                    }
                }
                Action::Run(step) => {
                    note!(self, "app{number} runs {step:?}");
                    self.judge_step(number, &step);
                    self.begin(number, step);
                }
                Action::Say(text) => {
                    note!(self, "app{number}: {text}");
                    self.judge_words(number, &text);
                }
                Action::End(_) | Action::Notify(_) | Action::Adopt { .. } => {}
            }
        }
        if dies.is_some() {
            self.kill(Who::Daemon(number));
            let back = self.fault_end(20_000);
            self.at(back, Event::Start(Who::Daemon(number)));
        } else {
            self.wake(Who::Daemon(number), deadline);
        }
    }

    /// The masters that this server's daemon has greeted.
    pub fn greeted(&self, number: usize) -> impl Iterator<Item = usize> {
        self.servers[number]
            .links
            .values()
            .map(|conn| self.conns[*conn].balancer)
    }

    pub fn balancer_called(&self, name: &str) -> usize {
        (0..self.site.balancers)
            .find(|n| balancer_name(*n) == name)
            .unwrap_or_default()
    }
}
