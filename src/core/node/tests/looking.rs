//! Everybody looks, in turn: what is put right, and what needs the lease.

use super::*;

fn looking() -> Bench {
    let mut b = Bench::new(&["lb1", "lb2"]);
    b.connect(1, "lb1");
    b.sample(&[30.0; 3]);
    assert_eq!(b.hear(1, "LOOK"), ["Survey for Look"]);
    b
}

#[test]
fn who_looked_lately_or_is_at_work_passes_it_over() {
    let mut b = looking();
    assert_eq!(b.hear(1, "LOOK"), NOTHING);
    assert_eq!(b.looked(two()), NOTHING);
    b.after(29 * SECOND);
    assert_eq!(b.hear(1, "LOOK"), NOTHING);
    b.after(SECOND);
    assert_eq!(b.hear(1, "LOOK"), ["Survey for Look"]);
    let mut b = Bench::surveying();
    assert_eq!(b.hear(1, "LOOK"), NOTHING);
}

#[test]
fn what_needs_no_lease_is_put_right_at_once_and_once() {
    let mut b = looking();
    let gone = |mut survey: Survey| {
        survey.instances[2].life = Life::Gone;
        survey
    };
    let third = "a 10.0.0.1 80 i-1 UP 900, b 10.0.0.2 80 i-2 UP 900, c 10.0.0.3 80 i-3 DOWN 9";
    let found = gone(survey(&[1, 2, 3], &[third, ONE_UP]));
    let fixes = ["Enter i-2 on lb2 by plan", "Remove c on lb1"];
    assert_eq!(b.looked(found.clone()), fixes);
    b.after(60 * SECOND);
    b.hear(1, "LOOK");
    assert_eq!(b.looked(found.clone()), NOTHING, "it is being done");
    b.finish(Outcome::Entered(machine(2), told(&[("lb2", false)])));
    let removed = Outcome::Removed {
        server: "lb1".into(),
        name: "c".into(),
        result: Err(failure()),
    };
    b.finish(removed);
    b.after(60 * SECOND);
    b.hear(1, "LOOK");
    assert_eq!(b.looked(found), fixes, "again");
}

#[test]
fn one_that_does_not_serve_itself_leaves_all_to_others() {
    let mut b = looking();
    let found = survey(
        &[1, 2],
        &["a 10.0.0.1 80 i-1 DOWN 9, b 10.0.0.2 80 i-2 UP 900", ""],
    );
    assert_eq!(b.looked(found), NOTHING);
    assert_eq!(b.sample(&[90.0; 9]), NOTHING, "and its load asks for nothing");
    assert!(
        b.after(60 * SECOND).contains(&"Survey for Look".into()),
        "but looks whether that has changed"
    );
    assert_eq!(b.looked(survey(&[1, 2], &[TWO_UP, TWO_UP])), ["1 SCALE"]);
}

#[test]
fn a_machine_that_never_served_is_terminated_with_the_lease() {
    let mut b = looking();
    let found = survey(&[1, 9], &[ONE_UP, ONE_UP]);
    assert_eq!(b.looked(found.clone()), ["1 SCALE 0"]);
    assert_eq!(b.hear(1, "WAIT holder 60"), NOTHING);
    assert_eq!(b.after(60 * SECOND), ["1 SCALE 0"]);
    assert_eq!(b.hear(1, "GRANT 1-a 30 1 0"), ["Survey for Lease"]);
    assert_eq!(b.surveyed(found), ["Terminate i-9"]);
    let end = b.finish(Outcome::Terminated("i-9".into(), Ok(())));
    assert_eq!(
        end,
        ["1 FINISH 1-a ok 0 terminated i-9: never came to serve in 3600 s"]
    );
    assert_eq!(b.after(5 * SECOND), ["Survey for Look"], "its entries go");
    assert_eq!(b.looked(alone()), NOTHING);
}

#[test]
fn one_that_serves_after_all_is_left_alone() {
    let mut b = looking();
    b.looked(survey(&[1, 9], &[ONE_UP, ONE_UP]));
    b.hear(1, "GRANT 1-a 30 1 0");
    let mut found = survey(&[1, 9], &[ONE_UP, ONE_UP]);
    found.healthy.insert("i-9".into());
    let seen = b.surveyed(found);
    assert_eq!(
        seen[..2],
        ["Enter i-9 on lb1 by plan", "Enter i-9 on lb2 by plan"]
    );
    assert_eq!(
        seen[2],
        "1 FINISH 1-a failed 0 not now: nothing to clear up any more"
    );
}

#[test]
fn a_refused_termination_holds_up_nothing() {
    let mut b = looking();
    let found = survey(&[1, 9], &[ONE_UP, ONE_UP]);
    b.looked(found.clone());
    b.hear(1, "GRANT 1-a 30 1 0");
    b.surveyed(found.clone());
    let end = b.finish(Outcome::Terminated("i-9".into(), Err(failure())));
    assert!(end[0].starts_with("1 FINISH 1-a failed 0 EC2: no"), "{end:?}");
    assert_eq!(b.sample(&[90.0; 3]), ["1 SCALE"], "a launch goes on");
    b.hear(1, "GRANT 2-a 30 2 1");
    assert_eq!(b.surveyed(found.clone()), ["Check"]);
    b.takes();
    b.finish(launched(&[2]));
    b.after(30 * SECOND);
    b.hear(1, "LOOK");
    assert_eq!(b.looked(found.clone()), NOTHING, "not tried again for a while");
    b.after(60 * SECOND);
    b.hear(1, "LOOK");
    assert_eq!(b.looked(found), ["1 SCALE 0"]);
}

#[test]
fn what_min_hosts_lacks_is_launched_whatever_the_load() {
    let mut b = Bench::with(&["lb1"], |s| s.plan.min_hosts = 3);
    b.connect(1, "lb1");
    b.sample(&[30.0; 3]);
    b.hear(1, "LOOK");
    assert_eq!(b.looked(alone()), ["1 SCALE"]);
    b.hear(1, "GRANT 1-a 30 1 2");
    assert_eq!(b.surveyed(alone()), ["Check"]);
    assert_eq!(b.takes(), ["Launch 2"]);
    let end = b.finish(launched(&[2, 3]));
    assert_eq!(
        end[0],
        "1 FINISH 1-a ok 2 launched i-2, i-3: 2 fewer machines than min_hosts 3"
    );
}

#[test]
fn ids_that_ec2_does_not_know_are_looked_at_again_after_a_minute() {
    let mut b = looking();
    let mut found = survey(
        &[1, 2],
        &["a 10.0.0.1 80 i-1 UP 900, b 10.0.0.2 80 i-2 UP 900, c 10.0.0.3 80 i-3 DOWN 900"],
    );
    found.unknown.insert("i-3".into());
    assert_eq!(b.looked(found.clone()), NOTHING);
    assert!(b.after(60 * SECOND).contains(&"Survey for Look".into()));
    assert_eq!(b.looked(found), ["Remove c on lb1"]);
}

/// Whoever wakes up for nothing takes a whole CPU.
#[test]
fn who_may_not_look_now_does_so_later() {
    let mut b = looking();
    let down = survey(
        &[1, 2],
        &["a 10.0.0.1 80 i-1 DOWN 9, b 10.0.0.2 80 i-2 UP 900", ""],
    );
    b.looked(down);
    let notice = Warning::Interruption(21 * SECOND);
    b.node.interrupted(notice, "a notice", machine(1), b.now);
    b.after(61 * SECOND);
    assert!(b.node.deadline() > b.now);
}

#[test]
fn a_failed_survey_is_said_once_and_again_after_one_that_did_not_fail() {
    let mut b = looking();
    let mut said = 0;
    for result in [Err(failure()), Err(failure()), Ok(two()), Err(failure())] {
        b.node.finished(Outcome::Surveyed(Purpose::Look, result), b.now);
        said += b
            .node
            .actions()
            .iter()
            .filter(|a| matches!(a, Action::Say(_)))
            .count();
        b.after(60 * SECOND);
        b.hear(1, "LOOK");
    }
    assert_eq!(said, 2);
}
