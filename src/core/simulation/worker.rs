//! The steps of a change: calls that take their time, fail, or take effect without an answer. What
//! follows from their answers is decided by the functions that the real worker uses.

use super::Ms;
use super::cloud::{EPOCH, Launch};
use super::world::{Event, World, note};
use crate::core::fleet::{self, Fix, Instance, Listed, Survey, client_token};
use crate::core::node::{Machine, Outcome, Step};
use crate::core::shortage::{self, Place};
use crate::error::Error;

/// For one question to EC2, its retries included, and for one try.
const EC2_TIME: Ms = 20_000;
const EC2_TRY: Ms = 4000;
/// For one order to a HAProxy host.
const SSH_TIME: Ms = 10_000;
const LONGEST_DRAIN: Ms = 8000;
const CLUSTER: &str = "sim";

/// A step under way.
#[derive(Debug)]
pub struct Task {
    pub server: usize,
    pub life: u32,
    step: Step,
    /// What it asks EC2 at the moment, or the HAProxy hosts.
    order: Order,
    /// Which try; the answers to others are not waited for any more.
    serial: u32,
    deadline: Ms,
    /// Which attempt of a launch, and which round of tokens.
    attempt: usize,
    places: Vec<Place>,
    round: u32,
    view: Vec<Instance>,
    answers: Vec<Option<Reply>>,
    survey: Option<Survey>,
    fixes: Vec<(usize, Fix)>,
    said: Vec<String>,
}

impl Task {
    /// The places that had no capacity.
    fn short(&self) -> Vec<Place> {
        self.places[..self.attempt].to_vec()
    }
}

fn subnet_name(zone: usize) -> String {
    format!("subnet-{zone}")
}

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

fn failed(what: &str) -> Error {
    Error::unavailable(what, "failed")
}

impl World {
    /// EC2's clock as a client knows it: a `Date` has whole seconds.
    fn ec2_seconds(&mut self) -> u64 {
        (EPOCH + self.now / 1000 + 1).saturating_sub(self.random.within(0, 2))
    }

    pub fn lagging_view(&mut self) -> Vec<Instance> {
        let lag = self.random.within(0, self.site.lag);
        self.cloud.view(self.now.saturating_sub(lag))
    }

    pub fn begin(&mut self, server: usize, step: Step) {
        let id = self.next_task;
        self.next_task += 1;
        let task = Task {
            server,
            life: self.servers[server].process.life,
            step: step.clone(),
            order: Order::Describe,
            serial: 0,
            deadline: 0,
            attempt: 0,
            places: Vec::new(),
            round: 0,
            view: Vec::new(),
            answers: Vec::new(),
            survey: None,
            fixes: Vec::new(),
            said: Vec::new(),
        };
        self.tasks.insert(id, task);
        match step {
            Step::Survey | Step::Repair => self.ask_ec2(id, Order::Describe),
            Step::Clear { .. } => self.clear_next(id),
            Step::Launch { short, .. } => {
                let place = |zone| Place {
                    subnet: Some(subnet_name(zone)),
                    instance_type: None,
                };
                let mut places: Vec<Place> = (0..self.site.zones).map(place).collect();
                shortage::sort(&mut places, &short);
                self.tasks.get_mut(&id).expect("just put there").places = places;
                self.launch_next(id);
            }
            Step::Boot { time, .. } => {
                let task = self.tasks.get_mut(&id).expect("just put there");
                task.deadline = self.now + time.as_millis() as Ms;
                self.after(250, Event::Poll(id));
            }
            Step::Enter { machine, servers } | Step::EnterLate { machine, servers } => {
                self.ask_hosts(id, &servers, Order::Add(machine));
            }
            Step::Terminate { id: instance } => self.ask_ec2(id, Order::Terminate { id: instance }),
            Step::Identify => self.ask_ec2(id, Order::Describe),
            Step::Drain { machine, servers } => self.ask_hosts(id, &servers, Order::Remove(machine)),
            Step::Depart { machine } => {
                let instance = machine.instance.unwrap_or_default();
                self.ask_ec2(id, Order::Terminate { id: instance });
            }
        }
    }

    fn finish(&mut self, id: usize, outcome: Outcome) {
        let Some(task) = self.tasks.remove(&id) else {
            return;
        };
        note!(self, "app{} has {outcome:?}", task.server);
        self.judge_outcome(task.server, &outcome);
        self.daemon(task.server, |node, now| node.finished(outcome, now));
    }

    fn ask_ec2(&mut self, id: usize, order: Order) {
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
    fn ask_hosts(&mut self, id: usize, names: &[String], order: Order) {
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

    /// EC2's answer, or that there is none.
    fn answered(&mut self, id: usize, reply: Reply) {
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        let step = task.step.clone();
        let ended = || match reply {
            Reply::Done => Ok(()),
            _ => Err(failed("EC2 TerminateInstances")),
        };
        match (step, &reply) {
            (Step::Survey | Step::Repair, Reply::View(view)) => {
                task.view.clone_from(view);
                let always = matches!(task.step, Step::Repair);
                if always || view.iter().any(|i| i.live) {
                    let names: Vec<String> =
                        (0..self.site.balancers).map(super::site::balancer_name).collect();
                    self.ask_hosts(id, &names, Order::List);
                } else {
                    self.surveyed(id, Vec::new());
                }
            }
            (Step::Survey, _) => self.finish(id, Outcome::Surveyed(Err(failed("EC2 DescribeInstances")))),
            (Step::Repair, _) => self.finish(id, Outcome::Repaired(Err(failed("EC2 DescribeInstances")))),
            (Step::Clear { .. }, Reply::Done) => {
                task.attempt += 1;
                self.clear_next(id);
            }
            (Step::Clear { .. }, _) => self.finish(id, Outcome::Cleared(ended())),
            (Step::Launch { .. }, Reply::Launched(launch)) => {
                match launch {
                    Launch::Known(machine) => {
                        let machine = Machine {
                            instance: Some(self.cloud.vms[machine].id.clone()),
                            host: String::new(),
                            port: 80,
                        };
                        let without = task.short();
                        return self.finish(id, Outcome::LaunchedWithout(without, Ok(machine)));
                    }
                    Launch::Terminated => task.round += 1,
                    Launch::NoCapacity | Launch::New => {
                        task.attempt += 1;
                        task.round = 0;
                    }
                }
                self.launch_next(id);
            }
            (Step::Launch { .. }, _) => {
                let without = task.short();
                let outcome = Outcome::LaunchedWithout(without, Err(failed("EC2 RunInstances")));
                self.finish(id, outcome);
            }
            (Step::Terminate { .. }, _) => self.finish(id, Outcome::Terminated(ended())),
            (Step::Depart { machine }, _) => self.finish(id, Outcome::Departed(machine, ended())),
            (Step::Identify, Reply::View(view)) => {
                let own = &self.cloud.vms[&task.server];
                let known = view.iter().any(|i| i.id == own.id);
                let machine = Machine {
                    instance: Some(own.id.clone()),
                    host: own.address.clone(),
                    port: 80,
                };
                let outcome = match (own.tagged, known) {
                    (false, _) => Err(Error::config("this machine", "is not tagged")),
                    (true, false) => Err(failed("this machine")),
                    (true, true) => Ok(machine),
                };
                self.finish(id, Outcome::Identified(outcome));
            }
            (Step::Identify, _) => self.finish(id, Outcome::Identified(Err(failed("EC2 DescribeInstances")))),
            (Step::Boot { .. } | Step::Enter { .. } | Step::EnterLate { .. } | Step::Drain { .. }, _) => {}
        }
    }

    fn hosts_answered(&mut self, id: usize) {
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        let answers: Vec<Reply> = task.answers.drain(..).flatten().collect();
        let told = |servers: &[String]| {
            let each = servers.iter().cloned().zip(&answers);
            each.map(|(server, reply)| match reply {
                Reply::Done => (server, Ok(())),
                _ => (server, Err(failed("HAProxy host"))),
            })
            .collect()
        };
        match task.step.clone() {
            Step::Enter { machine, servers } => {
                let outcome = Outcome::Entered(machine, told(&servers));
                self.finish(id, outcome);
            }
            Step::EnterLate { machine, servers } => {
                let outcome = Outcome::EnteredLate(machine, told(&servers));
                self.finish(id, outcome);
            }
            Step::Drain { machine, servers } => {
                let outcome = Outcome::Drained(machine, told(&servers));
                self.finish(id, outcome);
            }
            Step::Repair if !matches!(task.order, Order::List) => {
                let done = matches!(answers.first(), Some(Reply::Done));
                task.said.push(if done { "done".into() } else { "failed".into() });
                self.fix_next(id);
            }
            _ => {
                let listings = answers.into_iter().map(|reply| match reply {
                    Reply::Listing(listing) => Some(listing),
                    _ => None,
                });
                let listings = listings.collect();
                self.surveyed(id, listings);
            }
        }
    }

    fn surveyed(&mut self, id: usize, listings: Vec<Option<Vec<Listed>>>) {
        let now = self.ec2_seconds();
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        let survey = Survey {
            now,
            instances: std::mem::take(&mut task.view),
            listings,
        };
        if matches!(task.step, Step::Repair) {
            task.fixes = fleet::repairs(&survey);
            task.fixes.reverse();
            task.survey = Some(survey);
            self.fix_next(id);
        } else {
            self.finish(id, Outcome::Surveyed(Ok(survey)));
        }
    }

    fn fix_next(&mut self, id: usize) {
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        let Some((host, fix)) = task.fixes.pop() else {
            let survey = task.survey.take().expect("made before its fixes");
            let said = std::mem::take(&mut task.said);
            return self.finish(id, Outcome::Repaired(Ok((survey, said))));
        };
        let order = match fix {
            Fix::Add { machine } => Order::Add(machine),
            Fix::Remove { name } => Order::RemoveName(name),
        };
        self.ask_hosts(id, &[super::site::balancer_name(host)], order);
    }

    fn clear_next(&mut self, id: usize) {
        let Some(task) = self.tasks.get(&id) else { return };
        let Step::Clear { ids } = &task.step else { return };
        match ids.get(task.attempt).cloned() {
            Some(instance) => self.ask_ec2(id, Order::Terminate { id: instance }),
            None => self.finish(id, Outcome::Cleared(Ok(()))),
        }
    }

    fn launch_next(&mut self, id: usize) {
        let Some(task) = self.tasks.get(&id) else { return };
        let Step::Launch { fleet, .. } = &task.step else {
            return;
        };
        let Some(place) = task.places.get(task.attempt) else {
            let outcome = Outcome::LaunchedWithout(task.short(), Err(failed("EC2 RunInstances")));
            return self.finish(id, outcome);
        };
        let subnet = place.subnet.clone().unwrap_or_default();
        let token = client_token(CLUSTER, fleet, Some(&subnet), None, task.round);
        let zone = (0..self.site.zones).find(|zone| subnet_name(*zone) == subnet);
        let zone = zone.expect("one of the site's subnets");
        self.ask_ec2(id, Order::Launch { token, zone });
    }

    /// Looks whether a new machine runs and serves.
    pub fn poll(&mut self, id: usize) {
        let down = self.now < self.ec2_down_until;
        let view = self.lagging_view();
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        let Step::Boot { machine, .. } = &mut task.step else {
            return;
        };
        let instance = view
            .iter()
            .find(|i| Some(&i.id) == machine.instance.as_ref() && !down);
        if instance.is_some_and(|i| i.gone) && machine.host.is_empty() {
            let machine = machine.clone();
            return self.finish(id, Outcome::Booted(machine, Err(failed("is terminated"))));
        }
        if machine.port == 0 {
            machine.port = 80;
        }
        if machine.host.is_empty()
            && let Some(address) = instance.and_then(|i| i.address.clone())
        {
            machine.host = address;
        }
        let (machine, late) = (machine.clone(), self.now >= task.deadline);
        let there = self.addresses.get(&machine.host).copied();
        if there.is_some_and(|n| self.is_healthy(n)) {
            self.finish(id, Outcome::Booted(machine, Ok(())));
        } else if late {
            self.finish(id, Outcome::Booted(machine, Err(failed("not healthy"))));
        } else {
            self.after(2000, Event::Poll(id));
        }
    }
}
