use std::time::Duration;

use super::super::auth::{self, Claim, Role};
use super::super::lease::Rules;
use super::super::listing::Listed;
use super::*;

const NODE_NONCE: &str = "000102030405060708090a0b0c0d0e0f";
const NONCE: &str = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff";

struct Bench {
    master: Master,
    now: Instant,
}

fn rules() -> Rules {
    Rules {
        lease: Duration::from_secs(30),
        cooldown: Duration::from_secs(120),
        scale_down_cooldown: Duration::from_secs(600),
        scale_down_window: Duration::from_secs(300),
        boot_timeout: Duration::from_secs(300),
        max_hosts: 10,
        max_launches_per_day: 0,
        max_step: 0,
        min_hosts: 1,
        threshold: 50.0,
    }
}

/// `<name>/<instance or -> <state>` each.
fn listed(entries: &[&str]) -> Vec<Listed> {
    let entry = |text: &&str| {
        let (name, rest) = text.split_once('/').unwrap();
        Listed::parse(&format!("{name} 10.0.0.1 80 {rest} 5")).unwrap()
    };
    entries.iter().map(entry).collect()
}

impl Bench {
    /// Two entries, and a HAProxy that says nothing of them.
    fn new(secret: &str) -> Bench {
        Bench::with(rules(), &[secret])
    }

    fn with(rules: Rules, secrets: &[&str]) -> Bench {
        let now = Instant::now();
        let arbiter = Arbiter::new(rules, None, now);
        let secrets = secrets.iter().map(|s| s.to_string()).collect();
        let mut master = Master::new("lb1".into(), secrets, arbiter);
        master.saw(&listed(&["app1/- -", "app2/- -"]), now);
        Bench { master, now }
    }

    fn see(&mut self, entries: &[&str]) -> Vec<String> {
        let out = self.master.saw(&listed(entries), self.now);
        self.sent(out)
    }

    fn join(&mut self, peer: PeerId, node: &str) {
        self.master.opened(peer, self.now);
        let welcome = self.say(peer, &format!("HELLO 2 {node} {NODE_NONCE}"));
        assert_eq!(
            welcome[..2],
            [format!("{peer} WELCOME lb1"), format!("{peer} SET")]
        );
        assert!(welcome[2].starts_with(&format!("{peer} FLEET ")));
    }

    /// The reason and the number of a refusal, or the number of machines of a grant, whose lease is
    /// given back.
    fn ask(&mut self, peer: PeerId, line: &str) -> String {
        let answers = self.say(peer, line);
        let mine = answers.iter().find_map(|l| l.strip_prefix(&format!("{peer} ")));
        let words: Vec<&str> = mine.unwrap().split(' ').collect();
        match words[..] {
            ["WAIT", reason, seconds] => format!("{reason} {seconds}"),
            ["GRANT", lease, _, _, machines] => {
                self.say(peer, &format!("FINISH {lease} failed 0 not now: only asked"));
                machines.into()
            }
            _ => panic!("{answers:?}"),
        }
    }

    /// Ends the lease that was granted first.
    fn finish(&mut self, peer: PeerId, words: &str) -> Vec<String> {
        let id = self.master.arbiter.lease().unwrap().id.clone();
        self.say(peer, &format!("FINISH {id} {words}"))
    }

    /// What is sent, and to whom, after a line; `-` marks a closed connection.
    fn say(&mut self, peer: PeerId, line: &str) -> Vec<String> {
        let out = self.master.line(peer, line, NONCE, self.now);
        self.sent(out)
    }

    fn after(&mut self, seconds: u64) -> Vec<String> {
        self.now += Duration::from_secs(seconds);
        let out = self.master.tick(self.now);
        self.sent(out)
    }

    fn open(&mut self, peer: PeerId) -> Vec<String> {
        let out = self.master.opened(peer, self.now);
        self.sent(out)
    }

    fn sent(&self, outputs: Vec<Output>) -> Vec<String> {
        let mut lines = Vec::new();
        for output in outputs {
            match output {
                Output::Send(peer, message) => lines.push(format!("{peer} {message}")),
                Output::Close(peer) => lines.push(format!("{peer} -")),
                Output::Tell { except, message } => {
                    let peers = self.master.welcome().filter(|peer| Some(*peer) != except);
                    lines.extend(peers.map(|peer| format!("{peer} {message}")));
                }
                Output::Save | Output::Note | Output::Say(_) | Output::Report(_) => {}
            }
        }
        lines
    }
}

#[test]
fn the_way_of_one_scale_up() {
    let mut b = Bench::new("");
    b.join(1, "app1");
    b.join(2, "app2");
    let lease = "1-f0f1f2f3f4f5f6f7";
    assert_eq!(
        b.say(1, "SCALE"),
        [format!("1 GRANT {lease} 30 1 1"), "2 SCALE app1".to_string()]
    );
    assert_eq!(b.say(2, "SCALE"), ["2 WAIT holder 30"]);
    assert_eq!(
        b.say(2, &format!("FINISH {lease} ok 1")),
        ["2 ERROR you do not hold this lease"]
    );
    assert_eq!(b.say(1, &format!("FINISH {lease} ok 1")), ["2 FINISH app1"]);
    assert_eq!(b.say(2, "SCALE"), ["2 WAIT cooldown 120"]);
}

#[test]
fn the_last_launch_of_the_day_is_said_once() {
    let max_launches_per_day = 1;
    let mut b = Bench::with(
        Rules {
            max_launches_per_day,
            ..rules()
        },
        &[],
    );
    b.join(1, "app1");
    b.say(1, "SCALE");
    let end = "FINISH 1-f0f1f2f3f4f5f6f7 failed 1 i-1: not healthy";
    let said: Vec<String> = b
        .master
        .line(1, end, NONCE, b.now)
        .into_iter()
        .filter_map(|output| match output {
            Output::Say(text) => Some(text),
            _ => None,
        })
        .collect();
    assert_eq!(
        said,
        [
            "app1: gave the lease back: i-1: not healthy",
            "max_launches_per_day is reached: no scale-up for 86400 s"
        ]
    );
    b.after(3600);
    assert_eq!(b.ask(1, "SCALE"), "full 82800");
    assert_eq!(b.ask(1, "SCALE"), "full 82800");
}

#[test]
fn the_disk_holds_up_no_grant_but_comes_before_the_others_carry_on() {
    let mut b = Bench::new("");
    b.join(1, "app1");
    b.join(2, "app2");
    let mut order = |line: &str| {
        let out = b.master.line(1, line, NONCE, b.now);
        let place = |what: fn(&Output) -> bool| out.iter().position(what);
        let sent = place(|o| matches!(o, Output::Send(..) | Output::Tell { .. })).unwrap();
        let save = place(|o| *o == Output::Save).unwrap();
        (place(|o| *o == Output::Note), sent, save)
    };
    let (note, grant, save) = order("SCALE");
    assert!(note.unwrap() < grant && grant < save);
    let (_, finish, save) = order("FINISH 1-f0f1f2f3f4f5f6f7 ok 1");
    assert!(save < finish);
}

#[test]
fn a_lease_that_runs_out_is_told_to_all() {
    let mut b = Bench::new("");
    b.join(1, "app1");
    b.join(2, "app2");
    b.say(1, "SCALE");
    b.after(20);
    b.say(1, "LOAD 90");
    assert_eq!(b.after(29), Vec::<String>::new());
    assert_eq!(b.after(1), ["1 FINISH app1", "2 FINISH app1"]);
}

#[test]
fn authentication_in_both_directions() {
    let mut b = Bench::new("s3cret");
    b.master.opened(1, b.now);
    assert_eq!(b.say(1, "SCALE"), ["1 ERROR greet first: HELLO 2 <node> <nonce>"]);
    assert_eq!(
        b.say(1, &format!("HELLO 2 app1 {NODE_NONCE}")),
        [format!("1 CHALLENGE {NONCE}")]
    );
    assert_eq!(b.say(1, "SCALE"), ["1 ERROR greet first: HELLO 2 <node> <nonce>"]);
    b.say(1, &format!("HELLO 2 app1 {NODE_NONCE}"));
    let claim = |role, name| Claim {
        role,
        name,
        node_nonce: NODE_NONCE,
        master_nonce: NONCE,
    };
    let proof = auth::prove("s3cret", claim(Role::Node, "app1"));
    let welcome = auth::prove("s3cret", claim(Role::Master, "lb1"));
    assert_eq!(
        b.say(1, &format!("AUTH {proof}")),
        [
            format!("1 WELCOME lb1 {welcome}"),
            "1 SET".into(),
            "1 FLEET 2 2".into()
        ]
    );
}

#[test]
fn a_wrong_or_reflected_proof_ends_the_connection() {
    let mut b = Bench::new("s3cret");
    let claim = Claim {
        role: Role::Master,
        name: "app1",
        node_nonce: NODE_NONCE,
        master_nonce: NONCE,
    };
    for proof in [
        "00",
        &auth::prove("s3cret", claim),
        &auth::prove(
            "other",
            Claim {
                role: Role::Node,
                ..claim
            },
        ),
    ] {
        b.master.opened(1, b.now);
        b.say(1, &format!("HELLO 2 app1 {NODE_NONCE}"));
        assert_eq!(
            b.say(1, &format!("AUTH {proof}")),
            ["1 ERROR wrong proof: the [cluster] secret differs", "1 -"]
        );
        assert_eq!(b.say(1, "SCALE"), Vec::<String>::new(), "it is gone");
    }
}

#[test]
fn either_of_two_secrets_lets_in_and_the_master_answers_by_the_same() {
    let mut b = Bench::with(rules(), &["new", "old"]);
    for (peer, secret) in [(1, "new"), (2, "old"), (3, "other")] {
        b.master.opened(peer, b.now);
        b.say(peer, &format!("HELLO 2 app{peer} {NODE_NONCE}"));
        let claim = |role, name| Claim {
            role,
            name,
            node_nonce: NODE_NONCE,
            master_nonce: NONCE,
        };
        let name = format!("app{peer}");
        let proof = auth::prove(secret, claim(Role::Node, &name));
        let welcome = auth::prove(secret, claim(Role::Master, "lb1"));
        let answer = b.say(peer, &format!("AUTH {proof}"));
        let let_in = answer[0] == format!("{peer} WELCOME lb1 {welcome}");
        assert_eq!(let_in, secret != "other", "{answer:?}");
    }
    b.master.set_secrets(vec!["other".into()]);
    assert_eq!(b.say(1, "PING"), ["1 PONG"], "who is in stays in");
}

#[test]
fn versions_from_2_on_are_taken_and_an_older_one_is_told_what_to_do() {
    let mut b = Bench::new("");
    for version in ["1", "0", "x", "-2", "2.0"] {
        b.master.opened(1, b.now);
        let answer = b.say(1, &format!("HELLO {version} app1 00"));
        let told = "1 ERROR this master speaks version 2 of the protocol: upgrade autoscaler on this node";
        assert_eq!(answer, [told]);
    }
    assert_eq!(facts(&mut b, 1, "REFUSED").len(), 0);
    b.join(2, "app2");
    let why = "it speaks another version of the protocol than 2; upgrade autoscaler there";
    assert_eq!(facts(&mut b, 2, "REFUSED"), [format!("REFUSED app1 0 5 {why}")]);
    for version in ["2", "3", "18446744073709551615"] {
        b.master.opened(1, b.now);
        let answer = b.say(1, &format!("HELLO {version} app1 00 and more"));
        assert_eq!(answer[0], "1 WELCOME lb1");
    }
    assert_eq!(facts(&mut b, 2, "REFUSED").len(), 0, "it is in now");
}

/// The lines of a REPORT that begin with `verb`.
fn facts(b: &mut Bench, peer: PeerId, verb: &str) -> Vec<String> {
    let all = b.say(peer, "REPORT");
    let lines = all.iter().filter_map(|l| l.strip_prefix(&format!("{peer} ")));
    let of_verb = lines.filter(|l| l.split(' ').next() == Some(verb));
    of_verb.map(String::from).collect()
}

// How many.

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

// Who may leave.

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
    for (peer, load) in [(1, 20), (2, 30), (3, 5)] {
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

// What nodes hear of the fleet.

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

// Names.

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

#[test]
fn status_shows_loads_lease_and_cooldown() {
    let mut b = Bench::new("");
    b.join(1, "app1");
    b.join(9, "looker");
    assert_eq!(b.say(9, "STATUS"), ["9 END"], "who asks is not counted");
    b.say(1, "LOAD 87.4");
    b.say(1, "SCALE");
    b.after(2);
    assert_eq!(
        b.say(9, "STATUS"),
        ["9 NODE app1 87 2", "9 LEASE app1 28", "9 END"]
    );
    b.say(1, "FINISH 1-f0f1f2f3f4f5f6f7 ok 1");
    assert_eq!(
        b.say(9, "STATUS"),
        ["9 NODE app1 87 2", "9 COOLDOWN 120", "9 END"]
    );
}

#[test]
fn a_wrong_line_is_answered_and_the_connection_stays() {
    let mut b = Bench::new("");
    b.join(1, "app1");
    assert_eq!(b.say(1, "FROB"), ["1 ERROR unknown verb `FROB`"]);
    assert_eq!(b.say(1, "PING"), ["1 PONG"]);
}

#[test]
fn of_too_many_the_one_that_has_not_greeted_for_longest_goes() {
    let mut b = Bench::new("");
    b.master.limit(6);
    b.join(1, "app1");
    for peer in 2..5 {
        assert_eq!(b.open(peer), Vec::<String>::new());
    }
    assert_eq!(b.open(5), ["2 ERROR too many connections", "2 -"]);
    for peer in 4..7 {
        b.join(peer, &format!("app{peer}"));
    }
    b.join(7, "app7");
    b.join(8, "app8");
    assert_eq!(b.open(9), ["9 ERROR too many connections", "9 -"]);
    assert_eq!(b.say(1, "PING"), ["1 PONG"]);
    b.master.closed(8);
    b.join(10, "app10");
}

#[test]
fn a_greeting_has_a_minute_and_few_lines() {
    let mut b = Bench::new("s3cret");
    b.master.opened(1, b.now);
    assert_eq!(b.master.strangers.deadline(), Some(b.now + strangers::PATIENCE));
    for _ in 0..32 {
        assert_eq!(b.say(1, "PING"), ["1 PONG"]);
    }
    assert_eq!(
        b.say(1, "PING"),
        ["1 ERROR too many lines before HELLO and AUTH", "1 -"]
    );
    b.master.opened(2, b.now);
    b.after(59);
    b.say(2, &format!("HELLO 2 app2 {NODE_NONCE}"));
    assert_eq!(b.after(1), ["2 ERROR no greeting in time", "2 -"]);
    assert_eq!(b.master.strangers.deadline(), None);
}

#[test]
fn made_up_names_fill_neither_memory_nor_log() {
    let mut b = Bench::new("s3cret");
    let mut said = 0;
    for peer in 1..1000 {
        b.master.opened(peer, b.now);
        b.say(peer, &format!("HELLO 2 app{} {NODE_NONCE}", peer / 2));
        let out = b.master.line(peer, "AUTH 00", NONCE, b.now);
        said += out.iter().filter(|o| matches!(o, Output::Say(_))).count();
    }
    assert_eq!(said, 32);
    let mut b = Bench::new("");
    for peer in 1..10_100 {
        b.join(peer, &format!("app{peer}"));
        b.say(peer, "LOAD 1");
        b.master.closed(peer);
    }
    assert_eq!(b.master.loads.len(), 10_000);
    b.after(60);
    b.join(20_000, "late");
    b.say(20_000, "LOAD 2");
    assert_eq!(b.say(20_000, "STATUS"), ["20000 NODE late 2 0", "20000 END"]);
    assert_eq!(b.master.loads.len(), 1);
}

#[test]
fn nobody_hears_of_anything_before_the_welcome() {
    let mut b = Bench::new("");
    b.join(1, "app1");
    b.say(1, "SCALE");
    b.open(2);
    b.now += Duration::from_secs(30);
    let hello = format!("HELLO 2 app2 {NODE_NONCE}");
    assert_eq!(
        b.say(2, &hello),
        ["1 FINISH app1", "2 WELCOME lb1", "2 SET", "2 FLEET 2 2"]
    );
}
