//! A launch: RunInstances at one place after another, with the tokens of a chain that is the same for
//! all.

use super::super::Ms;
use super::super::calls::{Order, Reply};
use super::super::cloud::Launch;
use super::super::events::Event;
use super::super::world::World;
use super::failed;
use crate::core::node::insufficient_capacity::{self, Place};
use crate::core::node::{Launched, Machine, Outcome, Step};
use crate::core::plan::client_token;

const CLUSTER: &str = "sim";
/// How many times a token may have gone with another number, and how long what was launched with it
/// may take to be listed.
const MISMATCHES: u32 = 5;
const LISTED: Ms = 60_000;

/// A launch under way.
#[derive(Debug, Default)]
pub struct Launching {
    places: Vec<Place>,
    /// Which place is tried, with which token of its chain.
    at: usize,
    round: u32,
    mismatches: u32,
    /// Until when somebody else's launch is looked for.
    until: Ms,
    got: Vec<usize>,
    without: Vec<Place>,
}

fn subnet_name(zone: usize) -> String {
    format!("subnet-{zone}")
}

impl World {
    pub(super) fn launch_begins(&mut self, id: usize, short: &[Place]) {
        let place = |zone| Place {
            subnet: Some(subnet_name(zone)),
            instance_type: None,
        };
        let mut places: Vec<Place> = (0..self.site.zones).map(place).collect();
        insufficient_capacity::sort(&mut places, short);
        self.task(id).launch.places = places;
        self.launch_next(id);
    }

    pub(super) fn launch_next(&mut self, id: usize) {
        let task = self.task(id);
        let Step::Launch { fleet, count, .. } = &task.step else {
            return;
        };
        let missing = count.saturating_sub(task.launch.got.len() as u32);
        let Some(place) = task.launch.places.get(task.launch.at).filter(|_| missing > 0) else {
            return self.launch_over(id);
        };
        let subnet = place.subnet.clone().unwrap_or_default();
        let token = client_token(CLUSTER, fleet, Some(&subnet), None, task.launch.round);
        let zone = (0..self.site.zones).find(|zone| subnet_name(*zone) == subnet);
        let zone = zone.expect("one of the site's subnets");
        self.ask_ec2(
            id,
            Order::Launch {
                token,
                zone,
                count: missing,
            },
        );
    }

    pub(super) fn launch_answered(&mut self, id: usize, reply: Reply) {
        let now = self.now;
        let vms = &self.cloud.vms;
        let task = self.tasks.get_mut(&id).expect("it is under way");
        let Step::Launch { count, .. } = &task.step else {
            return;
        };
        let launch = &mut task.launch;
        let found = match reply {
            Reply::Launched(Launch::Known(machines)) => {
                machines.into_iter().filter(|m| vms[m].is_live()).collect()
            }
            Reply::Machines(machines) => machines,
            Reply::Launched(Launch::Mismatch) if launch.mismatches < MISMATCHES => {
                launch.mismatches += 1;
                launch.until = now + LISTED;
                return self.after(1000, Event::Poll(id));
            }
            Reply::Launched(Launch::NoCapacity) => {
                launch.without.push(launch.places[launch.at].clone());
                (launch.at, launch.round, launch.mismatches) = (launch.at + 1, 0, 0);
                return self.launch_next(id);
            }
            Reply::Launched(Launch::Terminated) => Vec::new(),
            _ => return self.launch_over(id),
        };
        if found.is_empty() {
            if now < launch.until {
                return self.after(1000, Event::Poll(id));
            }
            launch.round += 1;
            return self.launch_next(id);
        }
        if (found.len() + launch.got.len()) < *count as usize {
            launch.without.push(launch.places[launch.at].clone());
        }
        launch.got.extend(found);
        launch.until = 0;
        (launch.at, launch.round, launch.mismatches) = (launch.at + 1, 0, 0);
        self.launch_next(id);
    }

    fn launch_over(&mut self, id: usize) {
        let task = self.task(id);
        let Step::Launch { count, .. } = task.step else {
            return;
        };
        let launch = std::mem::take(&mut task.launch);
        let machine = |m: &usize| Machine {
            host: String::new(),
            ..self.machine(*m)
        };
        let short = launch.got.len() < count as usize;
        let launched = Launched {
            machines: launch.got.iter().map(machine).collect(),
            unnamed: 0,
            without: launch.without,
            error: short.then(|| failed("EC2 RunInstances")),
        };
        self.finish(id, Outcome::Launched(launched));
    }
}
