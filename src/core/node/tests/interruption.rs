//! A spot instance that EC2 takes back.

use super::*;

#[test]
fn a_machine_that_ec2_takes_back_is_replaced_and_then_drains() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    b.node.interrupted("spot interruption", machine(), b.now);
    assert_eq!(b.seen(), ["1 SCALE"], "whatever the load");
    assert_eq!(b.hear(1, "GRANT 1-a 30 1"), ["Survey"]);
    assert_eq!(b.finish(Outcome::Surveyed(Ok(empty()))), ["Launch"]);
    b.finish(Outcome::Launched(Ok(machine())));
    b.finish(Outcome::Booted(machine(), Ok(())));
    let end = b.finish(Outcome::Entered(machine(), told(&[("lb1", true)])));
    assert_eq!(
        end,
        [
            "1 FINISH 1-a ok launched i-1: EC2 takes a machine back",
            "ok",
            "Drain"
        ]
    );
    assert_eq!(
        b.finish(Outcome::Drained(machine(), told(&[("lb1", true)]))),
        NOTHING,
        "EC2 ends it"
    );
    assert_eq!(
        b.sample(&[90.0; 30]),
        NOTHING,
        "it has other worries than its load"
    );
}

#[test]
fn a_machine_that_was_replaced_leaves_its_group_which_would_replace_it_again() {
    for replaced in [true, false] {
        let mut b = Bench::new(&["lb1"]);
        b.node.settings.fleet.by_group = true;
        b.connect(1, "lb1");
        b.node.interrupted("spot interruption", machine(), b.now);
        b.seen();
        if replaced {
            b.hear(1, "GRANT 1-a 30 1");
            b.finish(Outcome::Surveyed(Ok(empty())));
            b.finish(Outcome::Launched(Ok(machine())));
            b.finish(Outcome::Booted(machine(), Ok(())));
            b.finish(Outcome::Entered(machine(), told(&[("lb1", true)])));
        } else {
            b.hear(1, "WAIT full 30");
            b.after(60 * SECOND);
        }
        let seen = b.finish(Outcome::Drained(machine(), told(&[("lb1", true)])));
        assert_eq!(seen.contains(&"Depart".to_string()), replaced, "{seen:?}");
        b.finish(Outcome::Departed(machine(), Ok(())));
    }
}

#[test]
fn a_machine_that_ec2_takes_back_drains_in_time_without_a_replacement() {
    let mut b = Bench::new(&["lb1"]);
    b.connect(1, "lb1");
    b.node.interrupted("spot interruption", machine(), b.now);
    b.seen();
    assert_eq!(b.hear(1, "WAIT full 30"), ["Busy"]);
    let seen = b.after(60 * SECOND);
    assert!(seen.contains(&"Drain".to_string()), "{seen:?}");
}
