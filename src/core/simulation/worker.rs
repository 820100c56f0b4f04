//! The steps of a change, each a few calls, as the real worker takes them.

mod launching;

use std::time::Duration;

use super::Ms;
use super::calls::{Order, Reply};
use super::cloud::EPOCH;
use super::events::Event;
use super::site::balancer_name;
use super::world::{World, note};
use crate::core::haproxy::state::State;
use crate::core::node::{Machine, Outcome, Step, Told};
use crate::core::plan::{Instance, Life, Listed, Survey};
use crate::error::{Error, Kind};
use launching::Launching;

/// So many machines that are UP are enough to tell whether a node sees any.
const WITNESSES: usize = 3;

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
    pub answers: Vec<Option<Reply>>,
    view: Vec<Instance>,
    launch: Launching,
}

fn failed(what: &str) -> Error {
    Error::unavailable(what, "failed")
}

impl World {
    /// EC2's clock as a client knows it: a `Date` has whole seconds.
    fn ec2_seconds(&mut self) -> u64 {
        (EPOCH + self.now / 1000 + 1).saturating_sub(self.random.within(0, 2))
    }

    /// Until when EC2's answer knows all.
    pub fn seen(&mut self) -> Ms {
        let lag = self.random.within(0, self.site.lag);
        self.now.saturating_sub(lag)
    }

    pub fn lagging_view(&mut self) -> Vec<Instance> {
        let seen = self.seen();
        self.cloud.view(seen, self.now)
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
            answers: Vec::new(),
            view: Vec::new(),
            launch: Launching::default(),
        };
        self.tasks.insert(id, task);
        let ends = |time: Duration| self.now + time.as_millis() as Ms;
        match step {
            Step::Survey { .. } | Step::Identify => self.ask_ec2(id, Order::Describe),
            Step::Check => self.ask_hosts(id, &self.all_hosts(), Order::Check),
            Step::Launch { short, .. } => self.launch_begins(id, &short),
            Step::Find { .. } => self.finish(id, Outcome::Found(Err(failed("the group")))),
            Step::Boot { time, .. } | Step::Confirm { time, .. } => {
                let deadline = ends(time);
                self.task(id).deadline = deadline;
                self.after(250, Event::Poll(id));
            }
            Step::Enter {
                machine,
                servers,
                by_plan,
            } => {
                self.ask_hosts(id, &servers, Order::Add { machine, by_plan });
            }
            Step::Remove { server, name } => self.ask_hosts(id, &[server], Order::RemoveName(name)),
            Step::Terminate { id: instance } => self.ask_ec2(id, Order::Terminate { id: instance }),
            Step::Drain {
                machine,
                servers,
                force,
            } => {
                self.ask_hosts(id, &servers, Order::Drain { machine, force });
            }
            Step::Depart { machine } => {
                let instance = machine.instance.unwrap_or_default();
                self.ask_ec2(id, Order::Terminate { id: instance });
            }
        }
    }

    fn all_hosts(&self) -> Vec<String> {
        (0..self.site.balancers).map(balancer_name).collect()
    }

    fn task(&mut self, id: usize) -> &mut Task {
        self.tasks.get_mut(&id).expect("it is under way")
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
        let ended = match reply {
            Reply::Done => Ok(()),
            _ => Err(failed("EC2 TerminateInstances")),
        };
        match (task.step.clone(), reply) {
            (Step::Survey { .. }, Reply::View(view)) => {
                task.view = view;
                self.ask_hosts(id, &self.all_hosts(), Order::List);
            }
            (Step::Survey { purpose, .. }, _) => {
                self.finish(
                    id,
                    Outcome::Surveyed(purpose, Err(failed("EC2 DescribeInstances"))),
                );
            }
            (Step::Launch { .. }, reply) => self.launch_answered(id, reply),
            (Step::Terminate { id: instance }, _) => self.finish(id, Outcome::Terminated(instance, ended)),
            (Step::Depart { machine }, _) => self.finish(id, Outcome::Departed(machine, ended)),
            (Step::Identify, Reply::View(view)) => {
                let server = task.server;
                let outcome = self.identify(server, &view);
                self.finish(id, Outcome::Identified(outcome));
            }
            (Step::Identify, _) => self.finish(id, Outcome::Identified(Err(failed("EC2 DescribeInstances")))),
            _ => {}
        }
    }

    fn identify(&self, server: usize, view: &[Instance]) -> Result<Machine, Error> {
        let own = &self.cloud.vms[&server];
        if !own.tagged {
            return Err(Error::config("this machine", "is not tagged"));
        }
        if !view.iter().any(|i| i.id == own.id) {
            return Err(failed("this machine"));
        }
        if own.keep {
            return Err(Error::new(Kind::Busy, "this machine", "is kept"));
        }
        if self.is_protected(server) {
            return Err(failed("a dry run of its end"));
        }
        Ok(self.machine(server))
    }

    pub fn machine(&self, number: usize) -> Machine {
        let vm = &self.cloud.vms[&number];
        Machine {
            instance: Some(vm.id.clone()),
            host: vm.address.clone(),
            port: 80,
        }
    }

    pub fn hosts_answered(&mut self, id: usize) {
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        let answers: Vec<Reply> = task.answers.drain(..).flatten().collect();
        let all: Vec<String> = (0..self.site.balancers).map(balancer_name).collect();
        let told = |servers: Vec<String>| -> Told {
            let result = |reply: &Reply| match reply {
                Reply::Done => Ok(()),
                Reply::Refused => Err(Error::new(Kind::Busy, "HAProxy host", "refused")),
                _ => Err(failed("HAProxy host")),
            };
            let each = servers.into_iter().zip(&answers);
            each.map(|(server, reply)| (server, result(reply))).collect()
        };
        match task.step.clone() {
            Step::Check => self.finish(id, Outcome::Checked(told(all))),
            Step::Enter { machine, servers, .. } => self.finish(id, Outcome::Entered(machine, told(servers))),
            Step::Drain { machine, servers, .. } => self.finish(id, Outcome::Drained(machine, told(servers))),
            Step::Remove { server, name } => {
                let result = told(vec![server.clone()]).remove(0).1;
                self.finish(id, Outcome::Removed { server, name, result });
            }
            Step::Survey { purpose, myself } => {
                let listing = |reply| match reply {
                    Reply::Listing(listing) => Ok(listing),
                    _ => Err(Error::unavailable("lb", "does not answer")),
                };
                let listings = answers.into_iter().map(listing).collect();
                let survey = self.survey(id, listings, myself.as_ref());
                self.finish(id, Outcome::Surveyed(purpose, Ok(survey)));
            }
            _ => {}
        }
    }

    fn survey(
        &mut self,
        id: usize,
        listings: Vec<Result<Vec<Listed>, Error>>,
        myself: Option<&Machine>,
    ) -> Survey {
        let now = self.ec2_seconds();
        let seen = self.seen();
        let by = self.tasks[&id].server;
        let mut survey = Survey {
            now,
            instances: std::mem::take(&mut self.task(id).view),
            listings,
            ..Survey::default()
        };
        let ids = survey.unlisted_by_ec2();
        let fault = self.rate(|f| f.ec2);
        if !ids.is_empty() && !self.random.chance(fault) {
            (survey.unknown, survey.gone) = self.cloud.whereabouts(ids, seen, self.now);
        }
        let unlisted = survey.unlisted(80);
        if !unlisted.is_empty() {
            let mut witnesses = survey.witnesses(myself, 80);
            witnesses.truncate(WITNESSES);
            survey.sees = witnesses.iter().any(|m| self.sees(by, m));
            let healthy = unlisted.into_iter().filter(|m| self.sees(by, m));
            survey.healthy = healthy.filter_map(|m| m.instance).collect();
        }
        survey
    }

    /// Does that machine pass its health check from this one?
    fn sees(&self, by: usize, machine: &Machine) -> bool {
        let there = self.addresses.get(&machine.host);
        let reached = |n: &usize| *n == by || self.now >= self.servers[by].deaf_until;
        there.is_some_and(|n| reached(n) && self.is_healthy(*n))
    }

    pub fn poll(&mut self, id: usize) {
        match self.tasks.get(&id).map(|task| task.step.clone()) {
            Some(Step::Launch { .. }) => {
                if let Order::Launch { token, zone, .. } | Order::Launched { token, zone } =
                    self.task(id).order.clone()
                {
                    self.ask_ec2(id, Order::Launched { token, zone });
                }
            }
            Some(Step::Boot { machine, .. }) => self.poll_boot(id, machine),
            Some(Step::Confirm { machine, .. }) => self.poll_haproxy(id, machine),
            _ => {}
        }
    }

    /// Looks whether a new machine runs and passes its health check.
    fn poll_boot(&mut self, id: usize, mut machine: Machine) {
        let down = self.now < self.ec2_down_until;
        let view = self.lagging_view();
        let instance = view
            .into_iter()
            .find(|i| Some(&i.id) == machine.instance.as_ref() && !down);
        let why = match instance.as_ref().map(|i| i.life) {
            Some(Life::Gone) => Some(failed("it is terminated")),
            Some(Life::Stopped) => Some(Error::busy("it", "is stopped")),
            Some(Life::Live) | None => None,
        };
        if let Some(why) = why {
            return self.finish(id, Outcome::Booted(machine, Err(why)));
        }
        if machine.host.is_empty()
            && let Some(address) = instance.and_then(|i| i.address)
        {
            machine.host = address;
            if let Step::Boot { machine: known, .. } = &mut self.task(id).step {
                known.clone_from(&machine);
            }
        }
        let (by, deadline) = (self.tasks[&id].server, self.tasks[&id].deadline);
        if self.sees(by, &machine) {
            self.finish(id, Outcome::Booted(machine, Ok(())));
        } else if self.now >= deadline {
            self.finish(id, Outcome::Booted(machine, Err(failed("not healthy"))));
        } else {
            self.after(2000, Event::Poll(id));
        }
    }

    /// Looks whether a HAProxy has it UP, or none can say.
    fn poll_haproxy(&mut self, id: usize, machine: Machine) {
        let (by, deadline, now) = (self.tasks[&id].server, self.tasks[&id].deadline, self.now);
        let hosts = (0..self.site.balancers).filter(|host| self.reaches(by, *host));
        let hosts: Vec<usize> = hosts
            .filter(|host| now >= self.balancers[*host].haproxy.garbled_until)
            .collect();
        let asked = !hosts.is_empty();
        let lines: Vec<State> = hosts
            .into_iter()
            .flat_map(|host| {
                let haproxy = &self.balancers[host].haproxy;
                let its = haproxy.entries.iter().zip(haproxy.listing(now));
                its.filter(|(e, _)| e.is(&machine))
                    .map(|(_, line)| line.state)
                    .collect::<Vec<_>>()
            })
            .collect();
        let unknown = !lines.is_empty() && lines.iter().all(|state| *state == State::Unknown);
        let down = lines.contains(&State::Down);
        if unknown || lines.contains(&State::Up) {
            self.finish(id, Outcome::Confirmed(machine, Ok(())));
        } else if now >= deadline {
            let why = match (down, asked && lines.is_empty()) {
                (true, _) => failed("DOWN"),
                (_, true) => Error::config("it", "is listed by no HAProxy"),
                _ => Error::busy("nobody", "can say"),
            };
            self.finish(id, Outcome::Confirmed(machine, Err(why)));
        } else {
            self.after(2000, Event::Poll(id));
        }
    }
}
