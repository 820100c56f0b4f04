//! What people are told of.

use super::*;

/// The events, machines and reasons of what `[notify]` is told.
fn notices(b: &mut Bench) -> Vec<String> {
    let notice = |action| match action {
        Action::Notify(Notice {
            event,
            machine,
            reason,
        }) => {
            let machine = machine.as_ref().map_or("-", Machine::title).to_string();
            Some(format!("{event} {machine} {reason}"))
        }
        _ => None,
    };
    b.node.actions().into_iter().filter_map(notice).collect()
}

#[test]
fn people_are_told_of_what_came_and_what_failed() {
    let mut b = Bench::booting();
    b.finish(Outcome::Booted(machine(2), Ok(())));
    b.node
        .finished(Outcome::Entered(machine(2), told(&[("lb1", true)])), b.now);
    assert_eq!(
        notices(&mut b),
        ["launched i-2 CPU at 90% over 3 s, threshold 50%"]
    );
    let mut b = Bench::launching();
    b.node.finished(not_launched(failure()), b.now);
    assert_eq!(
        notices(&mut b),
        ["failed - EC2: no; next try in 10 s at the earliest"]
    );
    let mut b = Bench::leaving();
    b.surveyed(two());
    b.node
        .finished(Outcome::Drained(machine(1), told(&[("lb1", true)])), b.now);
    assert_eq!(notices(&mut b), ["retired i-1 CPU at 5% over 5 s, threshold 20%"]);
}

#[test]
fn a_need_that_lasts_is_told_of_once() {
    let mut b = Bench::new(&["lb1"]);
    let blocked = |b: &mut Bench, load: f64, seconds: u64| {
        let mut found = Vec::new();
        for _ in 0..seconds {
            b.now += Duration::from_secs(1);
            b.node.sampled(load, b.now);
            found.append(&mut notices(b));
        }
        found
    };
    assert_eq!(blocked(&mut b, 90.0, 602), NOTHING);
    let alone = "blocked - CPU at 90%, threshold 50%, for 600 s: no master is connected";
    assert_eq!(blocked(&mut b, 90.0, 700), [alone]);
    // Over, and blocked again for another reason.
    assert_eq!(blocked(&mut b, 5.0, 5), NOTHING);
    b.connect(1, "lb1");
    assert_eq!(blocked(&mut b, 90.0, 3), NOTHING);
    b.node
        .heard(1, FromMaster::parse("WAIT full 9000").unwrap(), b.now);
    let full = blocked(&mut b, 90.0, 700);
    assert!(
        full.len() == 1 && full[0].contains("for 600 s: master lb1: max_hosts"),
        "{full:?}"
    );
}
