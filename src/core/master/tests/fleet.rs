//! What nodes hear of the fleet, and what is known of them.

use super::*;

#[test]
fn the_fleet_is_told_and_a_machine_that_comes_to_serve_begins_the_cooldown() {
    let mut b = Bench::new("");
    b.join(1, "a/i-1");
    b.say(1, "LOAD 90");
    b.say(1, "FAILED 1 not healthy");
    assert_eq!(
        b.see(&["app1/i-1 UP", "app2/i-2 -"]),
        ["1 LOOK"],
        "other machines than before"
    );
    assert_eq!(b.ask(1, "SCALE"), "failing 120");
    // It can't be asked any more: nothing has come to serve.
    b.see(&["app1/i-1 UP", "app2/i-2 DOWN"]);
    assert_eq!(b.see(&["app1/i-1 -", "app2/i-2 -"]), ["1 FLEET 2 2"]);
    assert_eq!(b.ask(1, "SCALE"), "failing 120");
    b.see(&["app1/i-1 UP", "app2/i-2 DOWN"]);
    assert_eq!(b.see(&["app1/i-1 UP", "app2/i-2 UP"]), ["1 FLEET 2 2"]);
    assert_eq!(b.ask(1, "SCALE"), "cooldown 120");
    assert_eq!(b.ask(1, "RETIRE"), "cooldown 120");
    assert_eq!(b.see(&["app1/i-1 UP", "app2/i-2 UP"]), [""; 0]);
    b.join(2, "b/i-2");
    assert_eq!(b.see(&["app1/i-1 UP"]), ["1 FLEET 1 1", "2 FLEET 1 1", "1 LOOK"]);
}

#[test]
fn nodes_look_in_turn_once_a_minute_and_when_something_changes() {
    let mut b = Bench::new("");
    for (peer, node) in [(1, "a/i-1"), (2, "b/i-2"), (3, "c/i-3"), (9, "looker")] {
        b.join(peer, node);
    }
    for peer in 1..4 {
        b.say(peer, "LOAD 1");
    }
    b.say(9, "STATUS");
    b.say(9, "REPORT");
    assert_eq!(b.master.deadline(), Some(b.now + Duration::from_secs(60)));
    assert_eq!(b.after(59), [""; 0]);
    assert_eq!(b.after(1), ["1 LOOK"]);
    assert_eq!(b.after(60), ["2 LOOK"]);
    // Not while somebody changes the cluster, but for what changes then.
    b.say(1, "SCALE 0");
    b.say(1, "LOAD 1");
    assert_eq!(b.after(29), [""; 0]);
    b.say(1, "LOAD 1");
    b.after(29);
    b.say(1, "LOAD 1");
    assert_eq!(b.after(29), [""; 0]);
    assert_eq!(b.see(&["app1/i-1 UP"]).last().unwrap(), "3 LOOK");
    b.finish(1, "ok 0");
    assert_eq!(b.after(59), [""; 0]);
    assert_eq!(b.after(1), ["1 LOOK"]);
    // One that is DOWN is passed over, and so is who only asks.
    assert_eq!(b.see(&["app1/i-1 UP", "app2/i-2 DOWN"]).last().unwrap(), "3 LOOK");
    assert_eq!(b.after(60), ["1 LOOK"]);
    assert_eq!(b.after(60), ["3 LOOK"]);
    for peer in 1..4 {
        b.master.closed(peer);
    }
    assert_eq!(b.after(60), [""; 0]);
    b.join(12, "b/i-2");
    assert_eq!(b.say(12, "LOAD 1"), ["12 LOOK"], "it was owed");
}

#[test]
fn settings_are_told_all_together() {
    let mut b = Bench::new("");
    b.join(1, "app1");
    let pairs = |text: &str| {
        let pair = |p: &str| p.split_once('=').map(|(k, v)| (k.to_string(), v.to_string()));
        text.split(' ').filter_map(pair).collect::<Vec<_>>()
    };
    let out = b.master.set(pairs("threshold=60 cooldown=1m"));
    assert_eq!(b.sent(out), ["1 SET threshold 60", "1 SET cooldown 1m", "1 SET"]);
    assert_eq!(b.master.set(pairs("threshold=60 cooldown=1m")), []);
    b.master.opened(2, b.now);
    let welcome = b.say(2, &format!("HELLO 2 app2 {NODE_NONCE}"));
    let expected = [
        "WELCOME lb1",
        "SET threshold 60",
        "SET cooldown 1m",
        "SET",
        "FLEET 2 2",
    ];
    assert_eq!(welcome, expected.map(|line| format!("2 {line}")));
    let out = b.master.set(Vec::new());
    assert_eq!(b.sent(out), ["1 SET", "2 SET"]);
}

#[test]
fn a_node_that_has_ended_vanishes_at_once() {
    let mut b = Bench::new("");
    b.see(&["app1/i-1 UP", "app2/i-2 UP"]);
    b.join(1, "a/i-1");
    b.join(2, "b/i-2");
    b.say(1, "LOAD 1");
    b.say(2, "LOAD 1");
    let nodes = |b: &mut Bench| b.say(1, "STATUS").iter().filter(|l| l.contains(" NODE ")).count();
    b.see(&["app1/i-1 UP"]);
    assert_eq!(nodes(&mut b), 2, "it is connected still");
    b.master.closed(2);
    assert_eq!(nodes(&mut b), 1);
    // The other way round; and one that only lost its connection is shown.
    b.see(&["app1/i-1 UP", "app3/i-3 UP"]);
    b.join(3, "c/i-3");
    b.say(3, "LOAD 1");
    b.master.closed(3);
    assert_eq!(nodes(&mut b), 2);
    b.see(&["app1/i-1 UP"]);
    assert_eq!(nodes(&mut b), 1);
}

#[test]
fn doubles_are_said_once_and_shown() {
    let mut b = Bench::new("");
    let mut said = Vec::new();
    b.join(1, "web/i-1");
    b.join(2, "web/i-2");
    for peer in [1, 2, 1, 2] {
        let out = b.master.line(peer, "LOAD 5", NONCE, b.now);
        said.extend(out.into_iter().filter(|o| matches!(o, Output::Say(_))));
    }
    assert_eq!(said.len(), 1);
    assert_eq!(facts(&mut b, 1, "DOUBLE").len(), 2);
    assert_eq!(b.say(1, "STATUS").len(), 3, "both are counted");
    // By hand, beside the daemon, with a lease that its loads renew.
    let mut b = Bench::new("");
    b.join(1, "web/i-1");
    b.join(2, "web/i-1");
    b.say(1, "LOAD 5");
    b.say(2, "LOAD 5");
    b.say(2, "SCALE 1");
    for _ in 0..3 {
        b.say(1, "LOAD 5");
        b.say(2, "LOAD 5");
    }
    assert_eq!(facts(&mut b, 1, "DOUBLE"), [""; 0]);
}

#[test]
fn entries_and_nodes_are_joined_by_the_instance() {
    let mut b = Bench::new("");
    b.see(&["app1/i-1 UP", "app2/- DOWN"]);
    b.join(1, "a/i-1");
    b.say(1, "LOAD 5");
    assert_eq!(
        facts(&mut b, 1, "ENTRY"),
        [
            "ENTRY app1 10.0.0.1 80 i-1 UP 5 a/i-1",
            "ENTRY app2 10.0.0.1 80 - DOWN 5 -"
        ]
    );
}
