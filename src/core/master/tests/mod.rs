mod fleet;
mod growing;
mod leaving;

use std::time::Duration;

use super::*;
use crate::core::haproxy::listing::Listed;
use crate::core::master::lease::Rules;
use crate::core::protocol::auth::{self, Claim, Role};

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
