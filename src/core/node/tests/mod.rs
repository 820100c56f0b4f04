//! A node driven by hand: what it does at each event.

mod asking;
mod growing;
mod interruption;
mod leaving;
mod looking;
mod newcomers;
mod notices;
mod replacing;

use super::*;
use crate::core::node::insufficient_capacity::Place;
use crate::core::plan::{Instance, Life, Listed, Rules, Survey};
use crate::error::Error;

const SECOND: Duration = Duration::from_secs(1);
const NOTHING: [&str; 0] = [];

struct Bench {
    node: Node,
    now: Instant,
}

impl Bench {
    fn new(servers: &[&str]) -> Bench {
        Bench::with(servers, |_| ())
    }

    /// With other settings than usual.
    fn with(servers: &[&str], change: impl FnOnce(&mut Settings)) -> Bench {
        let now = Instant::now();
        let mut settings = Settings {
            threshold: 50.0,
            window: 3 * SECOND,
            scale_down_threshold: 20.0,
            scale_down_window: 5 * SECOND,
            sample_interval: SECOND,
            servers: servers.iter().map(|s| s.to_string()).collect(),
            plan: Rules {
                ec2: true,
                boot_timeout: 300 * SECOND,
                cooldown: 30 * SECOND,
                replace_after: 600 * SECOND,
                max_hosts: 10,
                min_hosts: 1,
                max_launches_per_day: 0,
                named: true,
                port: 80,
            },
            by_group: false,
            blocked_after: 600 * SECOND,
        };
        change(&mut settings);
        Bench {
            node: Node::new(settings, Some(machine(1)), now),
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

    /// Lines sent and steps run; what is said to people, heartbeats and reports are left out.
    fn seen(&mut self) -> Vec<String> {
        self.node.actions().iter().filter_map(shown).collect()
    }

    /// A survey for a look has brought this.
    fn looked(&mut self, survey: Survey) -> Vec<String> {
        self.finish(Outcome::Surveyed(Purpose::Look, Ok(survey)))
    }

    /// The survey with the lease has brought this.
    fn surveyed(&mut self, survey: Survey) -> Vec<String> {
        self.finish(Outcome::Surveyed(Purpose::Lease, Ok(survey)))
    }

    /// The HAProxy host would take a machine.
    fn takes(&mut self) -> Vec<String> {
        self.finish(Outcome::Checked(told(&[("lb1", true)])))
    }

    /// Up to a running survey, for a departure, with one master.
    fn leaving() -> Bench {
        let mut b = Bench::new(&["lb1"]);
        b.connect(1, "lb1");
        assert_eq!(b.sample(&[5.0; 5]), ["1 RETIRE"]);
        assert_eq!(b.hear(1, "GRANT 1-a 30 1 0"), NOTHING, "sampled afresh first");
        assert_eq!(b.sample(&[5.0]), ["Identify"]);
        assert_eq!(
            b.finish(Outcome::Identified(Ok(machine(1)))),
            ["Survey for Lease"]
        );
        b
    }

    /// Up to a running survey, for a launch, with one master.
    fn surveying() -> Bench {
        let mut b = Bench::new(&["lb1"]);
        b.connect(1, "lb1");
        assert_eq!(b.sample(&[90.0; 3]), ["1 SCALE"]);
        assert_eq!(b.hear(1, "GRANT 1-a 30 1 2"), ["Survey for Lease"]);
        b
    }

    /// Up to a running `Launch`, with one master.
    fn launching() -> Bench {
        let mut b = Bench::surveying();
        assert_eq!(b.surveyed(alone()), ["Check"]);
        assert_eq!(b.takes(), ["Launch 2"]);
        b
    }

    /// Machine 2 boots.
    fn booting() -> Bench {
        let mut b = Bench::launching();
        let seen = b.finish(launched(&[2]));
        assert_eq!(
            seen,
            [
                "1 FINISH 1-a ok 1 launched i-2: CPU at 90% over 3 s, threshold 50%",
                "Boot i-2"
            ]
        );
        b
    }

    /// Machine 2 is entered, and HAProxy has to take it up.
    fn confirming() -> Bench {
        let mut b = Bench::booting();
        assert_eq!(
            b.finish(Outcome::Booted(machine(2), Ok(()))),
            ["Enter i-2 on lb1"]
        );
        assert_eq!(
            b.finish(Outcome::Entered(machine(2), told(&[("lb1", true)]))),
            ["Confirm i-2"]
        );
        b
    }
}

/// What is left out is `None`.
fn shown(action: &Action) -> Option<String> {
    Some(match action {
        Action::Send(_, FromNode::Load(_) | FromNode::Ping | FromNode::Report) => return None,
        Action::Say(_) | Action::Notify(_) | Action::Adopt { .. } => return None,
        Action::Send(link, message) => format!("{link} {message}"),
        Action::End(Ok(())) => "ok".into(),
        Action::End(Err(error)) => format!("{:?}", error.kind()),
        Action::Run(step) => match step {
            Step::Survey { purpose, .. } => format!("Survey for {purpose:?}"),
            Step::Launch { count, .. } => format!("Launch {count}"),
            Step::Boot { machine, .. } => format!("Boot {}", machine.title()),
            Step::Confirm { machine, .. } => format!("Confirm {}", machine.title()),
            Step::Depart { machine } => format!("Depart {}", machine.title()),
            Step::Terminate { id } => format!("Terminate {id}"),
            Step::Find { count, .. } => format!("Find {count}"),
            Step::Remove { server, name } => format!("Remove {name} on {server}"),
            Step::Enter {
                machine,
                servers,
                by_plan,
            } => {
                let by_plan = if *by_plan { " by plan" } else { "" };
                format!("Enter {} on {}{by_plan}", machine.title(), servers.join(" "))
            }
            Step::Drain { machine, force, .. } => {
                format!(
                    "{} {}",
                    if *force { "Drain even the last:" } else { "Drain" },
                    machine.title()
                )
            }
            Step::Check | Step::Identify => format!("{step:?}"),
        },
    })
}

fn machine(number: u32) -> Machine {
    Machine {
        instance: Some(format!("i-{number}")),
        host: format!("10.0.0.{number}"),
        port: 80,
    }
}

/// Live instances with these numbers, an hour old, and what each HAProxy host lists: lines of
/// `list-hosts --state`; `?` did not answer.
fn survey(instances: &[u32], hosts: &[&str]) -> Survey {
    let instance = |number: &u32| Instance {
        id: format!("i-{number}"),
        life: Life::Live,
        address: Some(format!("10.0.0.{number}")),
        launched_at: Some(1_000_000 - 3600),
        keep: false,
        image: "ami-1".into(),
        of_group: false,
        in_service: true,
    };
    let listing = |text: &&str| match *text {
        "?" => Err(Error::unavailable("lb", "no route to host")),
        text => Ok(text.split(", ").filter_map(Listed::parse).collect()),
    };
    Survey {
        now: 1_000_000,
        instances: instances.iter().map(instance).collect(),
        listings: hosts.iter().map(listing).collect(),
        sees: true,
        ..Survey::default()
    }
}

const ONE_UP: &str = "a 10.0.0.1 80 i-1 UP 900";
const TWO_UP: &str = "a 10.0.0.1 80 i-1 UP 900, b 10.0.0.2 80 i-2 UP 900";

/// This machine serves, and no other is there.
fn alone() -> Survey {
    survey(&[1], &[ONE_UP])
}

/// This machine and another one serve.
fn two() -> Survey {
    survey(&[1, 2], &[TWO_UP])
}

fn launched(numbers: &[u32]) -> Outcome {
    let nowhere = |number: &u32| Machine {
        host: String::new(),
        ..machine(*number)
    };
    Outcome::Launched(Launched {
        machines: numbers.iter().map(nowhere).collect(),
        ..Launched::default()
    })
}

fn not_launched(error: Error) -> Outcome {
    Outcome::Launched(Launched {
        error: Some(error),
        ..Launched::default()
    })
}

fn told(results: &[(&str, bool)]) -> Told {
    let result = |ok: &bool| match ok {
        true => Ok(()),
        false => Err(Error::unavailable("x", "down")),
    };
    results
        .iter()
        .map(|(server, ok)| (server.to_string(), result(ok)))
        .collect()
}

fn failure() -> Error {
    Error::unavailable("EC2", "no")
}
