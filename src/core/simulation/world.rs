//! The world of one run: what there is, the queue of what will happen, and its clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::{Duration, Instant};

use super::Ms;
use super::balancer::Balancer;
use super::cloud::{Cloud, Vm};
use super::events::{Due, Event, Who};
use super::haproxy::Admin;
use super::network::Conn;
use super::random::Random;
use super::rest::Settling;
use super::server::Server;
use super::site::{Faults, Site};
use super::worker::Task;

/// Monotonic clocks begin here, so that those that stood still never come before their beginning.
const CLOCK_START: Ms = 100_000_000;

/// More events than this in one moment, and somebody does nothing again and again.
const MOST_AT_ONCE: u64 = 10_000;

/// One process: a daemon or a master.
#[derive(Debug, Default)]
pub struct Process {
    pub up: bool,
    /// Which life of it this is. What belongs to another one is void.
    pub life: u32,
    pub stalled_until: Ms,
    /// Its monotonic clock stands still until then.
    pub suspended_until: Ms,
    /// For how long its monotonic clock stood still.
    pub lost: Ms,
    /// The earliest `Tick` in the queue.
    pub tick: Option<Ms>,
}

pub struct World {
    pub site: Site,
    pub random: Random,
    pub now: Ms,
    start: Instant,
    queue: BinaryHeap<Reverse<Due>>,
    order: u64,
    pub events: u64,
    /// Of this very moment.
    at_once: u64,
    pub servers: Vec<Server>,
    pub balancers: Vec<Balancer>,
    pub conns: Vec<Conn>,
    pub cloud: Cloud,
    pub tasks: BTreeMap<usize, Task>,
    pub next_task: usize,
    /// Who last got an address.
    pub addresses: BTreeMap<String, usize>,
    /// App server and HAProxy host that do not reach each other, and until when.
    pub cuts: BTreeMap<(usize, usize), Ms>,
    pub ec2_down_until: Ms,
    /// Each lease to launch: its host, its name, and how many machines.
    pub grants: BTreeMap<(usize, String), usize>,
    pub launches: Vec<Launched>,
    /// Percent of one machine's CPU, summed over all.
    pub load: f64,
    pub settled: Settling,
    pub violation: Option<String>,
    pub done: bool,
    /// Prints every event.
    pub trace: bool,
}

/// One RunInstances that launched something.
#[derive(Debug)]
pub struct Launched {
    pub at: Ms,
    /// The number of the first machine, and how many there are.
    pub first: usize,
    pub count: usize,
    /// How many its node was granted.
    pub granted: usize,
    /// Places were tried last where EC2 had no capacity a while ago.
    pub passed_over: bool,
}

/// Tells what happens, to whoever replays a seed.
macro_rules! note {
    ($world:expr, $($text:tt)*) => {
        if $world.trace {
            $world.print(format!($($text)*));
        }
    };
}
pub(super) use note;

impl World {
    pub fn new(seed: u64, trace: bool) -> World {
        let mut random = Random::new(seed);
        let site = Site::draw(&mut random);
        World::of(site, random, trace)
    }

    pub fn of(site: Site, random: Random, trace: bool) -> World {
        let mut world = World {
            cloud: Cloud::new(site.zones),
            now: 0,
            start: Instant::now(),
            queue: BinaryHeap::new(),
            order: 0,
            events: 0,
            at_once: 0,
            servers: Vec::new(),
            balancers: Vec::new(),
            conns: Vec::new(),
            tasks: BTreeMap::new(),
            next_task: 0,
            addresses: BTreeMap::new(),
            cuts: BTreeMap::new(),
            ec2_down_until: 0,
            grants: BTreeMap::new(),
            launches: Vec::new(),
            load: 0.0,
            settled: Settling::default(),
            violation: None,
            done: false,
            trace,
            random,
            site,
        };
        note!(world, "{:#?}", world.site);
        world.populate();
        world
    }

    fn populate(&mut self) {
        for number in 0..self.site.by_hand + self.site.launched {
            let vm = Vm {
                id: format!("i-{number}"),
                address: format!("10.0.0.{}", number + 1),
                tagged: number >= self.site.by_hand,
                launched: None,
                zone: 0,
                running: 0,
                healthy: Some(0),
                sick_until: 0,
                bad: false,
                ended: None,
                keep: false,
                kept_at: 0,
                stopped: false,
                unleased_at: 0,
                protected_until: 0,
                notice: None,
            };
            self.addresses.insert(vm.address.clone(), number);
            self.cloud.vms.insert(number, vm);
            self.servers.push(Server::new(self.site.balancers));
            self.servers[number].powered = true;
        }
        for number in 0..self.site.balancers {
            let mut balancer = Balancer::new();
            for (machine, vm) in &self.cloud.vms {
                let id = vm.tagged.then(|| vm.id.clone());
                balancer
                    .haproxy
                    .enter(format!("app{machine}"), &vm.address, id, 0);
            }
            balancer.haproxy.entries.iter_mut().for_each(|e| e.up = true);
            self.balancers.push(balancer);
            self.power_on(Who::Master(number));
        }
        for number in 0..self.servers.len() {
            self.power_on(Who::Daemon(number));
        }
        self.change_load();
        if self.site.faults.until > 0 {
            self.after(1000, Event::Fault);
            self.after(30_000, Event::Load);
        }
        self.at(self.site.faults.until, Event::Inspect);
    }

    pub fn run(&mut self) {
        while self.violation.is_none() && !self.done {
            let Some(Reverse(due)) = self.queue.pop() else {
                return;
            };
            self.at_once = if due.at == self.now { self.at_once + 1 } else { 0 };
            if self.at_once > MOST_AT_ONCE {
                self.violate(format!("somebody spins: {:?}", due.event));
            }
            self.now = due.at;
            self.events += 1;
            self.handle(due.event);
        }
    }

    pub fn at(&mut self, at: Ms, event: Event) {
        self.order += 1;
        let order = self.order;
        self.queue.push(Reverse(Due {
            at: at.max(self.now),
            order,
            event,
        }));
    }

    pub fn after(&mut self, wait: Ms, event: Event) {
        self.at(self.now + wait, event);
    }

    pub fn process(&self, who: Who) -> &Process {
        match who {
            Who::Daemon(number) => &self.servers[number].process,
            Who::Master(number) => &self.balancers[number].process,
        }
    }

    pub fn process_mut(&mut self, who: Who) -> &mut Process {
        match who {
            Who::Daemon(number) => &mut self.servers[number].process,
            Who::Master(number) => &mut self.balancers[number].process,
        }
    }

    /// What the monotonic clock of a process says.
    pub fn clock(&self, who: Who) -> Instant {
        let process = self.process(who);
        let still_to_lose = process.suspended_until.saturating_sub(self.now);
        self.start + Duration::from_millis(CLOCK_START + self.now + still_to_lose - process.lost)
    }

    /// When its clock will say `instant`.
    pub fn when(&self, who: Who, instant: Instant) -> Ms {
        let since = instant.saturating_duration_since(self.start);
        let millis = since.as_nanos().div_ceil(1_000_000) as Ms;
        (millis + self.process(who).lost).saturating_sub(CLOCK_START)
    }

    pub fn faulty(&self) -> bool {
        self.now < self.site.faults.until
    }

    /// The rates of faults now.
    pub fn rate(&self, of: fn(&Faults) -> f64) -> f64 {
        match self.faulty() {
            true => of(&self.site.faults),
            false => 0.0,
        }
    }

    /// The process of an event, if it is there for it. One that does not run gets it later.
    fn awake(&mut self, who: Who, life: Option<u32>, event: Event) -> Option<Event> {
        let process = self.process(who);
        if !process.up || life.is_some_and(|life| life != process.life) {
            return None;
        }
        let until = process.stalled_until;
        if self.now < until {
            self.at(until, event);
            return None;
        }
        Some(event)
    }

    fn handle(&mut self, event: Event) {
        let owner = match &event {
            Event::Tick(who, life) => Some((*who, Some(*life))),
            Event::Sample(number, life) | Event::Look(number, life) => {
                Some((Who::Daemon(*number), Some(*life)))
            }
            Event::Notice(number) => Some((Who::Daemon(*number), None)),
            Event::Entries(number, life) => Some((Who::Master(*number), Some(*life))),
            Event::Retry(task, _)
            | Event::Answer(task, _, _)
            | Event::Behind(task, _)
            | Event::Poll(task) => match self.tasks.get(task) {
                Some(task) => Some((Who::Daemon(task.server), Some(task.life))),
                None => return,
            },
            _ => None,
        };
        let event = match owner {
            Some((who, life)) => match self.awake(who, life, event) {
                Some(event) => event,
                None => return,
            },
            None => event,
        };
        match event {
            Event::Tick(who, _) => self.tick(who),
            Event::Sample(number, life) => self.sample(number, life),
            Event::Look(number, life) => self.look(number, life),
            Event::Arrive(conn, side) => self.arrive(conn, side),
            Event::Silence(conn, side) => self.silence(conn, side),
            Event::Retry(task, serial) => self.retry(task, serial),
            Event::Effect(call) => self.effect(call),
            Event::Answer(task, serial, reply) => self.answer(task, serial, reply),
            Event::Behind(task, serial) => self.behind(task, serial),
            Event::Poll(task) => self.poll(task),
            Event::Entries(number, _) => self.see_entries(number),
            Event::Check(host, serial) => self.check(host, serial),
            Event::Health(machine) => self.health_changed(machine),
            Event::Sick(machine, until) => self.fall_sick(machine, until),
            Event::Touch(host) => self.touch(host),
            Event::Ready(host, serial) => self.set_admin(host, serial, Admin::Ready),
            Event::Drained(host, serial, call) => self.drained(host, serial, &call),
            Event::Notice(number) => self.notice(number),
            Event::Resume(number) => self.resume(number),
            Event::Start(who) => self.start(who),
            Event::PowerOn(who) => self.power_on(who),
            Event::PowerOff(number) => self.power_off(Who::Daemon(number)),
            Event::Retire(number) => self.end_machine(number),
            Event::Capacity(zone) => {
                self.cloud.room[zone] = u32::MAX;
                self.cloud.capacity_changed[zone] = self.now;
            }
            Event::Fault => self.fault(),
            Event::Load => {
                self.change_load();
                let wait = self.random.within(20_000, 90_000);
                if self.now + wait < self.site.faults.until {
                    self.after(wait, Event::Load);
                }
            }
            Event::Inspect => self.inspect(),
        }
    }

    fn tick(&mut self, who: Who) {
        self.process_mut(who).tick = None;
        match who {
            Who::Daemon(number) => self.tick_daemon(number),
            Who::Master(number) => self.tick_master(number),
        }
    }

    /// Makes sure of a `Tick` at `deadline`, by the clock of the process.
    pub fn wake(&mut self, who: Who, deadline: Instant) {
        let at = self.when(who, deadline).max(self.now);
        let process = self.process_mut(who);
        if process.tick.is_none_or(|tick| at < tick) {
            process.tick = Some(at);
            let life = process.life;
            self.at(at, Event::Tick(who, life));
        }
    }

    fn change_load(&mut self) {
        let most = 1.2 * self.site.threshold * self.site.max_hosts as f64;
        self.load = self.random.fraction() * most;
        note!(self, "the load is {:.0}", self.load);
    }

    pub fn start(&mut self, who: Who) {
        match who {
            Who::Daemon(number) => self.start_daemon(number),
            Who::Master(number) => self.start_master(number),
        }
    }

    /// A process dies. Its kernel closes its connections.
    pub fn kill(&mut self, who: Who) {
        if !self.process(who).up {
            return;
        }
        note!(self, "{who:?} is killed");
        let now = self.now;
        let process = self.process_mut(who);
        process.up = false;
        // The next one's clock runs.
        process.lost -= process.suspended_until.saturating_sub(now);
        process.suspended_until = 0;
        process.stalled_until = 0;
        match who {
            Who::Daemon(number) => self.daemon_died(number),
            Who::Master(number) => self.master_died(number),
        }
    }

    pub fn is_cut(&self, server: usize, balancer: usize) -> Option<Ms> {
        self.cuts
            .get(&(server, balancer))
            .copied()
            .filter(|until| self.now < *until)
    }

    pub fn violate(&mut self, text: String) {
        note!(self, "VIOLATION {text}");
        if self.violation.is_none() {
            self.violation = Some(format!("{text} (at {} ms)", self.now));
        }
    }

    pub fn print(&self, text: String) {
        println!("{:>9.3} {text}", self.now as f64 / 1000.0);
    }
}
