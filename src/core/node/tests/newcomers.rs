//! Machines on their way, each by itself and without a lease.

use super::*;

#[test]
fn an_unhealthy_machine_is_terminated_and_said() {
    let mut b = Bench::booting();
    assert_eq!(
        b.finish(Outcome::Booted(machine(2), Err(failure()))),
        ["Confirm i-2"]
    );
    assert_eq!(
        b.finish(Outcome::Confirmed(machine(2), Err(unlisted()))),
        ["Terminate i-2"]
    );
    let end = b.finish(Outcome::Terminated("i-2".into(), Ok(())));
    assert_eq!(end, ["1 FAILED 1 EC2: no"]);
}

#[test]
fn one_that_haproxy_does_not_take_up_goes_too() {
    let mut b = Bench::confirming();
    assert_eq!(
        b.finish(Outcome::Confirmed(machine(2), Err(failure()))),
        ["Drain i-2"]
    );
    let drained = Outcome::Drained(machine(2), told(&[("lb1", false)]));
    assert_eq!(b.finish(drained), ["Terminate i-2"]);
    let end = b.finish(Outcome::Terminated("i-2".into(), Err(failure())));
    assert_eq!(end, ["1 FAILED 1 EC2: no"], "whoever looks next sees to it");
}

#[test]
fn what_nobody_has_down_is_left_alone() {
    let mut b = Bench::confirming();
    let busy = Error::busy("i-2", "no HAProxy could be asked");
    assert_eq!(b.finish(Outcome::Confirmed(machine(2), Err(busy))), NOTHING);
    let mut b = Bench::confirming();
    let end = b.finish(Outcome::Confirmed(machine(2), Err(unlisted())));
    assert_eq!(
        end,
        ["1 FAILED 1 i-2: is listed by no HAProxy"],
        "it never served"
    );
    let mut b = Bench::booting();
    let stopped = Error::busy("i-2", "is stopped");
    let end = b.finish(Outcome::Booted(machine(2), Err(stopped)));
    assert_eq!(end, ["1 FAILED 1 i-2: is stopped"]);
}

#[test]
fn one_of_several_fails_and_the_others_count() {
    let mut b = Bench::launching();
    b.finish(launched(&[2, 3]));
    b.finish(Outcome::Booted(machine(2), Err(failure())));
    b.finish(Outcome::Confirmed(machine(2), Err(unlisted())));
    assert_eq!(
        b.finish(Outcome::Booted(machine(3), Ok(()))),
        ["Enter i-3 on lb1"]
    );
    let end = b.finish(Outcome::Terminated("i-2".into(), Ok(())));
    assert_eq!(end, ["1 FAILED 1 EC2: no"]);
    let seen = b.finish(Outcome::Entered(machine(3), told(&[("lb1", true)])));
    assert_eq!(seen, ["Confirm i-3"]);
}

#[test]
fn a_haproxy_that_was_down_is_told_later() {
    let mut b = Bench::booting();
    b.finish(Outcome::Booted(machine(2), Ok(())));
    let seen = b.finish(Outcome::Entered(
        machine(2),
        told(&[("lb1", true), ("lb2", false)]),
    ));
    assert_eq!(seen, ["Confirm i-2"]);
    assert_eq!(b.node.owed(), ["lb2"]);
    assert_eq!(b.after(2 * SECOND), ["Enter i-2 on lb2"]);
    b.finish(Outcome::Confirmed(machine(2), Ok(())));
    assert_eq!(
        b.finish(Outcome::Entered(machine(2), told(&[("lb2", false)]))),
        NOTHING
    );
    assert_eq!(b.after(4 * SECOND), ["Enter i-2 on lb2"]);
    assert_eq!(
        b.finish(Outcome::Entered(machine(2), told(&[("lb2", true)]))),
        NOTHING
    );
    assert!(b.node.owed().is_empty());
}

#[test]
fn a_haproxy_that_is_gone_for_good_is_not_told_for_ever() {
    let mut b = Bench::booting();
    b.finish(Outcome::Booted(machine(2), Ok(())));
    b.finish(Outcome::Entered(
        machine(2),
        told(&[("lb1", true), ("lb2", false)]),
    ));
    b.finish(Outcome::Confirmed(machine(2), Ok(())));
    let mut tries = 0;
    for _ in 0..600 {
        if b.after(SECOND) != NOTHING {
            tries += 1;
            b.finish(Outcome::Entered(machine(2), told(&[("lb2", false)])));
        }
    }
    assert!((3..30).contains(&tries), "{tries}");
    assert!(b.node.owed().is_empty(), "whoever looks next sees to it");
}

#[test]
fn what_stands_against_it_is_said_once_and_again_when_it_comes_back() {
    let mut b = Bench::booting();
    b.finish(Outcome::Booted(machine(2), Ok(())));
    let mut said = 0;
    for there in [false, false, true, false, false] {
        let result = told(&[("lb1", true), ("lb2", there)]);
        b.node.finished(Outcome::Entered(machine(2), result), b.now);
        let told = |a: &Action| matches!(a, Action::Say(text) if !text.contains("is in HAProxy"));
        said += b.node.actions().iter().filter(|a| told(a)).count();
    }
    assert_eq!(said, 2);
}

#[test]
fn one_that_no_haproxy_could_be_told_of_stays() {
    let mut b = Bench::booting();
    b.finish(Outcome::Booted(machine(2), Ok(())));
    b.now += 301 * SECOND;
    let end = b.finish(Outcome::Entered(machine(2), told(&[("lb1", false)])));
    assert!(
        end.contains(&"1 FAILED 1 scale-up: i-2 serves, but no HAProxy could be told of it".into()),
        "{end:?}"
    );
    assert!(!end.iter().any(|s| s.contains("Terminate")), "{end:?}");
}

#[test]
fn what_a_look_finds_of_one_that_is_entered_already_is_its_own() {
    let mut b = Bench::booting();
    b.hear(1, "LOOK");
    let mut found = survey(&[1, 2], &[ONE_UP]);
    found.healthy.insert("i-2".into());
    assert_eq!(b.looked(found), ["Enter i-2 on lb1 by plan"]);
    // The answer to that one comes while it boots.
    assert_eq!(
        b.finish(Outcome::Entered(machine(2), told(&[("lb1", true)]))),
        NOTHING
    );
    // And when it is lost again, that is seen again.
    b.after(60 * SECOND);
    b.hear(1, "LOOK");
    let mut found = survey(&[1, 2], &[ONE_UP]);
    found.healthy.insert("i-2".into());
    assert_eq!(b.looked(found), ["Enter i-2 on lb1 by plan"]);
    b.finish(Outcome::Entered(machine(2), told(&[("lb1", false)])));
    assert_eq!(
        b.finish(Outcome::Booted(machine(2), Ok(()))),
        ["Enter i-2 on lb1"]
    );
    assert_eq!(
        b.finish(Outcome::Entered(machine(2), told(&[("lb1", true)]))),
        ["Confirm i-2"]
    );
}

/// Its time is over by EC2's clock before it is by this node's.
#[test]
fn one_that_the_plan_ends_while_it_boots() {
    let mut b = Bench::booting();
    b.hear(1, "LOOK");
    let found = survey(&[1, 2], &[ONE_UP]);
    assert_eq!(b.looked(found.clone()), ["1 SCALE 0"]);
    b.hear(1, "GRANT 2-a 30 2 0");
    assert_eq!(b.surveyed(found), ["Terminate i-2"]);
    let end = b.finish(Outcome::Terminated("i-2".into(), Ok(())));
    assert!(end[0].starts_with("1 FINISH 2-a ok 0"), "{end:?}");
    b.finish(Outcome::Booted(machine(2), Err(failure())));
    let end = b.finish(Outcome::Confirmed(machine(2), Err(unlisted())));
    assert_eq!(end, ["Terminate i-2"]);
    let end = b.finish(Outcome::Terminated("i-2".into(), Ok(())));
    assert_eq!(end, ["1 FAILED 1 EC2: no"]);
}

/// Whoever launched it may not reach it, and others have entered it.
#[test]
fn one_that_serves_after_all_stays() {
    let mut b = Bench::booting();
    b.finish(Outcome::Booted(machine(2), Err(failure())));
    assert_eq!(b.finish(Outcome::Confirmed(machine(2), Ok(()))), NOTHING);
    assert_eq!(b.after(60 * SECOND), NOTHING);
    let mut b = Bench::booting();
    b.finish(Outcome::Booted(machine(2), Err(failure())));
    let busy = Error::busy("i-2", "no HAProxy could be asked");
    let end = b.finish(Outcome::Confirmed(machine(2), Err(busy)));
    assert_eq!(end, ["1 FAILED 1 EC2: no"], "and whoever looks next sees to it");
}

fn unlisted() -> Error {
    Error::config("i-2", "is listed by no HAProxy")
}
