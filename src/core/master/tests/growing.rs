//! How many machines are granted.

use super::*;

#[test]
fn as_many_are_granted_as_are_missing() {
    let mut b = Bench::new("");
    b.see(&["app1/i-1 UP", "app2/i-2 UP"]);
    b.join(1, "a/i-1");
    b.join(2, "b/i-2");
    b.say(1, "LOAD 100");
    b.say(2, "LOAD 100");
    assert_eq!(b.ask(1, "SCALE"), "3");
    assert_eq!(b.say(1, "SCALE")[0], "1 GRANT 2-f0f1f2f3f4f5f6f7 30 2 3");
    assert_eq!(b.say(1, "SCALE"), ["1 GRANT 2-f0f1f2f3f4f5f6f7 30 2 3"]);
    assert_eq!(
        b.say(1, "HOLD 2-f0f1f2f3f4f5f6f7"),
        ["1 GRANT 2-f0f1f2f3f4f5f6f7 30 2 3"]
    );
    b.finish(1, "ok 3");
    b.after(120);
    for (peer, load) in [(1, 100), (2, 100)] {
        b.say(peer, &format!("LOAD {load}"));
    }
    assert_eq!(b.ask(1, "SCALE"), "booting 10");
    // A number is by hand, and asks for no need.
    assert_eq!(b.ask(1, "SCALE 2"), "2");
    // What failed is missing again, after the back-off.
    b.say(1, "FAILED 1 it never answered");
    assert_eq!(b.ask(1, "SCALE"), "failing 120");
    b.after(120);
    b.say(1, "LOAD 100");
    assert_eq!(b.ask(1, "SCALE"), "1");
    // One that is entered boots until it serves: a bad image is not launched in rounds.
    b.see(&["app1/i-1 UP", "app2/i-2 UP", "app3/i-3 DOWN"]);
    assert_eq!(facts(&mut b, 1, "HOSTS"), ["HOSTS 3 1 10 2 1 2"]);
    assert_eq!(b.ask(1, "SCALE"), "1");
    b.say(1, "FINISH 4-f0f1f2f3f4f5f6f7 failed 0 not now: x");
    b.see(&["app1/i-1 UP", "app2/i-2 UP", "app3/i-3 UP"]);
    assert_eq!(facts(&mut b, 1, "HOSTS"), ["HOSTS 3 1 10 3 0 1"]);
}

#[test]
fn limits_cut_the_number() {
    let rules = Rules {
        max_hosts: 5,
        max_step: 2,
        max_launches_per_day: 4,
        cooldown: Duration::ZERO,
        ..rules()
    };
    let mut b = Bench::with(rules, &[]);
    b.join(1, "app1");
    b.say(1, "LOAD 100");
    assert_eq!(b.ask(1, "SCALE"), "2");
    assert_eq!(b.ask(1, "SCALE 9"), "2");
    b.say(1, "SCALE");
    b.finish(1, "ok 2");
    assert_eq!(b.ask(1, "SCALE 9"), "1", "max_hosts, with two that boot");
    b.say(1, "SCALE 9");
    b.finish(1, "ok 1");
    assert_eq!(b.ask(1, "SCALE 1"), "full 10");
    assert_eq!(b.ask(1, "SCALE 0"), "0");
    b.say(1, "FAILED 3 dead");
    b.after(1);
    assert_eq!(b.ask(1, "SCALE 9"), "1", "three of four today");
    b.say(1, "SCALE 1");
    b.finish(1, "ok 1");
    assert_eq!(b.ask(1, "SCALE 1"), "full 86399");
    let [may, _] = &facts(&mut b, 1, "MAY")[..] else {
        panic!()
    };
    assert_eq!(may, "MAY SCALE full 86399");
}

#[test]
fn one_hot_machine_grows_the_fleet_once_per_window() {
    let mut b = Bench::new("");
    b.join(1, "app1");
    b.join(2, "app2");
    b.say(1, "LOAD 90");
    b.say(2, "LOAD 2");
    assert_eq!(b.say(1, "SCALE")[0], "1 GRANT 1-f0f1f2f3f4f5f6f7 30 1 1");
    b.finish(1, "ok 1");
    b.see(&["app1/- -", "app2/- -", "app3/- -"]);
    b.after(121);
    b.say(1, "LOAD 90");
    b.say(2, "LOAD 2");
    assert_eq!(b.ask(1, "SCALE"), "cooldown 179");
    assert_eq!(b.ask(1, "SCALE force"), "1");
    b.say(2, "LOAD 90");
    assert_eq!(b.ask(1, "SCALE"), "3", "all of them are another matter");
}

#[test]
fn min_hosts_are_launched_whatever_the_load() {
    let mut b = Bench::with(
        Rules {
            min_hosts: 4,
            ..rules()
        },
        &[],
    );
    b.see(&["app1/i-1 UP", "app2/i-2 DOWN"]);
    b.join(1, "a/i-1");
    b.say(1, "LOAD 1");
    assert_eq!(b.ask(1, "SCALE"), "3");
    assert_eq!(
        facts(&mut b, 1, "NEED"),
        ["NEED 3 min_hosts 1 serve, min_hosts 4"]
    );
}

#[test]
fn the_load_of_a_node_that_is_down_says_nothing() {
    let mut b = Bench::new("");
    b.see(&["app1/i-1 DOWN", "app2/i-2 UP"]);
    b.join(1, "a/i-1");
    b.join(2, "b/i-2");
    b.say(1, "LOAD 100");
    b.say(2, "LOAD 60");
    assert_eq!(b.ask(1, "SCALE"), "failing 10");
    assert_eq!(b.ask(1, "SCALE 1"), "1");
    assert_eq!(b.ask(1, "SCALE 0"), "0");
    assert_eq!(b.ask(2, "SCALE"), "1", "one at 60% and not two at 80%");
    let why = "failing, HAProxy has this node DOWN: its load asks for nothing";
    let decisions = facts(&mut b, 2, "DECISION");
    assert_eq!(
        decisions.last().unwrap(),
        &format!("DECISION 0 a/i-1 SCALE 100 1 refused 0 {why}")
    );
}
