//! EC2 takes the machine back.

use super::*;

fn warned(warning: Warning) -> Bench {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    b.sample(&[30.0; 3]);
    b.node.interrupted(warning, "EC2 says so", machine(1), b.now);
    assert_eq!(b.seen(), ["1 SCALE 1"]);
    b
}

/// Machine 2 has come to serve for it.
fn replaced(b: &mut Bench) -> Vec<String> {
    b.hear(1, "GRANT 1-a 30 1 1");
    assert_eq!(b.surveyed(alone()), ["Check"]);
    assert_eq!(b.takes(), ["Launch 1"]);
    b.finish(launched(&[2]));
    b.finish(Outcome::Booted(machine(2), Ok(())));
    b.finish(Outcome::Entered(machine(2), told(&[("lb1", true)])));
    b.finish(Outcome::Confirmed(machine(2), Ok(())));
    b.after(SECOND)
}

const INTERRUPTION: Warning = Warning::Interruption(Duration::from_secs(120));

#[test]
fn an_interruption_drains_in_good_time_even_the_last() {
    let mut b = warned(INTERRUPTION);
    b.hear(1, "WAIT full 10");
    assert!(!b.after(99 * SECOND).contains(&"Drain even the last: i-1".into()));
    assert!(b.after(SECOND).contains(&"Drain even the last: i-1".into()));
    assert_eq!(
        b.finish(Outcome::Drained(machine(1), told(&[("lb1", true)]))),
        NOTHING
    );
    assert_eq!(b.sample(&[90.0; 9]), NOTHING);
}

#[test]
fn or_once_its_replacement_serves() {
    let mut b = warned(INTERRUPTION);
    assert_eq!(replaced(&mut b), ["Drain even the last: i-1"]);
}

#[test]
fn a_recommendation_leaves_only_once_replaced() {
    let mut b = warned(Warning::Rebalance);
    assert_eq!(b.hear(1, "WAIT cooldown 10"), NOTHING);
    assert_eq!(b.after(10 * SECOND), ["1 SCALE 1"]);
    assert_eq!(replaced(&mut b), ["1 RETIRE"]);
    b.hear(1, "GRANT 2-a 30 2 0");
    b.finish(Outcome::Identified(Ok(machine(1))));
    assert_eq!(
        b.surveyed(two()),
        ["Drain i-1"],
        "with its lease, as after a quiet time"
    );
}

#[test]
fn whom_a_person_keeps_does_not_ask_again_and_again() {
    let mut b = warned(Warning::Rebalance);
    assert_eq!(replaced(&mut b), ["1 RETIRE"]);
    b.hear(1, "GRANT 2-a 30 2 0");
    let end = b.finish(Outcome::Identified(Err(Error::busy("this machine", "is kept"))));
    assert_eq!(end, ["1 FINISH 2-a failed 0 not now: this machine: is kept"]);
    assert_eq!(b.after(60 * SECOND), NOTHING);
}

#[test]
fn at_max_hosts_a_recommendation_is_not_followed() {
    let mut b = warned(Warning::Rebalance);
    b.hear(1, "WAIT full 10");
    assert_eq!(b.after(60 * SECOND), NOTHING);
    assert_eq!(b.sample(&[90.0; 3]), ["1 SCALE"], "it is as it was before");
}

/// It may have to stay for long: it does what is to be done meanwhile.
#[test]
fn who_may_not_leave_on_a_recommendation_still_clears_up() {
    let mut b = warned(Warning::Rebalance);
    assert_eq!(replaced(&mut b), ["1 RETIRE"]);
    b.hear(1, "WAIT few 3600");
    b.after(60 * SECOND);
    assert_eq!(b.hear(1, "LOOK"), ["Survey for Look"]);
    assert_eq!(b.looked(survey(&[1, 2, 9], &[TWO_UP])), ["1 SCALE 0"]);
}

#[test]
fn nor_where_a_survey_finds_as_many_as_there_may_be() {
    let mut b = warned(Warning::Rebalance);
    b.hear(1, "GRANT 1-a 30 1 1");
    let line = |n: u32| format!("app{n} 10.0.0.{n} 80 i-{n} UP 900");
    let ten: Vec<String> = (1..=10).map(line).collect();
    let end = b.surveyed(survey(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], &[&ten.join(", ")]));
    assert!(
        end[0].starts_with("1 FINISH 1-a failed 0 not now: there are 10"),
        "{end:?}"
    );
    assert_eq!(b.after(60 * SECOND), NOTHING);
    assert_eq!(b.sample(&[90.0; 3]), ["1 SCALE"]);
}

#[test]
fn an_interruption_overtakes_its_own_departure() {
    let mut b = Bench::leaving();
    assert_eq!(b.surveyed(two()), ["Drain i-1"]);
    b.node.interrupted(INTERRUPTION, "EC2 says so", machine(1), b.now);
    let seen = b.seen();
    assert_eq!(seen, ["1 FINISH 1-a failed 0 not now: EC2 says so", "1 SCALE 1"]);
    b.finish(Outcome::Drained(machine(1), told(&[("lb1", true)])));
    b.hear(1, "WAIT full 10");
    assert!(b.after(100 * SECOND).contains(&"Drain even the last: i-1".into()));
}

#[test]
fn an_interruption_during_a_back_off_asks_all_the_same() {
    let mut b = Bench::launching();
    b.finish(not_launched(failure()));
    b.node.interrupted(INTERRUPTION, "EC2 says so", machine(1), b.now);
    assert_eq!(b.seen(), ["1 SCALE 1"]);
}
