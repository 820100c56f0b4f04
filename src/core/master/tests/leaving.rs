//! Who may leave.

use super::*;

#[test]
fn nobody_leaves_whose_load_the_others_could_not_take() {
    let mut b = Bench::new("");
    for (peer, node) in [(1, "app1"), (2, "app2"), (3, "app3")] {
        b.join(peer, node);
    }
    b.say(1, "LOAD 20");
    assert_eq!(b.ask(1, "RETIRE"), "few 10", "nobody else has said anything");
    b.say(2, "LOAD 31");
    b.say(3, "LOAD 5");
    assert_eq!(b.ask(1, "RETIRE"), "loaded 10", "31 and half of 20 are over 40");
    b.say(2, "LOAD 1");
    assert_eq!(b.ask(1, "RETIRE"), "loaded 10", "at its highest it had 31");
    b.after(311);
    for (peer, load) in [(1, 20), (2, 29), (3, 5)] {
        b.say(peer, &format!("LOAD {load}"));
    }
    assert_eq!(b.ask(1, "RETIRE"), "0");
    b.after(16);
    b.say(1, "LOAD 0");
    assert_eq!(b.ask(1, "RETIRE"), "few 10", "the others are silent");
}

#[test]
fn somebody_who_is_up_stays() {
    let mut b = Bench::new("");
    b.join(1, "a/i-1");
    b.join(2, "b/i-2");
    for (sick, up) in [("DOWN", 1), ("MAINT", 1), ("DRAIN", 1)] {
        assert_eq!(
            b.see(&[&format!("app1/i-1 {sick}"), "app2/i-2 UP"]),
            if sick == "DOWN" {
                vec!["1 FLEET 2 1".to_string(), "2 FLEET 2 1".into(), "1 LOOK".into()]
            } else {
                vec![]
            }
        );
        b.say(1, "LOAD 0");
        b.say(2, "LOAD 0");
        assert_eq!(b.ask(2, "RETIRE"), "few 10", "{sick} {up}");
        assert_eq!(b.ask(2, "RETIRE force"), "few 10");
    }
    // With a third that is UP it may, and with one that HAProxy says nothing of.
    b.see(&["app1/i-1 DOWN", "app2/i-2 UP", "app3/i-3 UP"]);
    b.join(3, "c/i-3");
    b.after(600);
    for peer in 1..4 {
        b.say(peer, "LOAD 0");
    }
    assert_eq!(b.ask(2, "RETIRE"), "0");
    // But where nobody else UP reports, nobody knows what room there is.
    b.after(16);
    b.say(1, "LOAD 0");
    b.say(2, "LOAD 0");
    assert_eq!(b.ask(2, "RETIRE"), "few 10");
}

#[test]
fn no_more_than_min_hosts_stay() {
    let mut b = Bench::with(
        Rules {
            min_hosts: 2,
            ..rules()
        },
        &[],
    );
    for (peer, node) in [(1, "app1"), (2, "app2"), (3, "app3")] {
        b.join(peer, node);
        b.say(peer, "LOAD 0");
    }
    assert_eq!(b.ask(1, "RETIRE"), "few 10");
    b.see(&["app1/- -", "app2/- -", "app3/- -"]);
    b.after(600);
    b.say(1, "LOAD 0");
    b.say(2, "LOAD 0");
    assert_eq!(
        b.ask(1, "RETIRE"),
        "few 10",
        "where HAProxy is silent, those who report count"
    );
    b.say(3, "LOAD 0");
    assert_eq!(b.ask(1, "RETIRE"), "0");
}

#[test]
fn a_departure_begins_its_own_cooldown_only() {
    let mut b = Bench::new("");
    b.join(1, "app1");
    b.join(2, "app2");
    b.say(1, "LOAD 10");
    b.say(2, "LOAD 10");
    assert_eq!(b.say(1, "RETIRE")[0], "1 GRANT 1-f0f1f2f3f4f5f6f7 30 1 0");
    b.finish(1, "ok 0");
    assert_eq!(b.ask(2, "RETIRE"), "cooldown 600");
    assert_eq!(b.ask(2, "SCALE"), "1");
    let denied = "failed 0 EC2: UnauthorizedOperation";
    b.say(2, "RETIRE force");
    b.finish(2, denied);
    assert_eq!(b.ask(2, "RETIRE force"), "failing 120");
    assert_eq!(b.ask(2, "SCALE"), "1");
}

#[test]
fn who_is_in_maint_takes_no_load_over_though_its_entry_has_no_id() {
    let mut b = Bench::new("");
    b.see(&["app1/i-1 UP", "app2/- MAINT", "app3/i-3 UP"]);
    for (peer, node, load) in [(1, "a/i-1", 24), (2, "b/i-2", 0), (3, "c/i-3", 24)] {
        b.join(peer, node);
        b.say(peer, &format!("LOAD {load}"));
    }
    // 24 and half of 24 would fit under 0.8 times the threshold of 50, and 48 do not.
    assert_eq!(b.ask(3, "RETIRE"), "loaded 10");
}
