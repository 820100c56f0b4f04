use super::*;
use proptest::prelude::*;

#[test]
fn every_line_of_a_node_reads_back() {
    for line in [
        "HELLO 2 app1/i-1 00ff",
        "AUTH abcd",
        "LOAD 87",
        "SCALE",
        "SCALE 0",
        "SCALE 3 force",
        "SCALE force",
        "RETIRE",
        "RETIRE force",
        "HOLD 7-ab",
        "FINISH 7-ab ok 3",
        "FAILED 2 they never served",
        "FINISH 7-ab failed 0 no capacity left",
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
        "GRANT 7-ab 30 7 3",
        "WAIT holder 3",
        "WAIT cooldown 3",
        "WAIT booting 3",
        "WAIT full 3",
        "WAIT few 3",
        "WAIT loaded 3",
        "WAIT failing 3",
        "WAIT starting 3",
        "SCALE app1",
        "FINISH app1",
        "SET threshold 60",
        "SET",
        "FLEET 5 4",
        "LOOK",
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
        ("SCALE now", "`now` is not a whole number"),
        ("FAILED x", "usage: FAILED <machines> <text>"),
        ("FINISH 7", "usage: FINISH <lease> ok|failed <launched> [<text>]"),
        (
            "FINISH 7 maybe",
            "usage: FINISH <lease> ok|failed <launched> [<text>]",
        ),
        (
            "FINISH 7 ok",
            "usage: FINISH <lease> ok|failed <launched> [<text>]",
        ),
    ] {
        assert_eq!(FromNode::parse(line), Err(answer.into()), "{line}");
    }
}

#[test]
fn words_of_a_later_version_are_passed_over() {
    for (line, known) in [
        ("GRANT 7-ab 30 7 3 and more", "GRANT 7-ab 30 7 3"),
        ("WAIT holder 3 i-1", "WAIT holder 3"),
        ("LOOK hosts", "LOOK"),
        ("FLEET 5 4 3", "FLEET 5 4"),
    ] {
        assert_eq!(FromMaster::parse(line).unwrap().to_string(), known);
    }
    for (line, known) in [
        ("LOAD 5 6", "LOAD 5"),
        ("SCALE 3 force please", "SCALE 3 force"),
        ("RETIRE tomorrow", "RETIRE"),
        ("HOLD 7-ab x", "HOLD 7-ab"),
    ] {
        assert_eq!(FromNode::parse(line).unwrap().to_string(), known);
    }
}

#[test]
fn no_number_of_the_other_side_overflows() {
    let most = u64::MAX;
    let line = format!("GRANT 7-ab {most} {most} {most}");
    assert_eq!(
        FromMaster::parse(&line).unwrap().to_string(),
        format!("GRANT 7-ab 86400 {most} 100000")
    );
    assert_eq!(
        FromMaster::parse(&format!("WAIT full {most}"))
            .unwrap()
            .to_string(),
        "WAIT full 86400"
    );
}

#[test]
fn free_text_cannot_inject_a_line() {
    let finish = FromNode::Finish {
        lease: "1".into(),
        ok: false,
        launched: 0,
        text: "a\nSCALE\r\u{e9}".into(),
    };
    assert_eq!(finish.to_string(), "FINISH 1 failed 0 a SCALE ?");
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
