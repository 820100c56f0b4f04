//! A node driven by hand: what it does at each event.

mod asking;
mod growing;
mod interruption;
mod notices;
mod repairing;
mod shrinking;

use super::*;
use crate::core::fleet::{Instance, Listed, Rules, Survey};
use crate::core::shortage::Place;

const SECOND: Duration = Duration::from_secs(1);

struct Bench {
    node: Node,
    now: Instant,
}

impl Bench {
    fn new(servers: &[&str]) -> Bench {
        let now = Instant::now();
        let settings = Settings {
            threshold: 50.0,
            window: 3 * SECOND,
            scale_down_threshold: 20.0,
            scale_down_window: 5 * SECOND,
            sample_interval: SECOND,
            servers: servers.iter().map(|s| s.to_string()).collect(),
            fleet: Rules {
                boot_timeout: 300 * SECOND,
                cooldown: 120 * SECOND,
                max_hosts: 10,
                min_hosts: 1,
                max_launches_per_day: 0,
                by_group: false,
            },
            ec2: true,
            repair_delay: 10 * SECOND,
            look_interval: 3600 * SECOND,
            blocked_after: Duration::from_secs(600),
        };
        Bench {
            node: Node::new(settings, now),
            now,
        }
    }

    fn connect(&mut self, link: LinkId, name: &str) {
        assert!(self.node.connected(link, name, self.now));
        self.seen();
    }

    fn sample(&mut self, percents: &[f64]) -> Vec<String> {
        for percent in percents {
            self.now += SECOND;
            self.node.tick(self.now);
            self.node.sampled(*percent, self.now);
        }
        self.seen()
    }

    fn hear(&mut self, link: LinkId, line: &str) -> Vec<String> {
        self.node.heard(link, FromMaster::parse(line).unwrap(), self.now);
        self.seen()
    }

    fn finish(&mut self, outcome: Outcome) -> Vec<String> {
        self.node.finished(outcome, self.now);
        self.seen()
    }

    fn after(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        self.node.tick(self.now);
        self.seen()
    }

    /// Lines sent and steps run; what is said to people and heartbeats are left out.
    fn seen(&mut self) -> Vec<String> {
        let heartbeat = |m: &FromNode| matches!(m, FromNode::Load(_) | FromNode::Ping);
        self.node
            .actions()
            .into_iter()
            .filter_map(|action| match action {
                Action::Send(_, message) if heartbeat(&message) => None,
                Action::Send(link, message) => Some(format!("{link} {message}")),
                Action::Run(step) => Some(format!("{step:?}").split([' ', '{']).next().unwrap().to_string()),
                Action::Say(_) | Action::Notify(_) => None,
                Action::End(Ok(())) => Some("ok".into()),
                Action::End(Err(error)) => Some(format!("{:?}", error.kind())),
            })
            .collect()
    }

    /// Up to a running `Identify`, with one master.
    fn leaving() -> Bench {
        let mut b = Bench::new(&["lb1"]);
        b.connect(1, "lb1");
        assert_eq!(b.sample(&[5.0; 5]), ["1 RETIRE"]);
        assert_eq!(b.hear(1, "GRANT 1-a 30 1"), NOTHING);
        assert_eq!(b.sample(&[5.0]), ["Identify"]);
        b
    }

    /// Up to a running `Survey`, for a scale-up, with one master.
    fn surveying() -> Bench {
        let mut b = Bench::new(&["lb1"]);
        b.connect(1, "lb1");
        assert_eq!(b.sample(&[90.0; 3]), ["1 SCALE"]);
        assert_eq!(b.hear(1, "GRANT 1-a 30 1"), ["Survey"]);
        b
    }

    /// Up to a running `Launch`, with one master.
    fn launching() -> Bench {
        let mut b = Bench::surveying();
        assert_eq!(b.finish(Outcome::Surveyed(Ok(empty()))), ["Launch"]);
        b
    }
}

fn instance(id: &str) -> Instance {
    Instance {
        id: id.into(),
        live: true,
        gone: false,
        address: None,
        launched_at: 0,
    }
}

fn empty() -> Survey {
    Survey {
        now: 1000,
        instances: Vec::new(),
        listings: Vec::new(),
    }
}

fn machine() -> Machine {
    Machine {
        instance: Some("i-1".into()),
        host: "10.0.0.9".into(),
        port: 80,
    }
}

fn told(results: &[(&str, bool)]) -> Told {
    let result = |ok| {
        if ok {
            Ok(())
        } else {
            Err(Error::unavailable("x", "down"))
        }
    };
    results
        .iter()
        .map(|(server, ok)| (server.to_string(), result(*ok)))
        .collect()
}

fn failure() -> Error {
    Error::unavailable("EC2", "no")
}

const NOTHING: [&str; 0] = [];
