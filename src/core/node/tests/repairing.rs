//! What HAProxy hosts have missed and what others left behind.

use super::*;

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
