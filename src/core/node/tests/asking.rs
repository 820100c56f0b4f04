//! The lease: who is asked, when, and what an answer is good for.

use super::*;

#[test]
fn masters_are_asked_in_order_of_their_names_and_one_wait_gives_all_back() {
    let mut b = Bench::new(&["lb1", "lb2"]);
    b.connect(1, "lb2");
    b.connect(2, "lb1");
    assert_eq!(b.sample(&[90.0; 3]), ["2 SCALE"]);
    assert_eq!(b.hear(2, "GRANT 1-a 30 1 2"), ["1 SCALE"]);
    let wait = b.hear(1, "WAIT cooldown 5");
    assert_eq!(
        wait[0],
        "2 FINISH 1-a failed 0 not now: master lb2: cooldown, 5 s left"
    );
    assert_eq!(b.sample(&[90.0; 4]), NOTHING);
    assert_eq!(b.after(SECOND), ["2 SCALE"], "asked again when told to");
}

#[test]
fn a_master_that_comes_after_the_grants_is_asked_before_the_launch() {
    let mut b = Bench::surveying();
    b.connect(2, "lb2");
    assert_eq!(b.surveyed(alone()), ["Check"]);
    assert_eq!(b.takes(), ["2 SCALE"]);
    assert_eq!(b.hear(2, "GRANT 7-b 30 7 1"), ["Survey for Lease"]);
    assert_eq!(b.surveyed(alone()), ["Check"]);
    let seen = b.takes();
    assert_eq!(seen, ["Launch 2"], "the largest number that a grant named");
}

#[test]
fn a_grant_whose_time_is_over_launches_nothing() {
    let mut b = Bench::surveying();
    b.surveyed(alone());
    b.after(31 * SECOND);
    assert_eq!(b.takes(), ["1 SCALE"]);
}

#[test]
fn a_heartbeat_that_was_answered_renews_the_grant() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    b.hear(1, "PONG");
    b.sample(&[90.0; 3]);
    b.hear(1, "GRANT 1-a 30 1 1");
    for _ in 0..4 {
        b.after(10 * SECOND);
        b.hear(1, "PONG");
    }
    b.surveyed(alone());
    assert_eq!(b.takes(), ["Launch 1"]);
}

#[test]
fn a_connection_lost_in_the_middle_is_held_on_return() {
    let mut b = Bench::launching();
    b.node.disconnected(1, "cut", b.now);
    b.seen();
    assert!(b.node.connected(2, "lb1", b.now));
    assert_eq!(b.seen(), ["2 HOLD 1-a"]);
    b.hear(2, "GRANT 1-a 30 1 2");
    b.node.disconnected(2, "cut", b.now);
    b.seen();
    assert_eq!(b.finish(launched(&[2, 3])), ["Boot i-2", "Boot i-3"]);
    assert!(b.node.connected(3, "lb1", b.now));
    assert_eq!(
        b.seen(),
        ["3 FINISH 1-a ok 2 launched i-2, i-3: CPU at 90% over 3 s, threshold 50%"],
        "what could not be said then"
    );
}

#[test]
fn an_answer_that_comes_too_late_is_given_back() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    b.sample(&[90.0; 3]);
    b.after(6 * SECOND);
    assert_eq!(
        b.hear(1, "GRANT 1-a 30 1 1"),
        ["1 FINISH 1-a failed 0 not now: the answer came too late"]
    );
}

/// Else a machine leaves by a grant for a launch, which nobody has weighed its departure for.
#[test]
fn a_late_answer_is_none_to_another_question() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    assert_eq!(b.sample(&[90.0; 3]), ["1 SCALE"]);
    assert_eq!(b.sample(&[5.0; 5]), ["1 RETIRE"], "the first had its time");
    assert_eq!(
        b.hear(1, "GRANT 1-a 30 1 1"),
        ["1 FINISH 1-a failed 0 not now: the answer came too late"]
    );
    b.hear(1, "WAIT holder 30");
    assert_eq!(b.sample(&[5.0; 6]), NOTHING);
    assert_eq!(b.after(30 * SECOND), ["1 RETIRE"]);
    assert_eq!(b.hear(1, "GRANT 2-b 30 2 0"), NOTHING);
    assert_eq!(b.sample(&[5.0]), ["Identify"]);
}

#[test]
fn a_late_answer_is_as_good_to_the_same_question() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    assert_eq!(b.sample(&[90.0; 3]), ["1 SCALE"]);
    b.after(5 * SECOND);
    assert_eq!(b.after(6 * SECOND), ["1 SCALE"]);
    assert_eq!(b.hear(1, "GRANT 1-a 30 1 2"), ["Survey for Lease"]);
    assert_eq!(
        b.hear(1, "GRANT 1-a 30 1 2"),
        NOTHING,
        "asked twice, it is granted twice"
    );
    b.surveyed(alone());
    assert_eq!(b.takes(), ["Launch 2"]);
}

/// Its master grants it again until it has heard that it was given back.
#[test]
fn a_lease_that_was_given_back_is_not_taken_again() {
    let mut b = Bench::surveying();
    b.surveyed(alone());
    b.node.disconnected(1, "cut", b.now);
    b.after(29 * SECOND);
    assert!(b.node.connected(2, "lb1", b.now));
    assert_eq!(b.seen(), ["2 HOLD 1-a"]);
    b.after(2 * SECOND);
    assert_eq!(b.takes(), ["2 SCALE"], "it ran out here");
    assert_eq!(
        b.hear(2, "GRANT 1-a 30 1 2"),
        ["2 FINISH 1-a failed 0 not now: the answer came too late"]
    );
    assert_eq!(b.hear(2, "GRANT 1-a 30 1 2"), ["2 SCALE"]);
    assert_eq!(b.hear(2, "GRANT 2-b 30 2 2"), ["Survey for Lease"]);
}

#[test]
fn an_error_answers_no_question() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    b.sample(&[90.0; 3]);
    assert_eq!(b.sample(&[5.0; 5]), ["1 RETIRE"]);
    b.hear(1, "ERROR no such lease");
    let late = ["1 FINISH 1-a failed 0 not now: the answer came too late"];
    assert_eq!(b.hear(1, "GRANT 1-a 30 1 1"), late);
    b.hear(1, "WAIT holder 30");
    assert_eq!(b.sample(&[5.0; 5]), ["1 RETIRE"], "5 s after the error");
}

#[test]
fn each_pong_renews_from_its_own_heartbeat() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    b.hear(1, "PONG");
    b.sample(&[90.0; 3]);
    b.hear(1, "GRANT 1-a 30 1 1");
    b.after(5 * SECOND);
    b.after(10 * SECOND);
    b.hear(1, "PONG");
    b.after(10 * SECOND);
    // To the second of the three.
    b.hear(1, "PONG");
    b.after(19 * SECOND);
    assert_eq!(
        b.surveyed(alone()),
        ["Check"],
        "30 s from the second heartbeat on"
    );
    b.after(2 * SECOND);
    assert_eq!(b.takes(), ["1 SCALE"]);
}

#[test]
fn while_another_scales_nobody_is_asked_and_then_at_once() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    b.hear(1, "SCALE app2");
    assert_eq!(b.sample(&[90.0; 9]), NOTHING);
    b.hear(1, "FINISH app2");
    assert_eq!(b.sample(&[90.0]), ["1 SCALE"], "the load is what it was");
}

/// Else two that are refused for good give their leases back to each other for ever.
#[test]
fn anothers_end_ends_no_other_refusal() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    b.sample(&[90.0; 3]);
    b.hear(1, "WAIT full 9000");
    b.hear(1, "SCALE app2");
    b.hear(1, "FINISH app2");
    assert_eq!(b.sample(&[90.0; 9]), NOTHING);
}

#[test]
fn windows_begin_anew_when_more_serve() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    b.hear(1, "FLEET 2 1");
    b.sample(&[90.0; 2]);
    b.hear(1, "FLEET 2 2");
    assert_eq!(b.sample(&[90.0; 2]), NOTHING);
    b.hear(1, "FLEET 2 1");
    assert_eq!(b.sample(&[90.0]), ["1 SCALE"], "not when fewer do");
}

#[test]
fn another_nodes_end_does_not_end_a_backoff() {
    let mut b = Bench::launching();
    b.finish(not_launched(failure()));
    b.hear(1, "SCALE app2");
    b.hear(1, "FINISH app2");
    assert_eq!(b.sample(&[90.0; 9]), NOTHING);
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
                Action::Send(_, FromNode::Retire { force: false }) => {
                    questions += 1;
                    b.node.heard(1, FromMaster::parse("WAIT few 5").unwrap(), b.now);
                }
                Action::Say(text) => said.push(text),
                _ => {}
            }
        }
    }
    assert_eq!(said.len(), 2, "that it asks, and why not: {said:?}");
}

/// A master that was restarted with a larger limit need not be waited for to the end of the day.
#[test]
fn a_master_that_comes_back_is_asked_again() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    b.sample(&[90.0; 3]);
    b.hear(1, "WAIT full 18446744073709551615");
    assert_eq!(b.sample(&[90.0; 60]), NOTHING);
    b.node.disconnected(1, "gone", b.now);
    assert_eq!(b.sample(&[90.0; 5]), NOTHING);
    assert!(b.node.connected(2, "lb1", b.now));
    assert_eq!(b.seen(), ["2 SCALE"]);
}

#[test]
fn with_no_master_it_waits_and_says_so_once() {
    let mut b = Bench::new(&["lb1"]);
    for _ in 0..9 {
        b.now += SECOND;
        b.node.sampled(90.0, b.now);
    }
    let alone = |a: &&Action| matches!(a, Action::Say(t) if t.contains("no master"));
    assert_eq!(b.node.actions().iter().filter(alone).count(), 1);
    assert!(b.node.connected(1, "lb1", b.now));
    assert_eq!(b.seen(), ["1 SCALE"]);
}

#[test]
fn a_grant_without_end_ends_nothing() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    b.sample(&[90.0; 3]);
    let most = u64::MAX;
    let seen = b.hear(1, &format!("GRANT 1-a {most} {most} {most}"));
    assert_eq!(seen, ["Survey for Lease"]);
    b.after(3600 * SECOND);
}

#[test]
fn what_is_asked_for_by_hand() {
    let asks = |wanted: Wanted| {
        let mut b = Bench::new(&["lb1"]);
        b.connect(1, "lb1");
        b.node.want(wanted, b.now);
        b.seen().join(", ")
    };
    let grow = |machines, force| asks(Wanted::Grow { machines, force });
    assert_eq!(grow(1, false), "1 SCALE 1");
    assert_eq!(grow(3, true), "1 SCALE 3 force");
    assert_eq!(asks(Wanted::Leave { force: false }), "1 RETIRE");
    assert_eq!(asks(Wanted::Leave { force: true }), "1 RETIRE force");
    let replace = Wanted::Replace {
        old: machine(2),
        new: None,
    };
    assert_eq!(asks(replace), "1 SCALE 0");
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    let force = false;
    b.node.want(Wanted::Grow { machines: 1, force }, b.now);
    b.seen();
    assert_eq!(b.hear(1, "WAIT cooldown 9"), ["Busy"]);
}
