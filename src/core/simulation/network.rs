//! Connections from daemons to masters through tunnels: ordered and whole as TCP is, but late, cut,
//! silent, or reset.

use std::collections::VecDeque;

use super::Ms;
use super::events::{Event, Who};
use super::world::{World, note};
use crate::core::master::lease::PeerId;
use crate::core::node::{HEARTBEAT, LinkId};
use crate::core::protocol::FromMaster;

/// A peer that was silent for so long is gone, for both ends.
const SILENCE: Ms = 3 * HEARTBEAT.as_millis() as Ms;

/// The end of a connection that something is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Node,
    Master,
}

#[derive(Debug)]
pub enum Packet<T> {
    Open,
    Line(T),
    End,
}

/// One direction.
#[derive(Debug)]
pub struct Pipe<T> {
    on_the_way: VecDeque<(Ms, Packet<T>)>,
    last: Ms,
    /// Does its receiver still read?
    pub open: bool,
    heard: Ms,
}

impl<T> Pipe<T> {
    fn new(now: Ms) -> Pipe<T> {
        Pipe {
            on_the_way: VecDeque::new(),
            last: now,
            open: true,
            heard: now,
        }
    }

    /// Returns when it arrives, unless something else arrives then as well.
    fn send(&mut self, packet: Packet<T>, at: Ms) -> Option<Ms> {
        let at = at.max(self.last);
        let again = at == self.last && !self.on_the_way.is_empty();
        self.last = at;
        self.on_the_way.push_back((at, packet));
        (!again).then_some(at)
    }

    fn arrived(&mut self, now: Ms) -> Option<Packet<T>> {
        let (at, _) = self.on_the_way.front()?;
        (*at <= now).then(|| self.on_the_way.pop_front())??.1.into()
    }
}

#[derive(Debug)]
pub struct Conn {
    pub server: usize,
    pub server_life: u32,
    pub balancer: usize,
    pub balancer_life: u32,
    pub link: LinkId,
    pub peer: PeerId,
    pub greeted: bool,
    pub to_node: Pipe<FromMaster>,
    pub to_master: Pipe<String>,
}

impl World {
    fn way(&mut self) -> Ms {
        let longest = self.site.latency;
        let slow = self.rate(|f| f.slow);
        match self.random.chance(slow) {
            true => self.random.within(1, 4000),
            false => self.random.within(1, longest),
        }
    }

    pub fn open(&mut self, server: usize, balancer: usize) {
        let conn = self.conns.len();
        let (link, life) = self.servers[server].new_link(balancer, conn);
        let host = &mut self.balancers[balancer];
        host.last_peer += 1;
        self.conns.push(Conn {
            server,
            server_life: life,
            balancer,
            balancer_life: host.process.life,
            link,
            peer: host.last_peer,
            greeted: false,
            to_node: Pipe::new(self.now),
            to_master: Pipe::new(self.now),
        });
        self.post_to_master(conn, Packet::Open);
        self.post_to_master(conn, Packet::Line(format!("HELLO 2 app{server}/i-{server} 00")));
        self.after(SILENCE, Event::Silence(conn, Side::Node));
        self.after(SILENCE, Event::Silence(conn, Side::Master));
    }

    pub fn post_to_master(&mut self, conn: usize, packet: Packet<String>) {
        let at = self.now + self.way();
        if let Some(at) = self.conns[conn].to_master.send(packet, at) {
            self.at(at, Event::Arrive(conn, Side::Master));
        }
    }

    pub fn post_to_node(&mut self, conn: usize, packet: Packet<FromMaster>) {
        let at = self.now + self.way();
        if let Some(at) = self.conns[conn].to_node.send(packet, at) {
            self.at(at, Event::Arrive(conn, Side::Node));
        }
    }

    pub fn arrive(&mut self, conn: usize, side: Side) {
        let c = &self.conns[conn];
        let (server, balancer) = (c.server, c.balancer);
        if let Some(until) = self.is_cut(server, balancer) {
            self.at(until, Event::Arrive(conn, side));
            return;
        }
        let who = self.receiver(conn, side);
        let process = self.process(who);
        if process.up && self.now < process.stalled_until {
            let until = process.stalled_until;
            self.at(until, Event::Arrive(conn, side));
            return;
        }
        match side {
            Side::Master => {
                while let Some(packet) = self.conns[conn].to_master.arrived(self.now) {
                    self.arrive_at_master(conn, packet);
                }
            }
            Side::Node => {
                while let Some(packet) = self.conns[conn].to_node.arrived(self.now) {
                    self.arrive_at_node(conn, packet);
                }
            }
        }
    }

    fn receiver(&self, conn: usize, side: Side) -> Who {
        match side {
            Side::Master => Who::Master(self.conns[conn].balancer),
            Side::Node => Who::Daemon(self.conns[conn].server),
        }
    }

    /// Is the process that had this end of the connection still there?
    fn is_there(&self, conn: usize, side: Side) -> bool {
        let life = match side {
            Side::Master => self.conns[conn].balancer_life,
            Side::Node => self.conns[conn].server_life,
        };
        let process = self.process(self.receiver(conn, side));
        process.up && process.life == life
    }

    fn arrive_at_master(&mut self, conn: usize, packet: Packet<String>) {
        let c = &mut self.conns[conn];
        let (balancer, peer) = (c.balancer, c.peer);
        if !self.is_there(conn, Side::Master) {
            // The kernel resets what nobody listens to.
            if self.balancers[balancer].powered && !matches!(packet, Packet::End) {
                self.post_to_node(conn, Packet::End);
            }
            return;
        }
        let c = &mut self.conns[conn];
        if !c.to_master.open {
            return;
        }
        match packet {
            Packet::Open => self.master_opened(balancer, peer, conn),
            Packet::Line(line) => {
                c.to_master.heard = self.now;
                self.master_line(balancer, conn, &line);
            }
            Packet::End => self.close_at_master(conn),
        }
    }

    fn arrive_at_node(&mut self, conn: usize, packet: Packet<FromMaster>) {
        let c = &mut self.conns[conn];
        let server = c.server;
        if !self.is_there(conn, Side::Node) {
            if self.servers[server].powered && !matches!(packet, Packet::End) {
                self.post_to_master(conn, Packet::End);
            }
            return;
        }
        let c = &mut self.conns[conn];
        if !c.to_node.open {
            return;
        }
        match packet {
            Packet::Open => {}
            Packet::Line(message) => {
                c.to_node.heard = self.now;
                self.node_heard(conn, message);
            }
            Packet::End => self.close_at_node(conn, "closed"),
        }
    }

    /// A peer that has been silent for too long is taken for gone.
    pub fn silence(&mut self, conn: usize, side: Side) {
        if !self.is_there(conn, side) {
            return;
        }
        let c = &self.conns[conn];
        let (open, heard) = match side {
            Side::Node => (c.to_node.open, c.to_node.heard),
            Side::Master => (c.to_master.open, c.to_master.heard),
        };
        let stalled_until = self.process(self.receiver(conn, side)).stalled_until;
        if !open {
            return;
        }
        let due = (heard + SILENCE).max(stalled_until);
        if self.now < due {
            self.at(due, Event::Silence(conn, side));
            return;
        }
        match side {
            Side::Node => self.close_at_node(conn, "silent"),
            Side::Master => self.close_at_master(conn),
        }
    }

    /// The daemon's end closes.
    pub fn close_at_node(&mut self, conn: usize, why: &str) {
        if !self.is_there(conn, Side::Node) || !self.conns[conn].to_node.open {
            return;
        }
        let c = &mut self.conns[conn];
        c.to_node.open = false;
        let server = c.server;
        note!(self, "app{server}: connection {conn} ends: {why}");
        self.post_to_master(conn, Packet::End);
        self.node_lost(conn, why);
    }

    /// The master's end closes.
    pub fn close_at_master(&mut self, conn: usize) {
        if !self.is_there(conn, Side::Master) || !self.conns[conn].to_master.open {
            return;
        }
        let c = &mut self.conns[conn];
        c.to_master.open = false;
        let (balancer, peer) = (c.balancer, c.peer);
        note!(self, "lb{balancer}: connection {conn} ends");
        self.post_to_node(conn, Packet::End);
        self.master_closed(balancer, peer);
    }
}
