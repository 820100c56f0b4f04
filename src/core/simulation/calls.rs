//! Calls on their way: what is asked of EC2 and of the HAProxy hosts, and how that fails. A try takes
//! effect or not, and is answered or not, each by itself.

use super::Ms;
use super::cloud::Launch;
use super::events::Event;
use super::world::World;
use crate::core::fleet::{Instance, Listed};
use crate::core::node::Machine;

/// For one question to EC2, its retries included, and for one try.
const EC2_TIME: Ms = 20_000;
const EC2_TRY: Ms = 4000;
/// For one order to a HAProxy host.
const SSH_TIME: Ms = 10_000;
const LONGEST_DRAIN: Ms = 8000;
/// What is asked for.
#[derive(Debug, Clone)]
pub enum Order {
    Describe,
    Launch { token: String, zone: usize },
    Terminate { id: String },
    List,
    Add(Machine),
    Remove(Machine),
    RemoveName(String),
}

/// One try on its way.
#[derive(Debug)]
pub struct Call {
    task: usize,
    serial: u32,
    /// The HAProxy host, and its place among the answers.
    to: Option<(usize, usize)>,
    by: usize,
    order: Order,
    /// How long after the effect its answer comes; `None`: it is lost.
    answer: Option<Ms>,
}

#[derive(Debug, Clone)]
pub enum Reply {
    Unavailable,
    NotFound,
    View(Vec<Instance>),
    Launched(Launch),
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
        if self.is_cut(by, host).is_some() || !self.ssh_works(host) || (lost && self.random.chance(0.5)) {
            self.after(
                quick * 10,
                Event::Answer(id, serial, unreachable(Reply::Unavailable)),
            );
            return;
        }
        let longest = match order {
            Order::Remove(_) => LONGEST_DRAIN,
            _ if lost => SSH_TIME,
            _ => 300,
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
        if lost {
            self.after(
                SSH_TIME,
                Event::Answer(id, serial, unreachable(Reply::Unavailable)),
            );
        }
    }

    fn ssh_works(&self, host: usize) -> bool {
        self.balancers[host].powered && self.now >= self.balancers[host].sshd_down_until
    }

    /// A try takes effect, whether or not its caller is still there.
    pub fn effect(&mut self, call: Call) {
        let reply = match call.to {
            None => self.carry_out_at_ec2(&call),
            Some((host, place)) => {
                let reply = match self.ssh_works(host) {
                    true => self.carry_out_at_host(host, &call),
                    false => Reply::Unavailable,
                };
                Reply::Host(place, Box::new(reply))
            }
        };
        if let Some(wait) = call.answer {
            self.after(wait, Event::Answer(call.task, call.serial, reply));
        }
    }

    fn carry_out_at_ec2(&mut self, call: &Call) -> Reply {
        match &call.order {
            Order::Launch { token, zone } => {
                let launch = self.cloud.launch(token, *zone);
                let launch = match launch {
                    Launch::New => Launch::Known(self.new_machine(call.by, token, *zone)),
                    other => other,
                };
                Reply::Launched(launch)
            }
            Order::Terminate { id } => {
                let known = self.lagging_view().iter().any(|i| i.id == *id);
                match self.cloud.by_id(id).map(|(machine, _)| machine) {
                    Some(machine) if known || !self.cloud.vms[&machine].tagged => {
                        self.terminate(machine, call.by);
                        Reply::Done
                    }
                    _ => Reply::NotFound,
                }
            }
            _ => Reply::View(self.lagging_view()),
        }
    }

    fn carry_out_at_host(&mut self, host: usize, call: &Call) -> Reply {
        let here = |machine: &Machine| {
            let (address, port) = (machine.host.clone(), machine.port);
            move |l: &Listed| l.address == address && l.port == Some(port)
        };
        match &call.order {
            Order::Add(machine) => {
                self.add_host(host, &machine.host, machine.port, machine.instance.as_deref());
                Reply::Done
            }
            Order::Remove(machine) => {
                // Where it is not listed any more, that is done.
                let listed = self.balancers[host].hosts.iter().any(here(machine));
                if self.remove_host(host, here(machine)) {
                    self.judge_removal(host, call.by);
                    return Reply::Done;
                }
                if listed { Reply::Unavailable } else { Reply::Done }
            }
            Order::RemoveName(name) => match self.remove_host(host, |l| l.name == *name) {
                true => {
                    self.balancers[host].taken_out_unasked += 1;
                    Reply::Done
                }
                false => Reply::Unavailable,
            },
            _ => Reply::Listing(self.balancers[host].hosts.clone()),
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
                let slot = &mut task.answers[place];
                if slot.is_none() {
                    *slot = Some(*reply);
                    if task.answers.iter().all(Option::is_some) {
                        task.serial += 1;
                        self.hosts_answered(id);
                    }
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
}
