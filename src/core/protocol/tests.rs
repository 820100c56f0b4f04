use super::*;
use proptest::prelude::*;

#[test]
fn every_line_of_a_node_reads_back() {
    for line in [
        "HELLO 1 app1 00ff",
        "AUTH abcd",
        "LOAD 87",
        "SCALE",
        "RETIRE",
        "HOLD 7-ab",
        "FINISH 7-ab ok",
        "FINISH 7-ab failed no capacity left",
        "STATUS",
        "PING",
        "PONG",
        "ERROR what",
    ] {
        assert_eq!(FromNode::parse(line).unwrap().to_string(), line);
    }
}

#[test]
fn every_line_of_a_master_reads_back() {
    for line in [
        "CHALLENGE 00ff",
        "WELCOME lb1",
        "WELCOME lb1 abcd",
        "GRANT 7-ab 30 7",
        "WAIT holder 3",
        "WAIT cooldown 3",
        "WAIT full 3",
        "WAIT starting 3",
        "SCALE app1",
        "FINISH app1",
        "NODE app1 87 3",
        "LEASE app1 20",
        "COOLDOWN 99",
        "END",
        "PING",
        "PONG",
        "ERROR what",
    ] {
        assert_eq!(FromMaster::parse(line).unwrap().to_string(), line);
    }
}

#[test]
fn a_wrong_line_says_what_is_wrong() {
    for (line, answer) in [
        ("FROB", "unknown verb `FROB`"),
        ("", "unknown verb ``"),
        ("LOAD", "usage: LOAD <percent>"),
        ("LOAD x", "`x` is not a percentage from 0 to 100"),
        ("LOAD NaN", "`NaN` is not a percentage from 0 to 100"),
        ("LOAD 101", "`101` is not a percentage from 0 to 100"),
        ("SCALE now", "SCALE takes no argument"),
        ("FINISH 7", "usage: FINISH <lease> ok|failed [<text>]"),
        ("FINISH 7 maybe", "usage: FINISH <lease> ok|failed [<text>]"),
    ] {
        assert_eq!(FromNode::parse(line), Err(answer.into()), "{line}");
    }
}

#[test]
fn free_text_cannot_inject_a_line() {
    let finish = FromNode::Finish {
        lease: "1".into(),
        ok: false,
        text: "a\nSCALE\r\u{e9}".into(),
    };
    assert_eq!(finish.to_string(), "FINISH 1 failed a SCALE ?");
}

proptest! {
    #[test]
    fn any_line_is_taken_or_refused_and_what_is_taken_reads_back(line in "([A-Z]{2,9} )?[ -~]{0,60}") {
        if let Ok(message) = FromNode::parse(&line) {
            let again = message.to_string();
            prop_assert!(again.len() < LONGEST_LINE);
            prop_assert_eq!(FromNode::parse(&again).unwrap().to_string(), again);
        }
        if let Ok(message) = FromMaster::parse(&line) {
            let again = message.to_string();
            prop_assert!(again.len() < LONGEST_LINE);
            prop_assert_eq!(FromMaster::parse(&again).unwrap().to_string(), again);
        }
    }
}
