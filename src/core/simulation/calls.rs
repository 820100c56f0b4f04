//! Calls on their way: what is asked of EC2 and of the HAProxy hosts, and how that fails. A try takes
//! effect or not, and is answered or not, each by itself.

use super::Ms;
use super::cloud::Launch;
use super::events::Event;
use super::site::Lasting;
use super::world::World;
use crate::core::node::Machine;
use crate::core::plan::{Instance, Life, Listed};

/// For one question to EC2, its retries included, and for one try.
const EC2_TIME: Ms = 20_000;
const EC2_TRY: Ms = 4000;
/// For one order to a HAProxy host, and for one that drains.
const SSH_TIME: Ms = 10_000;
const DRAIN_TIME: Ms = 20_000;
/// Who has not answered so long after another is out of reach.
const BEHIND: Ms = 5000;

/// What is asked for.
#[derive(Debug, Clone)]
pub enum Order {
    Describe,
    Launch {
        token: String,
        zone: usize,
        count: u32,
    },
    /// What was launched with a token.
    Launched {
        token: String,
        zone: usize,
    },
    Terminate {
        id: String,
    },
    List,
    /// Would it take a machine?
    Check,
    Add {
        machine: Machine,
        by_plan: bool,
    },
    Drain {
        machine: Machine,
        force: bool,
    },
    RemoveName(String),
}

impl Order {
    pub fn is_forced(&self) -> bool {
        matches!(self, Order::Drain { force: true, .. })
    }
}

/// One try on its way.
#[derive(Debug, Clone)]
pub struct Call {
    task: usize,
    serial: u32,
    /// The HAProxy host, and its place among the answers.
    to: Option<(usize, usize)>,
    /// Whose daemon makes it.
    pub by: usize,
    pub order: Order,
    /// How long after the effect its answer comes; `None`: it is lost.
    answer: Option<Ms>,
}

#[derive(Debug, Clone)]
pub enum Reply {
    Unavailable,
    /// It answers, and will not.
    Refused,
    NotFound,
    NoEntry,
    View(Vec<Instance>),
    Launched(Launch),
    Machines(Vec<usize>),
    Done,
    Listing(Vec<Listed>),
    /// From or about one of several HAProxy hosts.
    Host(usize, Box<Reply>),
}

impl World {
    pub fn ask_ec2(&mut self, id: usize, order: Order) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.order = order;
            task.deadline = self.now + EC2_TIME;
            self.try_ec2(id);
        }
    }

    /// One try: answered, throttled, lost before or after its effect, or late.
    fn try_ec2(&mut self, id: usize) {
        let faulty = self.rate(|f| f.ec2);
        let down = self.now < self.ec2_down_until;
        let kind = match down || self.random.chance(faulty) {
            true => self.random.index(4),
            false => 4,
        };
        let quick = self.random.within(20, 500);
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        task.serial += 1;
        let (serial, by, order) = (task.serial, task.server, task.order.clone());
        let call = |answer| Call {
            task: id,
            serial,
            to: None,
            by,
            order,
            answer,
        };
        match kind {
            // Throttled.
            0 => self.after(1500 + quick, Event::Retry(id, serial)),
            1 => self.after(EC2_TRY, Event::Retry(id, serial)),
            2 if !down => {
                self.after(quick, Event::Effect(call(None)));
                self.after(EC2_TRY, Event::Retry(id, serial));
            }
            3 if !down => {
                self.after(quick * 50, Event::Effect(call(Some(1))));
                self.after(EC2_TRY, Event::Retry(id, serial));
            }
            2 | 3 => self.after(EC2_TRY, Event::Retry(id, serial)),
            _ => self.after(quick, Event::Effect(call(Some(quick)))),
        }
    }

    pub fn retry(&mut self, id: usize, serial: u32) {
        let Some(task) = self.tasks.get(&id) else { return };
        if task.serial != serial {
            return;
        }
        if self.now >= task.deadline {
            self.answered(id, Reply::Unavailable);
        } else {
            self.try_ec2(id);
        }
    }

    /// The same order to each host, side by side.
    pub fn ask_hosts(&mut self, id: usize, names: &[String], order: Order) {
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        task.order = order.clone();
        task.answers = vec![None; names.len()];
        let by = task.server;
        for (place, name) in names.iter().enumerate() {
            let host = self.balancer_called(name);
            self.ask_host(id, by, host, place, order.clone());
        }
    }

    fn ask_host(&mut self, id: usize, by: usize, host: usize, place: usize, order: Order) {
        let quick = self.random.within(50, 500);
        let faulty = self.rate(|f| f.ssh);
        let lost = self.random.chance(faulty);
        let unreachable = |reply| Reply::Host(place, Box::new(reply));
        let serial = self.tasks.get(&id).map_or(0, |task| task.serial);
        if !self.reaches(by, host) || (lost && self.random.chance(0.5)) {
            self.after(
                quick * 10,
                Event::Answer(id, serial, unreachable(Reply::Unavailable)),
            );
            return;
        }
        let longest = if lost { SSH_TIME } else { 300 };
        let time = match order {
            Order::Drain { .. } => DRAIN_TIME,
            _ => SSH_TIME,
        };
        let effect = self.random.within(50, longest);
        let call = Call {
            task: id,
            serial,
            to: Some((host, place)),
            by,
            order,
            answer: (!lost).then_some(quick),
        };
        self.after(effect, Event::Effect(call));
        self.after(time, Event::Answer(id, serial, unreachable(Reply::Unavailable)));
    }

    fn ssh_works(&self, host: usize) -> bool {
        let balancer = &self.balancers[host];
        balancer.powered && self.now >= balancer.sshd_down_until && !self.site.has(Lasting::Unreachable(host))
    }

    /// Does ssh from that app server to that HAProxy host work?
    pub fn reaches(&self, server: usize, host: usize) -> bool {
        self.ssh_works(host) && self.is_cut(server, host).is_none()
    }

    /// A try takes effect, whether or not its caller is still there.
    pub fn effect(&mut self, call: Call) {
        let reply = match call.to {
            None => Some(self.carry_out_at_ec2(&call)),
            Some((host, _)) => match self.ssh_works(host) {
                true => self.carry_out_at_host(host, &call),
                false => Some(Reply::Unavailable),
            },
        };
        if let Some(reply) = reply {
            self.reply(&call, reply);
        }
    }

    /// Sends the answer to a try on its way.
    pub fn reply(&mut self, call: &Call, reply: Reply) {
        let reply = match call.to {
            Some((_, place)) => Reply::Host(place, Box::new(reply)),
            None => reply,
        };
        if let Some(wait) = call.answer {
            self.after(wait, Event::Answer(call.task, call.serial, reply));
        }
    }

    fn carry_out_at_ec2(&mut self, call: &Call) -> Reply {
        match &call.order {
            Order::Launch { token, zone, count } => {
                let launch = match self.cloud.launch(token, *zone, *count) {
                    Launch::New(count) => Launch::Known(self.launch(call.by, token, *zone, count)),
                    other => other,
                };
                Reply::Launched(launch)
            }
            Order::Launched { token, zone } => {
                let seen = self.seen();
                Reply::Machines(self.cloud.launched_with(token, *zone, seen))
            }
            Order::Terminate { id } => {
                let view = self.lagging_view();
                let seen = view.iter().find(|i| i.id == *id);
                let known = seen.is_some();
                let left_alone = seen.is_some_and(|i| i.keep || i.life == Life::Stopped);
                match self.cloud.by_id(id).map(|(machine, vm)| (machine, vm.tagged)) {
                    Some((machine, _)) if left_alone || self.is_protected(machine) => Reply::Refused,
                    Some((machine, tagged)) if known || !tagged => {
                        self.terminate(machine, call.by);
                        Reply::Done
                    }
                    _ => Reply::NotFound,
                }
            }
            _ => Reply::View(self.lagging_view()),
        }
    }

    fn carry_out_at_host(&mut self, host: usize, call: &Call) -> Option<Reply> {
        match &call.order {
            Order::Add { machine, by_plan } => Some(self.add_host(host, machine, Some((*by_plan, call.by)))),
            Order::Drain { machine, force } => {
                let there = |e: &super::haproxy::Entry| e.address == machine.host;
                match self.remove_host(host, there, *force, call) {
                    // Where it is not listed any more, that is done.
                    Some(Reply::NoEntry) => Some(Reply::Done),
                    other => other,
                }
            }
            Order::RemoveName(name) => self.remove_host(host, |e| e.name == *name, false, call),
            Order::Check if self.is_refusing(host) => Some(Reply::Refused),
            Order::Check => Some(Reply::Done),
            _ if self.now < self.balancers[host].haproxy.garbled_until => Some(Reply::Refused),
            _ => Some(Reply::Listing(self.balancers[host].haproxy.listing(self.now))),
        }
    }

    pub fn answer(&mut self, id: usize, serial: u32, reply: Reply) {
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        if task.serial != serial {
            return;
        }
        match reply {
            Reply::Host(place, reply) => {
                if task.answers[place].is_some() {
                    return;
                }
                let heard = |answer: &Option<Reply>| matches!(answer, Some(Reply::Listing(_)));
                let first = !task.answers.iter().any(heard) && matches!(*reply, Reply::Listing(_));
                task.answers[place] = Some(*reply);
                if task.answers.iter().all(Option::is_some) {
                    task.serial += 1;
                    self.hosts_answered(id);
                } else if first {
                    self.after(BEHIND, Event::Behind(id, serial));
                }
            }
            Reply::NotFound => {
                task.serial += 1;
                let serial = task.serial;
                let wait = self.random.within(500, 2000);
                self.after(wait, Event::Retry(id, serial));
            }
            reply => {
                // Nothing else is waited for.
                task.serial += 1;
                self.answered(id, reply);
            }
        }
    }

    /// Who has not answered by now is out of reach.
    pub fn behind(&mut self, id: usize, serial: u32) {
        if let Some(task) = self.tasks.get_mut(&id)
            && task.serial == serial
        {
            task.serial += 1;
            for answer in &mut task.answers {
                answer.get_or_insert(Reply::Unavailable);
            }
            self.hosts_answered(id);
        }
    }
}
