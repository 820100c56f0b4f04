//! A scale-down, and who stays.

use super::*;

#[test]
fn the_whole_way_of_one_scale_down() {
    let mut b = Bench::leaving();
    assert_eq!(b.surveyed(two()), ["Drain i-1"]);
    assert_eq!(
        b.finish(Outcome::Drained(machine(1), told(&[("lb1", true)]))),
        ["Depart i-1"]
    );
    assert_eq!(
        b.finish(Outcome::Departed(machine(1), Ok(()))),
        ["1 FINISH 1-a ok 0 i-1 is terminated: CPU at 5% over 5 s, threshold 20%"]
    );
    assert_eq!(b.sample(&[5.0; 20]), NOTHING, "it is gone");
}

#[test]
fn a_load_that_rose_keeps_the_machine() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    b.sample(&[5.0; 5]);
    b.hear(1, "GRANT 1-a 30 1 0");
    assert_eq!(
        b.sample(&[60.0]),
        ["1 FINISH 1-a failed 0 not now: the load rose before leaving"]
    );
}

#[test]
fn a_machine_that_autoscaler_did_not_launch_stays() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    b.sample(&[5.0; 5]);
    b.hear(1, "GRANT 1-a 30 1 0");
    b.sample(&[5.0]);
    b.finish(Outcome::Identified(Err(Error::config("i-9", "not ours"))));
    assert_eq!(b.sample(&[5.0; 50]), NOTHING);
    assert_eq!(b.sample(&[90.0; 3]), ["1 SCALE"], "it scales up all the same");
}

#[test]
fn a_haproxy_host_that_cannot_be_asked_is_a_failure() {
    let mut b = Bench::leaving();
    let seen = b.surveyed(survey(
        &[1, 2],
        &[&format!("{ONE_UP}, b 10.0.0.2 80 i-2 UP 900"), "?"],
    ));
    let why =
        "1 FINISH 1-a failed 0 lb: no route to host; a departure waits for every HAProxy host; next try in ";
    assert!(seen.iter().any(|line| line.starts_with(why)), "{seen:?}");
}

#[test]
fn somebody_stays() {
    let other = |state: &str| format!("{ONE_UP}, b 10.0.0.2 80 i-2 {state} 900");
    for (hosts, leaves) in [
        (vec![other("UP")], true),
        (vec![ONE_UP.to_string()], false),
        (vec![other("DOWN")], false),
        (vec![other("MAINT")], false),
        (vec![other("UP"), ONE_UP.to_string()], false),
        (vec![other("UP"), "?".to_string()], false),
    ] {
        let mut b = Bench::leaving();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let seen = b.surveyed(survey(&[1, 2], &hosts));
        assert_eq!(
            seen.contains(&"Drain i-1".to_string()),
            leaves,
            "{hosts:?}: {seen:?}"
        );
    }
}

#[test]
fn a_refused_drain_puts_it_back_where_it_was_taken_out() {
    let mut b = Bench::leaving();
    b.surveyed(two());
    let end = b.finish(Outcome::Drained(
        machine(1),
        told(&[("lb1", true), ("lb2", false)]),
    ));
    assert_eq!(end[0], "Enter i-1 on lb1");
    assert!(end[1].starts_with("1 FINISH 1-a failed 0 x: down"), "{end:?}");
    assert_eq!(end.len(), 2);
    assert_eq!(
        b.sample(&[90.0; 3]),
        ["1 SCALE"],
        "a failed departure holds up no scale-up"
    );
}

#[test]
fn a_refused_termination_puts_it_back_after_a_few_tries() {
    let mut b = Bench::leaving();
    b.surveyed(two());
    b.finish(Outcome::Drained(machine(1), told(&[("lb1", true)])));
    for wait in [2, 4] {
        assert_eq!(b.finish(Outcome::Departed(machine(1), Err(failure()))), NOTHING);
        b.hear(1, "PONG");
        assert_eq!(b.after(wait * SECOND), ["Depart i-1"]);
    }
    let end = b.finish(Outcome::Departed(machine(1), Err(failure())));
    assert_eq!(end[0], "Enter i-1 on lb1");
    assert!(end[1].starts_with("1 FINISH 1-a failed 0 EC2: no"), "{end:?}");
    assert_eq!(b.sample(&[5.0; 9]), NOTHING, "back-off");
    assert_eq!(b.sample(&[5.0; 6]), ["1 RETIRE"]);
}

#[test]
fn whoever_drained_beyond_its_lease_goes_back_into_service() {
    let mut b = Bench::leaving();
    b.surveyed(two());
    b.now += 31 * SECOND;
    let end = b.finish(Outcome::Drained(machine(1), told(&[("lb1", true)])));
    assert!(end.contains(&"Enter i-1 on lb1".into()), "{end:?}");
    assert!(!end.contains(&"Depart i-1".into()), "{end:?}");
}

#[test]
fn nobody_leaves_while_it_waits_for_a_newcomer() {
    let mut b = Bench::confirming();
    assert_eq!(b.sample(&[5.0; 20]), NOTHING);
    b.finish(Outcome::Confirmed(machine(2), Ok(())));
    assert_eq!(b.sample(&[5.0]), ["1 RETIRE"]);
}
