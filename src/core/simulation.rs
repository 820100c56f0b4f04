//! A whole cluster on a clock of its own: the real [`Node`]s and the real [`Master`] joined by
//! wires that lose nothing, machines that boot at once, and a load that the machines share.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::fleet::{Rules as FleetRules, Survey};
use super::lease::{Arbiter, PeerId, Rules};
use super::master::{Master, Output};
use super::node::{Action, Machine, Node, Outcome, Settings, Step};

const SECOND: Duration = Duration::from_secs(1);
const NONCE: &str = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff";

#[derive(Debug, Clone)]
struct Site {
    machines: usize,
    /// Percent of one machine's CPU, summed over all.
    load: f64,
    threshold: f64,
    scale_down_threshold: f64,
    min_hosts: usize,
    max_hosts: usize,
}

struct World {
    now: Instant,
    site: Site,
    master: Master,
    nodes: BTreeMap<PeerId, Node>,
    joined: PeerId,
    /// +1 and -1, as they happened.
    changes: Vec<i32>,
}

impl World {
    fn new(site: Site) -> World {
        let now = Instant::now();
        let rules = Rules {
            lease: 30 * SECOND,
            cooldown: 60 * SECOND,
            scale_down_cooldown: 120 * SECOND,
            max_hosts: site.max_hosts,
            max_launches_per_day: 0,
            min_hosts: site.min_hosts,
            room: 0.8 * site.threshold,
        };
        let master = Master::new("lb1".into(), String::new(), Arbiter::new(rules, None, now));
        let mut world = World {
            now,
            master,
            nodes: BTreeMap::new(),
            joined: 0,
            changes: Vec::new(),
            site,
        };
        for _ in 0..world.site.machines {
            world.join();
        }
        world
    }

    fn join(&mut self) {
        self.joined += 1;
        let peer = self.joined;
        let settings = Settings {
            threshold: self.site.threshold,
            window: 10 * SECOND,
            scale_down_threshold: self.site.scale_down_threshold,
            scale_down_window: 60 * SECOND,
            sample_interval: SECOND,
            servers: vec!["lb1".into()],
            fleet: FleetRules {
                boot_timeout: 300 * SECOND,
                cooldown: 60 * SECOND,
                max_hosts: self.site.max_hosts,
                min_hosts: self.site.min_hosts,
                max_launches_per_day: 0,
                by_group: false,
            },
            ec2: true,
            repair_delay: SECOND,
            look_interval: 10_000_000 * SECOND,
        };
        let mut node = Node::new(settings, self.now);
        self.master.opened(peer, self.now);
        self.master
            .line(peer, &format!("HELLO 1 app{peer} 00"), 0, NONCE, self.now);
        node.connected(1, "lb1", self.now);
        self.nodes.insert(peer, node);
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += SECOND;
            let out = self.master.tick(self.now);
            self.deliver(out);
            let share = (self.site.load / self.nodes.len() as f64).min(100.0);
            for peer in self.nodes.keys().copied().collect::<Vec<_>>() {
                if let Some(node) = self.nodes.get_mut(&peer) {
                    node.tick(self.now);
                    node.sampled(share, self.now);
                }
                self.act(peer);
            }
        }
    }

    fn act(&mut self, peer: PeerId) {
        loop {
            let Some(node) = self.nodes.get_mut(&peer) else {
                return;
            };
            let actions = node.actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                match action {
                    Action::Send(_, message) => {
                        let hosts = self.nodes.len();
                        let out = self
                            .master
                            .line(peer, &message.to_string(), hosts, NONCE, self.now);
                        self.deliver(out);
                    }
                    Action::Run(step) => self.step(peer, step),
                    Action::Say(_) | Action::End(_) => {}
                }
            }
        }
    }

    fn deliver(&mut self, out: Vec<Output>) {
        for output in out {
            for (peer, message) in self.master.spelt_out(output) {
                if let Some(node) = self.nodes.get_mut(&peer) {
                    node.heard(1, message, self.now);
                }
            }
        }
    }

    fn step(&mut self, peer: PeerId, step: Step) {
        let machine = Machine {
            instance: Some(format!("i-{peer}")),
            host: "10.0.0.1".into(),
            port: 80,
        };
        let told = vec![("lb1".to_string(), Ok(()))];
        let outcome = match step {
            Step::Survey => Outcome::Surveyed(Ok(Survey {
                now: 0,
                instances: Vec::new(),
                listings: Vec::new(),
            })),
            Step::Launch { .. } => Outcome::Launched(Ok(machine)),
            Step::Boot { machine, .. } => Outcome::Booted(machine, Ok(())),
            Step::Enter { machine, .. } => {
                self.join();
                self.changes.push(1);
                Outcome::Entered(machine, told)
            }
            Step::Identify => Outcome::Identified(Ok(machine)),
            Step::Drain { machine, .. } => Outcome::Drained(machine, told),
            Step::Depart { machine } => Outcome::Departed(machine, Ok(())),
            other => panic!("{other:?} has no place here"),
        };
        let departed = matches!(outcome, Outcome::Departed(..));
        if let Some(node) = self.nodes.get_mut(&peer) {
            node.finished(outcome, self.now);
        }
        if departed {
            self.act(peer);
            self.nodes.remove(&peer);
            self.master.closed(peer);
            self.changes.push(-1);
        }
    }
}

fn site() -> impl Strategy<Value = Site> {
    (1usize..12, 1.0..100.0f64, 0.0..1.0f64, 1usize..4, 0usize..12).prop_flat_map(
        |(machines, threshold, down, min_hosts, spare)| {
            (0.0..100.0 * machines as f64).prop_map(move |load| Site {
                machines,
                load,
                threshold,
                scale_down_threshold: down * 0.99 * threshold,
                min_hosts,
                max_hosts: min_hosts.max(machines) + spare,
            })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// With a load held constant, machines come or machines go, but never both; and in the end
    /// nothing moves any more.
    #[test]
    fn no_flapping(site in site()) {
        let (min, max, machines) = (site.min_hosts, site.max_hosts, site.machines);
        let mut world = World::new(site);
        // Time for every machine to come or go, one cooldown each.
        world.run(120 * SECOND * 30);
        let directions: std::collections::BTreeSet<i32> = world.changes.iter().copied().collect();
        prop_assert!(directions.len() <= 1, "{:?}", world.changes);
        prop_assert!(world.nodes.len() <= max);
        prop_assert!(world.nodes.len() >= min.min(machines));
        let settled = world.changes.len();
        world.run(120 * SECOND * 10);
        prop_assert_eq!(world.changes.len(), settled);
    }
}

#[test]
fn a_site_grows_with_its_load_and_shrinks_again() {
    let site = Site {
        machines: 2,
        load: 180.0,
        threshold: 60.0,
        scale_down_threshold: 20.0,
        min_hosts: 2,
        max_hosts: 9,
    };
    let mut world = World::new(site);
    world.run(1000 * SECOND);
    assert_eq!(
        world.nodes.len(),
        4,
        "180 over 3 is still at the threshold of 60, over 4 it is not"
    );
    world.site.load = 40.0;
    world.run(3000 * SECOND);
    assert_eq!(
        world.nodes.len(),
        2,
        "10 each, then 13, then 20, and never under min_hosts"
    );
}
