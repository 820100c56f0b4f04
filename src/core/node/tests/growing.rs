//! A launch, its failures and its back-off.

use super::*;

#[test]
fn the_whole_way_of_one_scale_up() {
    let mut b = Bench::confirming();
    assert_eq!(b.finish(Outcome::Confirmed(machine(2), Ok(()))), NOTHING);
    assert_eq!(b.sample(&[90.0; 1]), NOTHING, "a new window has begun");
    assert_eq!(b.sample(&[90.0; 2]), ["1 SCALE"]);
}

#[test]
fn how_many_are_launched() {
    // By the grants, what the masters know to be booting, and what the survey finds.
    for (granted, booting_there, booting_here, load, lacks, due) in [
        (3, 0, 0, 90.0, 0, "Launch 3"),
        (3, 2, 2, 90.0, 0, "Launch 3"),
        (3, 0, 2, 90.0, 0, "Launch 1"),
        (3, 0, 3, 90.0, 0, "not now"),
        (3, 0, 0, 90.0, 4, "Launch 3"),
        (12, 0, 0, 90.0, 0, "Launch 9"),
        (3, 0, 0, 5.0, 0, "not now"),
        (3, 0, 0, 5.0, 2, "Launch 2"),
        (0, 0, 0, 90.0, 0, "not now"),
    ] {
        let min_hosts = 1 + booting_here as usize + lacks;
        let mut b = Bench::with(&["lb1"], |s| {
            (s.plan.min_hosts, s.plan.cooldown) = (min_hosts, SECOND)
        });
        b.connect(1, "lb1");
        b.sample(&[90.0; 3]);
        b.hear(1, &format!("GRANT 1-a 30 1 {granted}"));
        b.hear(1, &format!("HOSTS 1 1 10 1 0 {booting_there}"));
        b.sample(&[load; 3]);
        let mut found = survey(&[1, 2, 3, 4][..=booting_here as usize], &[ONE_UP]);
        for young in &mut found.instances[1..] {
            young.launched_at = Some(1_000_000 - 60);
        }
        let mut seen = b.surveyed(found);
        if seen == ["Check"] {
            seen = b.takes();
        }
        let case = (granted, booting_there, booting_here, load, lacks);
        assert!(seen.iter().any(|s| s.contains(due)), "{case:?}: {seen:?}");
    }
}

#[test]
fn the_load_fell_while_asking() {
    let mut b = Bench::surveying();
    b.sample(&[1.0; 3]);
    let end = b.surveyed(alone());
    assert_eq!(
        end,
        ["1 FINISH 1-a failed 0 not now: the load fell before the launch"]
    );
}

#[test]
fn what_is_down_launches_nothing_and_says_so() {
    let mut b = Bench::surveying();
    let both = "app1 10.0.0.1 80 i-1 DOWN 900, app2 10.0.0.2 80 i-2 UP 900";
    let end = b.surveyed(survey(&[1, 2], &[both]));
    assert!(
        end[0].ends_with("not now: this machine is not UP, so its load counts for nothing"),
        "{end:?}"
    );
}

#[test]
fn nothing_is_launched_that_no_haproxy_would_take() {
    let mut b = Bench::surveying();
    b.surveyed(alone());
    let refused = Error::config("lb1", "/etc/autoscaler/haproxy.cfg:3: unknown keyword");
    let end = b.finish(Outcome::Checked(vec![("lb1".into(), Err(refused))]));
    let text = "1 FINISH 1-a failed 0 lb1: /etc/autoscaler/haproxy.cfg:3: unknown keyword; \
                no HAProxy host could take a machine, so none is launched; next try in 10 s at the earliest";
    assert_eq!(end, [text], "the cause is told");
    let mut b = Bench::surveying();
    b.surveyed(alone());
    let seen = b.finish(Outcome::Checked(told(&[("lb1", false), ("lb2", true)])));
    assert_eq!(seen, ["Launch 2"], "one is enough");
    let mut b = Bench::surveying();
    b.surveyed(alone());
    assert!(b.finish(Outcome::Checked(Vec::new()))[0].starts_with("1 FINISH 1-a failed 0"));
}

#[test]
fn failures_back_off_doubling() {
    let mut b = Bench::launching();
    let failed = b.finish(not_launched(failure()));
    assert_eq!(
        failed,
        ["1 FINISH 1-a failed 0 EC2: no; next try in 10 s at the earliest"]
    );
    assert_eq!(b.sample(&[90.0; 9]), NOTHING);
    assert_eq!(b.sample(&[90.0; 2]), ["1 SCALE"]);
    b.hear(1, "GRANT 2-a 30 2 1");
    b.surveyed(alone());
    b.takes();
    b.finish(not_launched(failure()));
    assert_eq!(b.sample(&[90.0; 19]), NOTHING);
    assert_eq!(b.sample(&[90.0; 2]), ["1 SCALE"]);
}

#[test]
fn some_are_better_than_none() {
    let mut b = Bench::launching();
    let some = Outcome::Launched(Launched {
        machines: vec![machine(2)],
        error: Some(failure()),
        ..Launched::default()
    });
    let seen = b.finish(some);
    assert!(seen[0].starts_with("1 FINISH 1-a ok 1 launched i-2"), "{seen:?}");
}

#[test]
fn a_group_does_not_say_which() {
    let mut b = Bench::launching();
    let unnamed = Outcome::Launched(Launched {
        unnamed: 2,
        ..Launched::default()
    });
    let seen = b.finish(unnamed);
    assert_eq!(seen[0], "Find 2");
    assert!(
        seen[1].starts_with("1 FINISH 1-a ok 2 launched 2 by the group"),
        "{seen:?}"
    );
    let seen = b.finish(Outcome::Found(Ok(vec![machine(2)])));
    assert_eq!(seen, ["Boot i-2", "1 FAILED 1 the group: launched fewer"]);
}

/// Two that are split must begin with the same request, or their tokens differ.
#[test]
fn what_had_no_capacity_is_tried_last_but_only_while_nobody_else_can_launch() {
    let place = Place {
        subnet: Some("s2".into()),
        instance_type: None,
    };
    for (servers, tried_last) in [(vec!["lb1"], vec![place.clone()]), (vec!["lb1", "lb2"], vec![])] {
        let mut b = Bench::with(&servers, |_| ());
        b.connect(1, "lb1");
        b.sample(&[90.0; 3]);
        b.hear(1, "GRANT 1-a 30 1 1");
        b.surveyed(alone());
        b.takes();
        b.finish(Outcome::Launched(Launched {
            without: vec![place.clone()],
            error: Some(failure()),
            ..Launched::default()
        }));
        assert!(b.sample(&[90.0; 11]).contains(&"1 SCALE".to_string()));
        b.hear(1, "GRANT 2-a 30 2 1");
        b.surveyed(alone());
        b.node.finished(Outcome::Checked(told(&[("lb1", true)])), b.now);
        let launch = Action::Run(Step::Launch {
            count: 1,
            fleet: vec!["i-1".into()],
            short: tried_last,
        });
        assert!(b.node.actions().contains(&launch), "{servers:?}");
    }
}

#[test]
fn by_hand_it_waits_until_all_serve() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    b.node.want(
        Wanted::Grow {
            machines: 2,
            force: false,
        },
        b.now,
    );
    b.hear(1, "GRANT 1-a 30 1 2");
    b.surveyed(alone());
    assert_eq!(b.takes(), ["Launch 2"]);
    let seen = b.finish(launched(&[2, 3]));
    assert_eq!(seen[0], "1 FINISH 1-a ok 2 launched i-2, i-3: asked for by hand");
    for number in [2, 3] {
        b.finish(Outcome::Booted(machine(number), Ok(())));
        b.finish(Outcome::Entered(machine(number), told(&[("lb1", true)])));
    }
    assert_eq!(b.finish(Outcome::Confirmed(machine(2), Ok(()))), NOTHING);
    assert_eq!(b.finish(Outcome::Confirmed(machine(3), Ok(()))), ["ok"]);
}

#[test]
fn by_hand_what_boots_unaccounted_is_taken_in() {
    // Asked for, counted as booting by the master, found booting; then launched, and taken in.
    for (asked, counted, found, launches, taken) in [
        (1, 0, 1, 0, 1),
        (2, 0, 1, 1, 1),
        (1, 1, 1, 1, 0),
        (1, 1, 2, 0, 1),
        (1, 0, 2, 0, 1),
        (2, 0, 2, 0, 2),
        (1, 2, 1, 1, 0),
    ] {
        let case = (asked, counted, found);
        let mut b = Bench::with(&["lb1"], |s| s.plan.cooldown = SECOND);
        b.connect(1, "lb1");
        let (machines, force) = (asked, false);
        b.node.want(Wanted::Grow { machines, force }, b.now);
        b.hear(1, &format!("GRANT 1-a 30 1 {asked}"));
        b.hear(1, &format!("HOSTS 1 1 10 1 0 {counted}"));
        let mut there = survey(&[1, 2, 3][..=found], &[ONE_UP]);
        for (age, young) in (60..).zip(&mut there.instances[1..]) {
            young.launched_at = Some(1_000_000 - age);
        }
        let mut seen = b.surveyed(there);
        if launches > 0 {
            assert!(seen.iter().any(|s| s == "Check"), "{case:?}: {seen:?}");
            let launching = b.takes();
            assert_eq!(launching, [format!("Launch {launches}")], "{case:?}");
        } else {
            let finish = "1 FINISH 1-a ok 0 took in what boots: asked for by hand";
            assert!(seen.iter().any(|s| s == finish), "{case:?}: {seen:?}");
        }
        seen.extend(b.after(SECOND));
        let boots = seen.iter().filter(|s| s.starts_with("Boot")).count();
        assert_eq!(boots, taken, "{case:?}: {seen:?}");
    }
}

#[test]
fn one_that_is_taken_in_has_what_is_left_of_its_time_and_is_waited_for() {
    let mut b = Bench::with(&["lb1"], |s| s.plan.max_hosts = 2);
    b.connect(1, "lb1");
    let (machines, force) = (1, false);
    b.node.want(Wanted::Grow { machines, force }, b.now);
    b.hear(1, "GRANT 1-a 30 1 1");
    let mut there = survey(&[1, 2], &[ONE_UP]);
    there.instances[1].launched_at = Some(1_000_000 - 60);
    // At max_hosts, and within EC2's cooldown: taking in launches nothing.
    let purpose = Purpose::Lease;
    b.node.finished(Outcome::Surveyed(purpose, Ok(there)), b.now);
    let time = b.node.settings.plan.boot_timeout - 60 * SECOND;
    let booting =
        |action: &Action| matches!(action, Action::Run(Step::Boot { time: left, .. }) if *left == time);
    assert!(b.node.actions().iter().any(booting));
    b.finish(Outcome::Booted(machine(2), Ok(())));
    b.finish(Outcome::Entered(machine(2), told(&[("lb1", true)])));
    assert_eq!(b.finish(Outcome::Confirmed(machine(2), Ok(()))), ["ok"]);
}
