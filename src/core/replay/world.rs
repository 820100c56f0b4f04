//! The clock, the load and the wires between the nodes and their master.

mod worker;

use std::time::{Duration, Instant};

use super::{Boot, Boots, Event, Model, Policy, Run, Trace};
use crate::core::master::lease::{Arbiter, PeerId};
use crate::core::master::{Master, Output};
use crate::core::node::{Action, Aim, Node, Outcome};
use crate::core::protocol::{FromMaster, FromNode, Reason};
use worker::{Booting, Left, machine};

pub const MASTER: &str = "lb1";
/// Between the launch of the first machines and the beginning, in seconds.
const LONG_AGO: u64 = 365 * 24 * 3600;
/// Between two times that a master asks its HAProxy how many requests there have been.
const LISTEN: Duration = Duration::from_secs(1);
const NONCE: &str = "00000000000000000000000000000000";

/// Replays `trace` under `policy`. `start` is any instant: all others follow from it.
pub fn run(trace: &Trace, model: &Model, policy: &Policy, start: Instant) -> Run {
    let rules = policy.master.clone();
    let mut world = World {
        start,
        now: Duration::ZERO,
        boots: model.boots,
        spread: model.spread / 100.0,
        yardstick: model.yardstick,
        policy,
        master: Master::new(MASTER.into(), Vec::new(), Arbiter::new(rules, None, start)),
        machines: Vec::new(),
        launched: 0,
        left: Vec::new(),
        booting: Vec::new(),
        held: false,
        load: 0.0,
        requests: model.requests.then_some(0.0),
        next_count: Duration::ZERO,
        run: Run {
            title: policy.title.clone(),
            details: policy.details.clone(),
            threshold: policy.node.threshold,
            spread: model.spread / 100.0,
            ..Run::default()
        },
    };
    for _ in 0..model.machines {
        world.launched += 1;
        world.begin(world.launched, 0);
    }
    world.count();
    let mut spans = trace.spans.iter().peekable();
    while world.now < trace.length {
        while let Some((_, load)) = spans.next_if(|(begin, _)| *begin <= world.now) {
            world.load = *load;
        }
        let next = spans.peek().map_or(trace.length, |(begin, _)| *begin);
        world.pass(next.min(trace.length));
        world.act();
    }
    world.run
}

/// One app server.
struct Server {
    peer: PeerId,
    node: Node,
    /// By the clock of [`World::survey`], in seconds.
    launched_at: u64,
    next_sample: Duration,
    /// Its CPU's use since the last sample, in percent times milliseconds.
    busy: f64,
}

struct World<'a> {
    start: Instant,
    now: Duration,
    boots: Boots,
    spread: f64,
    yardstick: f64,
    policy: &'a Policy,
    master: Master,
    /// Those that serve, by their numbers.
    machines: Vec<Server>,
    /// The number of the newest machine.
    launched: PeerId,
    left: Vec<Left>,
    booting: Vec<Booting>,
    /// That there are too few machines and may not be more has been noted since the last change.
    held: bool,
    /// Percent of one machine, summed over all.
    load: f64,
    /// How many have arrived so far, one for each second of a hundredth of a machine; `None`: it is not
    /// known.
    requests: Option<f64>,
    next_count: Duration,
    run: Run,
}

impl World<'_> {
    fn instant(&self) -> Instant {
        self.start + self.now
    }

    fn fleet(&self) -> usize {
        self.machines.len() + self.booting.len()
    }

    /// How far the busiest machine is over the mean, as a share of it.
    fn uneven(&self) -> f64 {
        if self.machines.len() > 1 { self.spread } else { 0.0 }
    }

    /// The daemon of a machine that serves begins, and finds the master.
    fn begin(&mut self, peer: PeerId, launched_at: u64) {
        let now = self.instant();
        let mut node = Node::new(self.policy.node.clone(), Some(machine(peer)), now);
        self.master.opened(peer, now);
        let hello = format!("HELLO 2 app{peer}/i-{peer} 00");
        let out = self.master.line(peer, &hello, NONCE, now);
        node.connected(1, MASTER, now);
        let server = Server {
            peer,
            node,
            launched_at,
            next_sample: self.now + self.policy.node.sample_interval,
            busy: 0.0,
        };
        let at = self.machines.partition_point(|before| before.peer < peer);
        self.machines.insert(at, server);
        self.deliver(out);
    }

    /// Takes down how many serve now.
    fn count(&mut self) {
        let listed: Vec<_> = self.machines.iter().map(worker::listed).collect();
        let out = self.master.saw(&listed, self.instant());
        self.deliver(out);
        self.run.serving.pop_if(|(at, _)| *at == self.now);
        self.run.serving.push((self.now, self.machines.len()));
        self.run.peak = self.run.peak.max(self.fleet());
    }

    /// Time goes on to whatever is next, `limit` at the latest.
    fn pass(&mut self, limit: Duration) {
        let mut next = limit.min(self.next_count);
        for server in &self.machines {
            let deadline = server.node.deadline().saturating_duration_since(self.start);
            next = next.min(server.next_sample).min(deadline);
        }
        let expiry = self.master.deadline();
        let expiry = expiry.map(|at| at.saturating_duration_since(self.start));
        let ready = self.booting.iter().map(|boot| boot.ready);
        let ready = ready.filter(|ready| *ready > self.now);
        next = ready.chain(expiry).fold(next, Duration::min);
        let passed = next.saturating_sub(self.now);
        if passed.is_zero() {
            return;
        }
        let serving = self.machines.len().max(1) as f64;
        let mean = self.load / serving;
        let milliseconds = passed.as_secs_f64() * 1000.0;
        let step = 2.0 * self.spread / (serving - 1.0).max(1.0);
        let uneven = self.uneven();
        let mut done = 0.0;
        for (rank, server) in self.machines.iter_mut().enumerate() {
            let share = mean * (1.0 + uneven - step * rank as f64);
            let busy = share.clamp(0.0, 100.0);
            done += busy;
            server.busy += busy * milliseconds;
        }
        if let Some(requests) = &mut self.requests {
            *requests += self.load * passed.as_secs_f64();
        }
        self.run.work += self.load * passed.as_secs_f64();
        self.run.unmet += (self.load - done).max(0.0) * passed.as_secs_f64();
        let busiest = mean * (1.0 + uneven);
        if busiest >= self.policy.node.threshold {
            mark(&mut self.run.over, self.now, next);
        }
        if busiest >= self.yardstick {
            self.run.over_yardstick += passed;
        }
        if busiest >= 100.0 {
            mark(&mut self.run.full, self.now, next);
        }
        if busiest > self.run.worst.0 {
            self.run.worst = (busiest, self.now);
        }
        self.run.machine_time += passed * self.fleet() as u32;
        self.now = next;
    }

    /// Does what is due now.
    fn act(&mut self) {
        let now = self.instant();
        if self.next_count <= self.now {
            self.next_count = self.now + LISTEN;
            self.master
                .requests(self.requests.map(|requests| requests as u64), now);
        }
        let out = self.master.tick(now);
        self.deliver(out);
        for peer in self.machines.iter().map(|s| s.peer).collect::<Vec<_>>() {
            let (here, interval) = (self.now, self.policy.node.sample_interval);
            let Some(server) = self.server(peer) else { continue };
            if server.node.deadline() <= now {
                server.node.tick(now);
            }
            if server.next_sample <= here {
                server.next_sample = here + interval;
                let percent = server.busy / (interval.as_secs_f64() * 1000.0);
                server.busy = 0.0;
                server.node.sampled(percent.min(100.0), now);
            }
            self.carry_out(peer);
        }
        // After the samples, which are of the time before.
        self.boot();
    }

    fn server(&mut self, peer: PeerId) -> Option<&mut Server> {
        let at = self.machines.binary_search_by_key(&peer, |server| server.peer);
        self.machines.get_mut(at.ok()?)
    }

    /// Does what a node wants done, until it wants nothing more.
    fn carry_out(&mut self, peer: PeerId) {
        while let Some(server) = self.server(peer) {
            let actions = server.node.actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                match action {
                    Action::Send(_, message) => self.send(peer, &message),
                    Action::Run(step) => self.step(peer, step),
                    Action::Adopt { .. } | Action::Say(_) | Action::Notify(_) | Action::End(_) => {}
                }
            }
        }
    }

    fn send(&mut self, peer: PeerId, message: &FromNode) {
        let now = self.instant();
        let out = self.master.line(peer, &message.to_string(), NONCE, now);
        let full = |output: &Output| matches!(output, Output::Send(to, FromMaster::Wait { reason: Reason::Full, .. }) if *to == peer);
        if matches!(message, FromNode::Scale { .. }) && !self.held && out.iter().any(full) {
            let limit = match self.master.arbiter.capped_until(now) {
                Some(_) => "max_launches_per_day",
                None => "max_hosts",
            };
            let why = format!("{}, but {limit} is reached", self.reason(peer, Aim::Grow));
            self.note(self.fleet(), why);
        }
        self.deliver(out);
    }

    fn deliver(&mut self, out: Vec<Output>) {
        let now = self.instant();
        for output in out {
            for (peer, message) in self.master.spelt_out(output) {
                if let Some(server) = self.server(peer) {
                    server.node.heard(1, message, now);
                }
            }
        }
    }

    fn note(&mut self, to: usize, why: String) {
        self.held = to == self.fleet();
        let (at, from) = (self.now, self.fleet());
        self.run.events.push(Event { at, from, to, why });
    }

    /// What made this node ask.
    fn reason(&mut self, peer: PeerId, aim: Aim) -> String {
        let Some((mean, window, _)) = self.server(peer).map(|server| server.node.grounds(aim)) else {
            return String::new();
        };
        format!(
            "CPU at {:.0}% over {} s",
            mean.unwrap_or(0.0),
            window.as_secs_f64()
        )
    }

    fn finish(&mut self, peer: PeerId, outcome: Outcome) {
        let now = self.instant();
        if let Some(server) = self.server(peer) {
            server.node.finished(outcome, now);
        }
        self.carry_out(peer);
    }
}

/// Adds a time to those before it, as one where they touch.
fn mark(times: &mut Vec<(Duration, Duration)>, begin: Duration, end: Duration) {
    match times.last_mut() {
        Some((_, last)) if *last == begin => *last = end,
        _ => times.push((begin, end)),
    }
}
