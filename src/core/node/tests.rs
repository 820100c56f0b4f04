//! A node driven by hand: what it does at each event.

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

    /// Up to a running `Launch`, with one master.
    fn launching() -> Bench {
        let mut b = Bench::new(&["lb1"]);
        b.connect(1, "lb1");
        assert_eq!(b.sample(&[90.0; 3]), ["1 SCALE"]);
        assert_eq!(b.hear(1, "GRANT 1-a 30 1"), ["Survey"]);
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

#[test]
fn the_whole_way_of_one_scale_up() {
    let mut b = Bench::launching();
    assert_eq!(b.finish(Outcome::Launched(Ok(machine()))), ["Boot"]);
    assert_eq!(b.finish(Outcome::Booted(machine(), Ok(()))), ["Enter"]);
    assert_eq!(
        b.finish(Outcome::Entered(machine(), told(&[("lb1", true)]))),
        [
            "1 FINISH 1-a ok launched i-1: CPU at 90% over 3 s, threshold 50%",
            "ok"
        ]
    );
    assert_eq!(b.sample(&[90.0; 2]), NOTHING, "a new window has begun");
    assert_eq!(b.sample(&[90.0]), ["1 SCALE"]);
}

#[test]
fn masters_are_asked_in_order_of_their_names_and_one_wait_gives_all_back() {
    let mut b = Bench::new(&["lb1", "lb2"]);
    b.connect(1, "lb2");
    b.connect(2, "lb1");
    assert_eq!(b.sample(&[90.0; 3]), ["2 SCALE"]);
    assert_eq!(b.hear(2, "GRANT 1-a 30 1"), ["1 SCALE"]);
    let wait = b.hear(1, "WAIT cooldown 5");
    assert_eq!(
        wait[0],
        "2 FINISH 1-a failed not now: master lb2: cooldown, 5 s left"
    );
    assert_eq!(wait[1], "Busy");
    assert_eq!(b.sample(&[90.0; 4]), NOTHING);
    assert_eq!(b.after(SECOND), ["2 SCALE"], "asked again when told to");
}

#[test]
fn a_master_that_comes_after_the_grants_is_asked_before_the_launch() {
    let mut b = Bench::new(&["lb1", "lb2"]);
    b.connect(1, "lb1");
    b.sample(&[90.0; 3]);
    assert_eq!(b.hear(1, "GRANT 1-a 30 1"), ["Survey"]);
    b.connect(2, "lb2");
    assert_eq!(b.finish(Outcome::Surveyed(Ok(empty()))), ["2 SCALE"]);
    assert_eq!(b.hear(2, "GRANT 7-b 30 7"), ["Survey"]);
    assert_eq!(b.finish(Outcome::Surveyed(Ok(empty()))), ["Launch"]);
}

#[test]
fn a_grant_whose_time_is_over_launches_nothing() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    b.sample(&[90.0; 3]);
    assert_eq!(b.hear(1, "GRANT 1-a 30 1"), ["Survey"]);
    b.after(31 * SECOND);
    assert_eq!(b.finish(Outcome::Surveyed(Ok(empty()))), ["1 SCALE"]);
}

#[test]
fn a_heartbeat_that_was_answered_renews_the_grant() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    b.hear(1, "PONG");
    b.sample(&[90.0; 3]);
    b.hear(1, "GRANT 1-a 30 1");
    for _ in 0..4 {
        b.after(10 * SECOND);
        b.hear(1, "PONG");
    }
    assert_eq!(b.finish(Outcome::Surveyed(Ok(empty()))), ["Launch"]);
}

#[test]
fn a_connection_lost_in_the_middle_is_held_on_return() {
    let mut b = Bench::launching();
    b.node.disconnected(1, "cut", b.now);
    b.seen();
    assert!(b.node.connected(2, "lb1", b.now));
    assert_eq!(b.seen(), ["2 HOLD 1-a"]);
    b.hear(2, "GRANT 1-a 30 1");
    b.finish(Outcome::Launched(Ok(machine())));
    b.finish(Outcome::Booted(machine(), Ok(())));
    b.node.disconnected(2, "cut", b.now);
    assert_eq!(
        b.finish(Outcome::Entered(machine(), told(&[("lb1", true)]))),
        ["ok"]
    );
    assert!(b.node.connected(3, "lb1", b.now));
    assert_eq!(
        b.seen(),
        ["3 FINISH 1-a ok launched i-1: CPU at 90% over 3 s, threshold 50%"],
        "what could not be said then"
    );
}

#[test]
fn an_answer_that_comes_too_late_is_given_back() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    b.sample(&[90.0; 3]);
    assert_eq!(b.after(6 * SECOND), ["Unavailable"]);
    assert_eq!(
        b.hear(1, "GRANT 1-a 30 1"),
        ["1 FINISH 1-a failed the answer came too late"]
    );
}

#[test]
fn failures_back_off_doubling() {
    let mut b = Bench::launching();
    let failed = b.finish(Outcome::Launched(Err(failure())));
    assert_eq!(
        failed,
        [
            "1 FINISH 1-a failed EC2: no; next try in 10 s at the earliest",
            "Unavailable"
        ]
    );
    assert_eq!(b.sample(&[90.0; 9]), NOTHING);
    assert_eq!(b.sample(&[90.0; 2]), ["1 SCALE"]);
    b.hear(1, "GRANT 2-a 30 2");
    b.finish(Outcome::Surveyed(Ok(empty())));
    b.finish(Outcome::Launched(Err(failure())));
    assert_eq!(b.sample(&[90.0; 19]), NOTHING);
    assert_eq!(b.sample(&[90.0; 2]), ["1 SCALE"]);
}

/// Two that are split must begin with the same request, or their tokens differ.
#[test]
fn what_had_no_capacity_is_tried_last_but_only_while_nobody_else_can_launch() {
    let place = Place {
        subnet: Some("s2".into()),
        instance_type: None,
    };
    for (servers, tried_last) in [(vec!["lb1"], vec![place.clone()]), (vec!["lb1", "lb2"], vec![])] {
        let mut b = Bench::new(&servers);
        b.connect(1, "lb1");
        b.sample(&[90.0; 3]);
        b.hear(1, "GRANT 1-a 30 1");
        b.finish(Outcome::Surveyed(Ok(empty())));
        let failed = b.finish(Outcome::LaunchedWithout(vec![place.clone()], Err(failure())));
        assert_eq!(
            failed,
            [
                "1 FINISH 1-a failed EC2: no; next try in 10 s at the earliest",
                "Unavailable"
            ]
        );
        assert!(b.sample(&[90.0; 11]).contains(&"1 SCALE".to_string()));
        b.hear(1, "GRANT 2-a 30 2");
        b.node.finished(Outcome::Surveyed(Ok(empty())), b.now);
        let launch = Action::Run(Step::Launch {
            fleet: Vec::new(),
            short: tried_last,
        });
        assert!(b.node.actions().contains(&launch), "{servers:?}");
    }
}

#[test]
fn another_nodes_end_does_not_end_a_backoff() {
    let mut b = Bench::launching();
    b.finish(Outcome::Launched(Err(failure())));
    b.hear(1, "SCALE app2");
    b.hear(1, "FINISH app2");
    assert_eq!(b.sample(&[90.0; 9]), NOTHING);
}

#[test]
fn while_another_scales_nobody_is_asked_and_then_a_new_window_begins() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    b.hear(1, "SCALE app2");
    assert_eq!(b.sample(&[90.0; 9]), NOTHING);
    b.hear(1, "FINISH app2");
    assert_eq!(b.sample(&[90.0; 2]), NOTHING);
    assert_eq!(b.sample(&[90.0]), ["1 SCALE"]);
}

#[test]
fn whoever_only_asks_in_vain_does_not_hold_up_the_others() {
    let mut b = Bench::new(&["lb1", "lb2"]);
    b.connect(1, "lb1");
    b.sample(&[90.0; 2]);
    // lb1 granted, lb2 did not, and so on for ever.
    b.hear(1, "SCALE idle");
    b.hear(1, "FINISH idle");
    assert_eq!(b.sample(&[90.0]), ["1 SCALE"]);
}

#[test]
fn the_same_refusal_is_said_once() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    let mut said = Vec::new();
    let mut questions = 0;
    while questions < 5 {
        b.now += SECOND;
        b.node.tick(b.now);
        b.node.sampled(5.0, b.now);
        for action in b.node.actions() {
            match action {
                Action::Send(_, FromNode::Retire) => {
                    questions += 1;
                    b.node.heard(1, FromMaster::parse("WAIT full 5").unwrap(), b.now);
                }
                Action::Say(text) => said.push(text),
                _ => {}
            }
        }
    }
    assert_eq!(said.len(), 2, "that it asks, and why not: {said:?}");
}

#[test]
fn an_unhealthy_machine_is_terminated() {
    let mut b = Bench::launching();
    b.finish(Outcome::Launched(Ok(machine())));
    assert_eq!(
        b.finish(Outcome::Booted(machine(), Err(failure()))),
        ["Terminate"]
    );
    let end = b.finish(Outcome::Terminated(Ok(())));
    assert_eq!(
        end,
        [
            "1 FINISH 1-a failed launched, but EC2: no; next try in 10 s at the earliest",
            "Unavailable"
        ]
    );
}

/// `adopted`, since a machine counts as one launch however many nodes bring it to its end.
#[test]
fn the_end_of_a_lease_says_what_was_launched_under_it() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    b.sample(&[90.0; 3]);
    b.hear(1, "GRANT 1-a 30 1");
    let orphan = Instance {
        id: "i-1".into(),
        live: true,
        gone: false,
        address: None,
        launched_at: 990,
    };
    let survey = Survey {
        now: 1000,
        instances: vec![orphan],
        listings: vec![Some(Vec::new())],
    };
    assert_eq!(b.finish(Outcome::Surveyed(Ok(survey))), ["Boot"]);
    b.finish(Outcome::Booted(machine(), Ok(())));
    assert_eq!(
        b.finish(Outcome::Entered(machine(), told(&[("lb1", true)]))),
        [
            "1 FINISH 1-a ok adopted i-1: CPU at 90% over 3 s, threshold 50%",
            "ok"
        ]
    );
    // The next lease begins with nothing done.
    b.sample(&[90.0; 3]);
    b.hear(1, "GRANT 2-a 30 2");
    assert_eq!(
        b.finish(Outcome::Surveyed(Err(failure()))),
        [
            "1 FINISH 2-a failed EC2: no; next try in 10 s at the earliest",
            "Unavailable"
        ]
    );
}

/// A master that was restarted with a larger limit need not be waited for to the end of the day.
#[test]
fn a_master_that_comes_back_is_asked_again() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    b.sample(&[90.0; 3]);
    assert_eq!(b.hear(1, "WAIT full 86400"), ["Busy"]);
    assert_eq!(b.sample(&[90.0; 60]), NOTHING);
    b.node.disconnected(1, "gone", b.now);
    assert_eq!(b.sample(&[90.0; 5]), NOTHING);
    b.connect(2, "lb1");
    assert_eq!(b.sample(&[90.0]), ["2 SCALE"]);
}

#[test]
fn an_unhealthy_machine_is_left_to_the_next_holder_without_a_grant() {
    let mut b = Bench::launching();
    b.finish(Outcome::Launched(Ok(machine())));
    b.after(31 * SECOND);
    let end = b.finish(Outcome::Booted(machine(), Err(failure())));
    assert!(!end.contains(&"Terminate".to_string()), "{end:?}");
}

#[test]
fn a_haproxy_that_was_down_is_told_later() {
    let mut b = Bench::launching();
    b.finish(Outcome::Launched(Ok(machine())));
    b.finish(Outcome::Booted(machine(), Ok(())));
    let end = b.finish(Outcome::Entered(
        machine(),
        told(&[("lb1", true), ("lb2", false)]),
    ));
    assert_eq!(
        end,
        [
            "1 FINISH 1-a ok launched i-1: CPU at 90% over 3 s, threshold 50%",
            "ok"
        ]
    );
    assert_eq!(b.node.owed(), ["lb2"]);
    assert_eq!(b.after(2 * SECOND), ["EnterLate"]);
    assert_eq!(
        b.finish(Outcome::EnteredLate(machine(), told(&[("lb2", false)]))),
        NOTHING
    );
    assert_eq!(b.after(4 * SECOND), ["EnterLate"]);
    assert_eq!(
        b.finish(Outcome::EnteredLate(machine(), told(&[("lb2", true)]))),
        NOTHING
    );
    assert!(b.node.owed().is_empty());
}

#[test]
fn an_adopted_machine_that_is_owed_to_a_haproxy_is_entered_to_the_end() {
    let mut b = Bench::launching();
    b.finish(Outcome::Launched(Ok(machine())));
    b.finish(Outcome::Booted(machine(), Ok(())));
    b.finish(Outcome::Entered(
        machine(),
        told(&[("lb1", true), ("lb2", false)]),
    ));
    assert_eq!(b.after(2 * SECOND), ["EnterLate"]);
    // lb1 has lost it again, and the next need is answered with the same machine.
    b.sample(&[90.0; 3]);
    assert_eq!(b.hear(1, "GRANT 2-b 30 2"), ["Survey"]);
    let survey = Survey {
        now: 10,
        instances: vec![instance("i-1")],
        listings: vec![Some(Vec::new()), None],
    };
    assert_eq!(b.finish(Outcome::Surveyed(Ok(survey))), ["Boot"]);
    assert_eq!(b.finish(Outcome::Booted(machine(), Ok(()))), ["Enter"]);
    assert_eq!(
        b.finish(Outcome::EnteredLate(machine(), told(&[("lb2", true)]))),
        NOTHING
    );
    let end = b.finish(Outcome::Entered(machine(), told(&[("lb1", true), ("lb2", true)])));
    assert_eq!(
        end,
        [
            "1 FINISH 2-b ok adopted i-1: CPU at 90% over 3 s, threshold 50%",
            "ok"
        ]
    );
}

#[test]
fn what_was_left_behind_is_cleared_up_without_a_need() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    b.sample(&[30.0; 3]);
    assert!(b.after(3600 * SECOND).contains(&"Repair".to_string()));
    let left = Survey {
        now: 1000,
        instances: vec![instance("i-9")],
        listings: vec![Some(Vec::new())],
    };
    let asks = b.finish(Outcome::Repaired(Ok((left.clone(), Vec::new()))));
    assert_eq!(asks, ["1 SCALE"]);
    assert_eq!(b.hear(1, "WAIT cooldown 60"), ["Busy"]);
    assert_eq!(b.after(60 * SECOND), ["1 SCALE"]);
    assert_eq!(b.hear(1, "GRANT 1-a 30 1"), ["Survey"]);
    assert_eq!(b.finish(Outcome::Surveyed(Ok(left))), ["Clear"]);
    assert_eq!(b.finish(Outcome::Cleared(Ok(()))), ["Survey"]);
    let end = b.finish(Outcome::Surveyed(Ok(empty())));
    assert_eq!(end, ["1 FINISH 1-a failed not now: no more to clear up", "Busy"]);
    assert_eq!(b.sample(&[30.0; 3]), NOTHING);
}

#[test]
fn a_node_that_is_refused_again_and_again_still_looks_at_the_haproxy_hosts() {
    let mut b = Bench::new(&["lb1", "lb2"]);
    b.connect(1, "lb1");
    let mut seen = b.sample(&[90.0; 3]);
    for _ in 0..15 {
        seen.extend(b.hear(1, "WAIT full 1"));
        seen.extend(b.after(7 * SECOND / 10));
        seen.extend(b.after(SECOND / 2));
    }
    assert!(seen.contains(&"Repair".to_string()), "{seen:?}");
}

#[test]
fn with_no_master_it_waits_and_says_so_once() {
    let mut b = Bench::new(&["lb1"]);
    for _ in 0..9 {
        b.now += SECOND;
        b.node.sampled(90.0, b.now);
    }
    let said: Vec<Action> = b.node.actions();
    assert_eq!(
        said.iter()
            .filter(|a| matches!(a, Action::Say(t) if t.contains("no master")))
            .count(),
        1
    );
    b.connect(1, "lb1");
    assert_eq!(b.sample(&[90.0]), ["1 SCALE"]);
}

#[test]
fn the_load_fell_while_asking() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    b.sample(&[90.0; 3]);
    b.hear(1, "GRANT 1-a 30 1");
    b.sample(&[1.0; 3]);
    let end = b.finish(Outcome::Surveyed(Ok(empty())));
    assert_eq!(
        end,
        [
            "1 FINISH 1-a failed not now: the load fell before the launch",
            "Busy"
        ]
    );
}

#[test]
fn the_whole_way_of_one_scale_down() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    assert_eq!(b.sample(&[5.0; 5]), ["1 RETIRE"]);
    assert_eq!(b.hear(1, "GRANT 1-a 30 1"), NOTHING, "sampled afresh first");
    assert_eq!(b.sample(&[5.0]), ["Identify"]);
    assert_eq!(b.finish(Outcome::Identified(Ok(machine()))), ["Survey"]);
    assert_eq!(b.finish(Outcome::Surveyed(Ok(empty()))), ["Drain"]);
    assert_eq!(
        b.finish(Outcome::Drained(machine(), told(&[("lb1", true)]))),
        ["Depart"]
    );
    assert_eq!(
        b.finish(Outcome::Departed(machine(), Ok(()))),
        ["1 FINISH 1-a ok CPU at 5% over 5 s, threshold 20%", "ok"]
    );
    assert_eq!(b.sample(&[5.0; 20]), NOTHING, "it is gone");
}

#[test]
fn a_load_that_rose_keeps_the_machine() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    b.sample(&[5.0; 5]);
    b.hear(1, "GRANT 1-a 30 1");
    assert_eq!(
        b.sample(&[60.0]),
        [
            "1 FINISH 1-a failed not now: the load rose before leaving",
            "Busy"
        ]
    );
}

#[test]
fn a_machine_that_autoscaler_did_not_launch_stays() {
    let mut b = Bench::leaving();
    let end = b.finish(Outcome::Identified(Err(Error::config("i-9", "not ours"))));
    assert_eq!(end.last().unwrap(), "Config");
    assert_eq!(b.sample(&[5.0; 50]), NOTHING);
    assert_eq!(b.sample(&[90.0; 3]), ["1 SCALE"], "it scales up all the same");
}

#[test]
fn whoever_leaves_terminates_what_others_left_behind_but_not_itself() {
    let mut b = Bench::leaving();
    b.finish(Outcome::Identified(Ok(machine())));
    let survey = |ids: &[&str]| Survey {
        now: 1000,
        instances: ids.iter().map(|id| instance(id)).collect(),
        listings: vec![Some(Vec::new())],
    };
    assert_eq!(
        b.finish(Outcome::Surveyed(Ok(survey(&["i-1", "i-2"])))),
        ["Clear"]
    );
    assert_eq!(b.finish(Outcome::Cleared(Ok(()))), ["Survey"]);
    assert_eq!(b.finish(Outcome::Surveyed(Ok(survey(&["i-1"])))), ["Drain"]);
}

#[test]
fn nobody_leaves_where_a_haproxy_host_would_have_too_few() {
    let mut b = Bench::leaving();
    b.finish(Outcome::Identified(Ok(machine())));
    let list = |text: &str| text.lines().filter_map(Listed::parse).collect::<Vec<_>>();
    let mut ended = instance("i-2");
    (ended.live, ended.gone) = (false, true);
    let survey = Survey {
        now: 1000,
        instances: vec![instance("i-1"), ended],
        listings: vec![Some(list("a 10.0.0.1 80 i-1\nb 10.0.0.2 80 i-2\n"))],
    };
    let end = b.finish(Outcome::Surveyed(Ok(survey)));
    assert_eq!(
        end,
        [
            "1 FINISH 1-a failed not now: no more than min_hosts would be left to serve",
            "Busy"
        ]
    );
}

#[test]
fn a_second_try_to_leave_needs_a_lease_as_the_first_one_did() {
    let mut b = Bench::leaving();
    b.finish(Outcome::Identified(Ok(machine())));
    b.finish(Outcome::Surveyed(Ok(empty())));
    b.finish(Outcome::Drained(machine(), told(&[("lb1", true)])));
    b.now += 28 * SECOND;
    assert_eq!(b.finish(Outcome::Departed(machine(), Err(failure()))), NOTHING);
    let seen = b.after(2 * SECOND);
    assert!(!seen.contains(&"Depart".to_string()), "{seen:?}");
    assert!(seen.contains(&"1 RETIRE".to_string()), "{seen:?}");
}

#[test]
fn nobody_leaves_whom_no_haproxy_let_go() {
    let mut b = Bench::leaving();
    b.finish(Outcome::Identified(Ok(machine())));
    b.finish(Outcome::Surveyed(Ok(empty())));
    let end = b.finish(Outcome::Drained(machine(), told(&[("lb1", false)])));
    assert_eq!(end.last().unwrap(), "Unavailable");
    assert!(!end.contains(&"Depart".to_string()));
}

#[test]
fn a_master_that_comes_back_makes_for_a_look_at_its_haproxy() {
    let mut b = Bench::new(&["lb1", "lb2"]);
    b.connect(1, "lb1");
    assert_eq!(b.after(10 * SECOND), ["Repair"]);
    b.finish(Outcome::Repaired(Ok((empty(), Vec::new()))));
    b.connect(2, "lb2");
    b.hear(1, "SCALE app2");
    assert_eq!(
        b.after(10 * SECOND),
        NOTHING,
        "not while somebody changes the cluster"
    );
    b.hear(1, "FINISH app2");
    assert_eq!(b.after(10 * SECOND), ["Repair"]);
}

#[test]
fn a_machine_that_ec2_takes_back_is_replaced_and_then_drains() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    b.node.interrupted("spot interruption", machine(), b.now);
    assert_eq!(b.seen(), ["1 SCALE"], "whatever the load");
    assert_eq!(b.hear(1, "GRANT 1-a 30 1"), ["Survey"]);
    assert_eq!(b.finish(Outcome::Surveyed(Ok(empty()))), ["Launch"]);
    b.finish(Outcome::Launched(Ok(machine())));
    b.finish(Outcome::Booted(machine(), Ok(())));
    let end = b.finish(Outcome::Entered(machine(), told(&[("lb1", true)])));
    assert_eq!(
        end,
        [
            "1 FINISH 1-a ok launched i-1: EC2 takes a machine back",
            "ok",
            "Drain"
        ]
    );
    assert_eq!(
        b.finish(Outcome::Drained(machine(), told(&[("lb1", true)]))),
        NOTHING,
        "EC2 ends it"
    );
    assert_eq!(
        b.sample(&[90.0; 30]),
        NOTHING,
        "it has other worries than its load"
    );
}

#[test]
fn a_machine_that_was_replaced_leaves_its_group_which_would_replace_it_again() {
    for replaced in [true, false] {
        let mut b = Bench::new(&["lb1"]);
        b.node.settings.fleet.by_group = true;
        b.connect(1, "lb1");
        b.node.interrupted("spot interruption", machine(), b.now);
        b.seen();
        if replaced {
            b.hear(1, "GRANT 1-a 30 1");
            b.finish(Outcome::Surveyed(Ok(empty())));
            b.finish(Outcome::Launched(Ok(machine())));
            b.finish(Outcome::Booted(machine(), Ok(())));
            b.finish(Outcome::Entered(machine(), told(&[("lb1", true)])));
        } else {
            b.hear(1, "WAIT full 30");
            b.after(60 * SECOND);
        }
        let seen = b.finish(Outcome::Drained(machine(), told(&[("lb1", true)])));
        assert_eq!(seen.contains(&"Depart".to_string()), replaced, "{seen:?}");
        b.finish(Outcome::Departed(machine(), Ok(())));
    }
}

#[test]
fn a_machine_that_ec2_takes_back_drains_in_time_without_a_replacement() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    b.node.interrupted("spot interruption", machine(), b.now);
    b.seen();
    assert_eq!(b.hear(1, "WAIT full 30"), ["Busy"]);
    let seen = b.after(60 * SECOND);
    assert!(seen.contains(&"Drain".to_string()), "{seen:?}");
}

/// The events, machines and reasons of what `[notify]` is told.
fn notices(b: &mut Bench) -> Vec<String> {
    let notice = |action| match action {
        Action::Notify(Notice {
            event,
            machine,
            reason,
        }) => Some(format!(
            "{event} {} {reason}",
            machine.as_ref().map_or("-", Machine::title)
        )),
        _ => None,
    };
    b.node.actions().into_iter().filter_map(notice).collect()
}

#[test]
fn people_are_told_of_what_came_and_what_failed() {
    let mut b = Bench::launching();
    b.node.finished(Outcome::Launched(Ok(machine())), b.now);
    b.node.finished(Outcome::Booted(machine(), Ok(())), b.now);
    b.node
        .finished(Outcome::Entered(machine(), told(&[("lb1", true)])), b.now);
    assert_eq!(
        notices(&mut b),
        ["launched i-1 CPU at 90% over 3 s, threshold 50%"]
    );
    let mut b = Bench::launching();
    b.node.finished(Outcome::Launched(Err(failure())), b.now);
    assert_eq!(
        notices(&mut b),
        ["failed - EC2: no; next try in 10 s at the earliest"]
    );
    let mut b = Bench::leaving();
    b.node.finished(Outcome::Identified(Ok(machine())), b.now);
    b.node.finished(Outcome::Surveyed(Ok(empty())), b.now);
    b.node
        .finished(Outcome::Drained(machine(), told(&[("lb1", true)])), b.now);
    b.node.finished(Outcome::Departed(machine(), Ok(())), b.now);
    assert_eq!(notices(&mut b), ["retired i-1 CPU at 5% over 5 s, threshold 20%"]);
}

#[test]
fn a_need_that_lasts_is_told_of_once() {
    let mut b = Bench::new(&["lb1"]);
    let blocked = |b: &mut Bench, load: f64, seconds: u64| {
        let mut found = Vec::new();
        for _ in 0..seconds {
            b.now += Duration::from_secs(1);
            b.node.sampled(load, b.now);
            found.append(&mut notices(b));
        }
        found
    };
    assert_eq!(blocked(&mut b, 90.0, 602), NOTHING);
    let alone = "blocked - CPU at 90%, threshold 50%, for 600 s: no master is connected";
    assert_eq!(blocked(&mut b, 90.0, 700), [alone]);
    // Over, and blocked again for another reason.
    assert_eq!(blocked(&mut b, 5.0, 5), NOTHING);
    b.connect(1, "lb1");
    assert_eq!(blocked(&mut b, 90.0, 3), NOTHING);
    b.node
        .heard(1, FromMaster::parse("WAIT full 9000").unwrap(), b.now);
    let full = blocked(&mut b, 90.0, 700);
    assert!(
        full.len() == 1 && full[0].contains("for 600 s: master lb1: max_hosts"),
        "{full:?}"
    );
}
