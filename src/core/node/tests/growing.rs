//! A scale-up, its failures and its back-off.

use super::*;

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
    let mut b = Bench::surveying();
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

#[test]
fn an_unhealthy_machine_is_left_to_the_next_holder_without_a_grant() {
    let mut b = Bench::launching();
    b.finish(Outcome::Launched(Ok(machine())));
    b.after(31 * SECOND);
    let end = b.finish(Outcome::Booted(machine(), Err(failure())));
    assert!(!end.contains(&"Terminate".to_string()), "{end:?}");
}
