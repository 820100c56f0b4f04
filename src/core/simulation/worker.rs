//! The steps of a change, each a few calls. What follows from their answers is decided by the
//! functions that the real worker uses.

use super::Ms;
use super::calls::{Order, Reply};
use super::cloud::{EPOCH, Launch};
use super::events::Event;
use super::world::{World, note};
use crate::core::fleet::{self, Fix, Instance, Listed, Survey, client_token};
use crate::core::node::{Machine, Outcome, Step};
use crate::core::shortage::{self, Place};
use crate::error::Error;

const CLUSTER: &str = "sim";

/// A step under way.
#[derive(Debug)]
pub struct Task {
    pub server: usize,
    pub life: u32,
    step: Step,
    /// What it asks EC2 at the moment, or the HAProxy hosts.
    pub order: Order,
    /// Which try; the answers to others are not waited for any more.
    pub serial: u32,
    pub deadline: Ms,
    /// Which attempt of a launch, and which round of tokens.
    attempt: usize,
    places: Vec<Place>,
    round: u32,
    view: Vec<Instance>,
    pub answers: Vec<Option<Reply>>,
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

    /// EC2's answer, or that there is none.
    pub fn answered(&mut self, id: usize, reply: Reply) {
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

    pub fn hosts_answered(&mut self, id: usize) {
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
