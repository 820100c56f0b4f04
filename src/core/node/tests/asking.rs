//! The lease: who is asked, when, and what an answer is good for.

use super::*;

#[test]
fn masters_are_asked_in_order_of_their_names_and_one_wait_gives_all_back() {
    let mut b = Bench::new(&["lb1", "lb2"]);
    b.connect(1, "lb2");
    b.connect(2, "lb1");
    assert_eq!(b.sample(&[90.0; 3]), ["2 SCALE"]);
    assert_eq!(b.hear(2, "GRANT 1-a 30 1"), ["1 SCALE"]);
    let wait = b.hear(1, "WAIT cooldown 5");
    assert_eq!(
        wait[0],
        "2 FINISH 1-a failed not now: master lb2: cooldown, 5 s left"
    );
    assert_eq!(wait[1], "Busy");
    assert_eq!(b.sample(&[90.0; 4]), NOTHING);
    assert_eq!(b.after(SECOND), ["2 SCALE"], "asked again when told to");
}

#[test]
fn a_master_that_comes_after_the_grants_is_asked_before_the_launch() {
    let mut b = Bench::new(&["lb1", "lb2"]);
    b.connect(1, "lb1");
    b.sample(&[90.0; 3]);
    assert_eq!(b.hear(1, "GRANT 1-a 30 1"), ["Survey"]);
    b.connect(2, "lb2");
    assert_eq!(b.finish(Outcome::Surveyed(Ok(empty()))), ["2 SCALE"]);
    assert_eq!(b.hear(2, "GRANT 7-b 30 7"), ["Survey"]);
    assert_eq!(b.finish(Outcome::Surveyed(Ok(empty()))), ["Launch"]);
}

#[test]
fn a_grant_whose_time_is_over_launches_nothing() {
    let mut b = Bench::surveying();
    b.after(31 * SECOND);
    assert_eq!(b.finish(Outcome::Surveyed(Ok(empty()))), ["1 SCALE"]);
}

#[test]
fn a_heartbeat_that_was_answered_renews_the_grant() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    b.hear(1, "PONG");
    b.sample(&[90.0; 3]);
    b.hear(1, "GRANT 1-a 30 1");
    for _ in 0..4 {
        b.after(10 * SECOND);
        b.hear(1, "PONG");
    }
    assert_eq!(b.finish(Outcome::Surveyed(Ok(empty()))), ["Launch"]);
}

#[test]
fn a_connection_lost_in_the_middle_is_held_on_return() {
    let mut b = Bench::launching();
    b.node.disconnected(1, "cut", b.now);
    b.seen();
    assert!(b.node.connected(2, "lb1", b.now));
    assert_eq!(b.seen(), ["2 HOLD 1-a"]);
    b.hear(2, "GRANT 1-a 30 1");
    b.finish(Outcome::Launched(Ok(machine())));
    b.finish(Outcome::Booted(machine(), Ok(())));
    b.node.disconnected(2, "cut", b.now);
    assert_eq!(
        b.finish(Outcome::Entered(machine(), told(&[("lb1", true)]))),
        ["ok"]
    );
    assert!(b.node.connected(3, "lb1", b.now));
    assert_eq!(
        b.seen(),
        ["3 FINISH 1-a ok launched i-1: CPU at 90% over 3 s, threshold 50%"],
        "what could not be said then"
    );
}

#[test]
fn an_answer_that_comes_too_late_is_given_back() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    b.sample(&[90.0; 3]);
    assert_eq!(b.after(6 * SECOND), ["Unavailable"]);
    assert_eq!(
        b.hear(1, "GRANT 1-a 30 1"),
        ["1 FINISH 1-a failed the answer came too late"]
    );
}

#[test]
fn another_nodes_end_does_not_end_a_backoff() {
    let mut b = Bench::launching();
    b.finish(Outcome::Launched(Err(failure())));
    b.hear(1, "SCALE app2");
    b.hear(1, "FINISH app2");
    assert_eq!(b.sample(&[90.0; 9]), NOTHING);
}

#[test]
fn while_another_scales_nobody_is_asked_and_then_a_new_window_begins() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    b.hear(1, "SCALE app2");
    assert_eq!(b.sample(&[90.0; 9]), NOTHING);
    b.hear(1, "FINISH app2");
    assert_eq!(b.sample(&[90.0; 2]), NOTHING);
    assert_eq!(b.sample(&[90.0]), ["1 SCALE"]);
}

#[test]
fn whoever_only_asks_in_vain_does_not_hold_up_the_others() {
    let mut b = Bench::new(&["lb1", "lb2"]);
    b.connect(1, "lb1");
    b.sample(&[90.0; 2]);
    // lb1 granted, lb2 did not, and so on for ever.
    b.hear(1, "SCALE idle");
    b.hear(1, "FINISH idle");
    assert_eq!(b.sample(&[90.0]), ["1 SCALE"]);
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
                    b.node.heard(1, FromMaster::parse("WAIT full 5").unwrap(), b.now);
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
    assert_eq!(b.hear(1, "WAIT full 86400"), ["Busy"]);
    assert_eq!(b.sample(&[90.0; 60]), NOTHING);
    b.node.disconnected(1, "gone", b.now);
    assert_eq!(b.sample(&[90.0; 5]), NOTHING);
    b.connect(2, "lb1");
    assert_eq!(b.sample(&[90.0]), ["2 SCALE"]);
}

#[test]
fn with_no_master_it_waits_and_says_so_once() {
    let mut b = Bench::new(&["lb1"]);
    for _ in 0..9 {
        b.now += SECOND;
        b.node.sampled(90.0, b.now);
    }
    let said: Vec<Action> = b.node.actions();
    assert_eq!(
        said.iter()
            .filter(|a| matches!(a, Action::Say(t) if t.contains("no master")))
            .count(),
        1
    );
    b.connect(1, "lb1");
    assert_eq!(b.sample(&[90.0]), ["1 SCALE"]);
}

#[test]
fn the_load_fell_while_asking() {
    let mut b = Bench::surveying();
    b.sample(&[1.0; 3]);
    let end = b.finish(Outcome::Surveyed(Ok(empty())));
    assert_eq!(
        end,
        [
            "1 FINISH 1-a failed not now: the load fell before the launch",
            "Busy"
        ]
    );
}
