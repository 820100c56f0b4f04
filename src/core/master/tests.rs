use super::super::lease::Rules;
use super::*;

const NODE_NONCE: &str = "000102030405060708090a0b0c0d0e0f";
const NONCE: &str = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff";

struct Bench {
    master: Master,
    now: Instant,
}

impl Bench {
    fn new(secret: &str) -> Bench {
        let now = Instant::now();
        let rules = Rules {
            lease: Duration::from_secs(30),
            cooldown: Duration::from_secs(120),
            scale_down_cooldown: Duration::from_secs(600),
            max_hosts: 10,
            max_launches_per_day: 0,
            min_hosts: 1,
            room: 40.0,
        };
        let arbiter = Arbiter::new(rules, None, now);
        Bench {
            master: Master::new("lb1".into(), secret.into(), arbiter),
            now,
        }
    }

    fn join(&mut self, peer: PeerId, node: &str) {
        self.master.opened(peer);
        assert_eq!(
            self.say(peer, &format!("HELLO 1 {node} {NODE_NONCE}")),
            [format!("{peer} WELCOME lb1")]
        );
    }

    /// What is sent, and to whom, after a line; `-` marks a closed connection.
    fn say(&mut self, peer: PeerId, line: &str) -> Vec<String> {
        sent(self.master.line(peer, line, 2, NONCE, self.now))
    }

    fn after(&mut self, seconds: u64) -> Vec<String> {
        self.now += Duration::from_secs(seconds);
        sent(self.master.tick(self.now))
    }
}

fn sent(outputs: Vec<Output>) -> Vec<String> {
    outputs
        .into_iter()
        .filter_map(|output| match output {
            Output::Send(peer, message) => Some(format!("{peer} {message}")),
            Output::Close(peer) => Some(format!("{peer} -")),
            Output::Save | Output::Say(_) | Output::Report(_) => None,
        })
        .collect()
}

#[test]
fn the_way_of_one_scale_up() {
    let mut b = Bench::new("");
    b.join(1, "app1");
    b.join(2, "app2");
    let lease = "1-f0f1f2f3f4f5f6f7";
    assert_eq!(
        b.say(1, "SCALE"),
        ["2 SCALE app1".to_string(), format!("1 GRANT {lease} 30 1")]
    );
    assert_eq!(b.say(2, "SCALE"), ["2 WAIT holder 30"]);
    assert_eq!(
        b.say(2, &format!("FINISH {lease} ok")),
        ["2 ERROR you do not hold this lease"]
    );
    assert_eq!(b.say(1, &format!("FINISH {lease} ok")), ["2 FINISH app1"]);
    assert_eq!(b.say(2, "SCALE"), ["2 WAIT cooldown 120"]);
}

#[test]
fn the_last_launch_of_the_day_is_said_once() {
    let mut b = Bench::new("");
    let rules = Rules {
        max_launches_per_day: 1,
        ..b.master.arbiter.rules().clone()
    };
    b.master.arbiter = Arbiter::new(rules, None, b.now);
    b.join(1, "app1");
    b.say(1, "SCALE");
    let end = "FINISH 1-f0f1f2f3f4f5f6f7 failed launched, but i-1: not healthy";
    let said: Vec<String> = b
        .master
        .line(1, end, 2, NONCE, b.now)
        .into_iter()
        .filter_map(|output| match output {
            Output::Say(text) => Some(text),
            _ => None,
        })
        .collect();
    assert_eq!(
        said,
        [
            "app1: gave the lease back: launched, but i-1: not healthy",
            "max_launches_per_day is reached: no scale-up for 86400 s"
        ]
    );
    b.after(3600);
    assert_eq!(b.say(1, "SCALE"), ["1 WAIT full 82800"]);
    assert_eq!(b.say(1, "SCALE"), ["1 WAIT full 82800"]);
}

#[test]
fn the_grant_is_saved_before_it_is_sent() {
    let mut b = Bench::new("");
    b.join(1, "app1");
    let out = b.master.line(1, "SCALE", 2, NONCE, b.now);
    let save = out.iter().position(|o| *o == Output::Save).unwrap();
    let grant = out
        .iter()
        .position(|o| matches!(o, Output::Send(_, FromMaster::Grant { .. })))
        .unwrap();
    assert!(save < grant);
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
    b.master.opened(1);
    assert_eq!(b.say(1, "SCALE"), ["1 ERROR greet first: HELLO 1 <node> <nonce>"]);
    assert_eq!(
        b.say(1, &format!("HELLO 1 app1 {NODE_NONCE}")),
        [format!("1 CHALLENGE {NONCE}")]
    );
    assert_eq!(b.say(1, "SCALE"), ["1 ERROR greet first: HELLO 1 <node> <nonce>"]);
    b.say(1, &format!("HELLO 1 app1 {NODE_NONCE}"));
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
        [format!("1 WELCOME lb1 {welcome}")]
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
        b.master.opened(1);
        b.say(1, &format!("HELLO 1 app1 {NODE_NONCE}"));
        assert_eq!(
            b.say(1, &format!("AUTH {proof}")),
            ["1 ERROR wrong proof: the [cluster] secret differs", "1 -"]
        );
        assert_eq!(b.say(1, "SCALE"), Vec::<String>::new(), "it is gone");
    }
}

#[test]
fn nobody_leaves_whose_load_the_others_could_not_take() {
    let mut b = Bench::new("");
    for (peer, node) in [(1, "app1"), (2, "app2"), (3, "app3")] {
        b.join(peer, node);
    }
    b.say(1, "LOAD 20");
    assert_eq!(
        b.say(1, "RETIRE"),
        ["1 WAIT full 10"],
        "nobody else has said anything"
    );
    b.say(2, "LOAD 31");
    b.say(3, "LOAD 5");
    assert_eq!(
        b.say(1, "RETIRE"),
        ["1 WAIT full 10"],
        "31 and half of 20 are over 40"
    );
    b.say(2, "LOAD 30");
    assert_eq!(
        b.say(1, "RETIRE").last().unwrap(),
        "1 GRANT 1-f0f1f2f3f4f5f6f7 30 1"
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
    b.say(1, "FINISH 1-f0f1f2f3f4f5f6f7 ok");
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
    b.master.opened(2);
    assert_eq!(b.say(2, "HELLO 2 x 00"), ["2 ERROR this master speaks version 1"]);
    assert_eq!(b.say(2, "HELLO 1 x 00"), ["2 WELCOME lb1"]);
}
