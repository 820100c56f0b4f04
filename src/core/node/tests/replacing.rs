//! `replace`: a new machine for an old one.

use super::*;

fn replacing() -> Bench {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    let old = machine(2);
    b.node.want(Wanted::Replace { old, new: None }, b.now);
    assert_eq!(b.seen(), ["1 SCALE 0"]);
    assert_eq!(b.hear(1, "GRANT 1-a 30 1 0"), ["Survey for Lease"]);
    b
}

#[test]
fn the_new_one_serves_before_the_old_one_goes() {
    let mut b = replacing();
    assert_eq!(b.surveyed(two()), ["Check"]);
    assert_eq!(b.takes(), ["Launch 1"]);
    let seen = b.finish(launched(&[3]));
    assert_eq!(
        seen[0],
        "1 FINISH 1-a ok 1 launched i-3 for i-2: asked for by hand"
    );
    b.finish(Outcome::Booted(machine(3), Ok(())));
    b.finish(Outcome::Entered(machine(3), told(&[("lb1", true)])));
    assert_eq!(b.finish(Outcome::Confirmed(machine(3), Ok(()))), NOTHING);
    assert_eq!(b.after(SECOND), ["1 SCALE 0"], "free in between");
    b.hear(1, "GRANT 2-a 30 2 0");
    let three = &format!("{TWO_UP}, c 10.0.0.3 80 i-3 UP 9");
    assert_eq!(b.surveyed(survey(&[1, 2, 3], &[three])), ["Drain i-2"]);
    assert_eq!(
        b.finish(Outcome::Drained(machine(2), told(&[("lb1", true)]))),
        ["Terminate i-2"]
    );
    let end = b.finish(Outcome::Terminated("i-2".into(), Ok(())));
    assert_eq!(
        end,
        ["1 FINISH 2-a ok 0 replaced i-2 by i-3: asked for by hand", "ok"]
    );
}

#[test]
fn a_new_one_that_does_not_come_up_leaves_the_old_one() {
    let mut b = replacing();
    b.surveyed(two());
    b.takes();
    b.finish(launched(&[3]));
    b.finish(Outcome::Booted(machine(3), Err(failure())));
    let unlisted = Error::config("i-3", "is listed by no HAProxy");
    b.finish(Outcome::Confirmed(machine(3), Err(unlisted)));
    let end = b.finish(Outcome::Terminated("i-3".into(), Ok(())));
    assert_eq!(end, ["1 FAILED 1 EC2: no", "Unavailable"]);
    assert_eq!(b.after(60 * SECOND), NOTHING);
}

#[test]
fn nobody_replaces_itself_or_what_is_not_the_clusters() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    let old = machine(1);
    b.node.want(Wanted::Replace { old, new: None }, b.now);
    b.hear(1, "GRANT 1-a 30 1 0");
    assert_eq!(b.surveyed(two()).last().unwrap(), "Busy");
    let mut b = replacing();
    assert_eq!(b.surveyed(alone()).last().unwrap(), "Busy");
}

#[test]
fn a_stopped_roll_goes_on_with_what_it_launched() {
    let mut b = replacing();
    let numbers: Vec<_> = (1..=11).collect();
    let up = |n: &_| format!("m{n} 10.0.0.{n} 80 i-{n} UP 900");
    let lines = |numbers: &[_]| numbers.iter().map(up).collect::<Vec<_>>().join(", ");
    // Of eleven, where ten may be, none is launched.
    let seen = b.surveyed(survey(&numbers, &[&lines(&numbers)]));
    assert_eq!(seen, ["Drain i-2"]);
    let mut b = replacing();
    let mut booting = survey(&numbers, &[&lines(&numbers[..10])]);
    booting.instances[10].launched_at = Some(booting.now - 5);
    let seen = b.surveyed(booting);
    assert_eq!(seen.last().unwrap(), "Busy", "it boots: {seen:?}");
}
