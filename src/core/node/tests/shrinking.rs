//! A scale-down, and who stays.

use super::*;

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
