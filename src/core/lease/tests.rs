use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn rules() -> Rules {
    Rules {
        lease: 30 * SECOND,
        cooldown: 120 * SECOND,
        scale_down_cooldown: 600 * SECOND,
        max_hosts: 3,
        max_launches_per_day: 0,
        min_hosts: 1,
        room: 40.0,
    }
}

fn fresh(now: Instant) -> Arbiter {
    Arbiter::new(rules(), None, now)
}

fn grow<'a>(a: &'a mut Arbiter, node: &str, peer: PeerId, now: Instant) -> Result<&'a Lease, Refusal> {
    a.ask(Wish::Grow, node, peer, false, "salt", now)
}

#[test]
fn one_holder_and_a_growing_epoch() {
    let now = Instant::now();
    let mut a = fresh(now);
    let first = grow(&mut a, "app1", 1, now).unwrap().clone();
    let refusal = grow(&mut a, "app2", 2, now + SECOND).unwrap_err();
    assert_eq!(
        refusal,
        Refusal {
            reason: Reason::Holder,
            wait: 29 * SECOND
        }
    );
    assert_eq!(
        grow(&mut a, "app1", 1, now + SECOND).unwrap(),
        &first,
        "asked twice"
    );
    assert!(a.finish(&first.id, "app1", false, now).is_some());
    assert!(grow(&mut a, "app2", 2, now).unwrap().epoch > first.epoch);
}

#[test]
fn a_restarted_daemon_does_not_renew_the_lease_of_its_former_life() {
    let now = Instant::now();
    let mut a = fresh(now);
    grow(&mut a, "app1", 1, now).unwrap();
    a.renew(1, now + 10 * SECOND);
    a.renew(7, now + 39 * SECOND);
    assert!(grow(&mut a, "app1", 7, now + 39 * SECOND).is_err());
    assert_eq!(a.expire(now + 39 * SECOND), None);
    assert!(a.expire(now + 40 * SECOND).is_some());
}

#[test]
fn no_more_launches_than_the_day_may_have_also_after_a_restart() {
    let now = Instant::now();
    let rules = |max_launches_per_day| Rules {
        max_launches_per_day,
        cooldown: Duration::ZERO,
        ..rules()
    };
    let mut a = Arbiter::new(rules(2), None, now);
    let launch = |a: &mut Arbiter, now| {
        let id = grow(a, "app1", 1, now).unwrap().id.clone();
        a.finish(&id, "app1", false, now);
        a.launched(now);
    };
    launch(&mut a, now);
    // One that died may have launched as well.
    grow(&mut a, "app1", 1, now + 60 * SECOND).unwrap();
    assert!(a.expire(now + 90 * SECOND).is_some());
    let later = now + 3600 * SECOND;
    let full = |wait| Refusal {
        reason: Reason::Full,
        wait,
    };
    let refused = grow(&mut a, "app2", 2, later).unwrap_err();
    assert_eq!(refused, full(DAY - 3600 * SECOND));
    // Leaving is free.
    assert!(a.ask(Wish::Shrink, "app2", 2, false, "salt", later).is_ok());
    a.finish("3-salt", "app2", true, later);

    let saved = a.save(later);
    let restart = |most| Arbiter::new(rules(most), Some(saved.clone()), later);
    let (mut same, mut more, mut off) = (restart(2), restart(3), restart(0));
    let begun = later + 30 * SECOND;
    let refused = grow(&mut same, "app2", 2, begun).unwrap_err();
    assert_eq!(refused, full(DAY - 3630 * SECOND));
    assert!(grow(&mut more, "app2", 2, begun).is_ok());
    assert!(grow(&mut off, "app2", 2, begun).is_ok());
    // The first one is a day old: there is room for one again.
    launch(&mut same, now + DAY);
    let refused = grow(&mut same, "app2", 2, now + DAY).unwrap_err();
    assert_eq!(refused, full(90 * SECOND));
}

#[test]
fn what_counts_as_a_launch() {
    for (wish, ok, text, counts) in [
        (Wish::Grow, true, "launched i-1", true),
        (Wish::Grow, true, "by hand", true),
        (Wish::Grow, true, "adopted i-1", false),
        (Wish::Grow, false, "launched, but i-1: not healthy", true),
        (Wish::Grow, false, "EC2 RunInstances: VcpuLimitExceeded", false),
        (Wish::Shrink, true, "", false),
    ] {
        assert_eq!(is_launch(wish, ok, text), counts, "{text}");
    }
}

#[test]
fn ok_begins_the_cooldown_and_failed_does_not() {
    let now = Instant::now();
    let mut a = fresh(now);
    let id = grow(&mut a, "app1", 1, now).unwrap().id.clone();
    a.finish(&id, "app1", false, now);
    let id = grow(&mut a, "app1", 1, now).unwrap().id.clone();
    a.finish(&id, "app1", true, now);
    let refusal = grow(&mut a, "app2", 2, now + 20 * SECOND).unwrap_err();
    assert_eq!(
        refusal,
        Refusal {
            reason: Reason::Cooldown,
            wait: 100 * SECOND
        }
    );
    assert!(grow(&mut a, "app2", 2, now + 120 * SECOND).is_ok());
}

#[test]
fn only_the_holder_finishes() {
    let now = Instant::now();
    let mut a = fresh(now);
    let id = grow(&mut a, "app1", 1, now).unwrap().id.clone();
    assert_eq!(a.finish(&id, "app2", true, now), None);
    assert_eq!(a.finish("9-x", "app1", true, now), None);
    assert!(a.lease().is_some());
    assert_eq!(a.cooldown_left(now), Duration::ZERO);
}

#[test]
fn full_is_a_reason_of_its_own() {
    let now = Instant::now();
    let mut a = fresh(now);
    let refusal = a.ask(Wish::Grow, "app1", 1, true, "s", now).unwrap_err();
    assert_eq!(refusal.reason, Reason::Full);
    assert!(a.ask(Wish::Shrink, "app1", 1, false, "s", now).is_ok());
}

#[test]
fn a_node_that_left_without_a_word_keeps_others_from_leaving_but_not_from_scaling_up() {
    let now = Instant::now();
    let mut a = fresh(now);
    a.ask(Wish::Shrink, "app1", 1, false, "s", now).unwrap();
    let later = now + 30 * SECOND;
    a.expire(later).unwrap();
    let refusal = a.ask(Wish::Shrink, "app2", 2, false, "s", later).unwrap_err();
    assert_eq!(refusal.reason, Reason::Cooldown);
    assert!(grow(&mut a, "app2", 2, later).is_ok());
}

#[test]
fn a_restarted_master_waits_one_lease_in_which_the_holder_may_hold() {
    let now = Instant::now();
    let mut a = fresh(now);
    let lease = grow(&mut a, "app1", 1, now).unwrap().clone();
    let mut b = Arbiter::new(rules(), Some(a.save(now)), now);
    assert_eq!(grow(&mut b, "app2", 1, now).unwrap_err().reason, Reason::Starting);
    assert!(b.hold(&lease.id, "app2", 1, now).is_err(), "it is another's");
    let held = b.hold(&lease.id, "app1", 2, now + SECOND).unwrap();
    assert_eq!((held.id.as_str(), held.epoch), (lease.id.as_str(), lease.epoch));
    let refusal = grow(&mut b, "app2", 1, now + 30 * SECOND).unwrap_err();
    assert_eq!(refusal.reason, Reason::Holder);
    assert!(b.finish(&lease.id, "app1", true, now + 30 * SECOND).is_some());
}

#[test]
fn a_stale_lease_is_not_held_again() {
    let now = Instant::now();
    let mut a = fresh(now);
    let stale = grow(&mut a, "app1", 1, now).unwrap().id.clone();
    a.expire(now + 30 * SECOND).unwrap();
    assert!(a.hold(&stale, "app1", 2, now + 31 * SECOND).is_err());
    let newer = grow(&mut a, "app2", 3, now + 31 * SECOND).unwrap().id.clone();
    assert!(a.hold(&stale, "app1", 2, now + 32 * SECOND).is_err());
    assert_eq!(a.lease().unwrap().id, newer);
}

#[test]
fn a_lease_whose_master_lost_its_state_stands() {
    let now = Instant::now();
    let mut a = fresh(now);
    assert!(a.hold("9-ab", "app1", 1, now).is_err(), "nothing was lost here");
    let mut a = Arbiter::new(rules(), Some(Saved::default()), now);
    assert!(
        a.hold("18446744073709551615-x", "app1", 1, now).is_err(),
        "made up"
    );
    assert_eq!(a.hold("9-ab", "app1", 1, now).unwrap().epoch, 9);
    a.finish("9-ab", "app1", false, now);
    assert!(grow(&mut a, "app2", 2, now + 30 * SECOND).unwrap().epoch > 9);
}

#[test]
fn no_epoch_comes_twice_though_the_last_grants_were_not_saved() {
    let now = Instant::now();
    let mut a = fresh(now);
    let saved = a.save(now);
    let unsaved = grow(&mut a, "app1", 1, now).unwrap().epoch;
    let mut b = Arbiter::new(rules(), Some(saved), now);
    let later = now + 30 * SECOND;
    let next = grow(&mut b, "app2", 2, later).unwrap().clone();
    assert!(next.epoch > unsaved);
    b.finish(&next.id, "app2", false, later);
    assert_eq!(grow(&mut b, "app2", 2, later).unwrap().epoch, next.epoch + 1);
}

#[test]
fn the_cooldown_survives_a_restart_and_a_clock_that_jumped_does_not_stretch_it() {
    let now = Instant::now();
    let saved = |secs| Saved {
        epoch: 4,
        grow_cooldown: secs * SECOND,
        ..Saved::default()
    };
    let a = Arbiter::new(rules(), Some(saved(50)), now);
    assert_eq!(a.cooldown_left(now), 50 * SECOND);
    let a = Arbiter::new(rules(), Some(saved(86_400)), now);
    assert_eq!(a.cooldown_left(now), 120 * SECOND);
}
