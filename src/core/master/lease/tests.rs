use super::launches::{DAY, REMEMBERED};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn rules() -> Rules {
    Rules {
        lease: 30 * SECOND,
        cooldown: 120 * SECOND,
        scale_down_cooldown: 600 * SECOND,
        max_hosts: 3,
        max_launches_per_day: 0,
        max_step: 0,
        min_hosts: 1,
        scale_down_window: 300 * SECOND,
        boot_timeout: 300 * SECOND,
        threshold: 50.0,
    }
}

fn fresh(now: Instant) -> Arbiter {
    Arbiter::new(rules(), None, now)
}

fn grow<'a>(a: &'a mut Arbiter, node: &str, peer: PeerId, now: Instant) -> Result<&'a Lease, Refusal> {
    a.ask(Ask::plain(Wish::Grow), share(1), node, peer, "salt", now)
}

fn retire<'a>(a: &'a mut Arbiter, node: &str, peer: PeerId, now: Instant) -> Result<&'a Lease, Refusal> {
    a.ask(Ask::plain(Wish::Leave), share(0), node, peer, "salt", now)
}

fn share(machines: usize) -> Result<Share, Refusal> {
    Ok(Share { machines, hot: false })
}

/// Grants, and ends it: `launched` machines, well or not.
fn launch(a: &mut Arbiter, ok: bool, launched: usize, now: Instant) {
    let id = grow(a, "app1", 1, now).unwrap().id.clone();
    assert!(a.finish(&id, "app1", ok, launched, "", now).is_some());
}

fn refused(verdict: Result<&Lease, Refusal>) -> (Reason, u64) {
    let refusal = verdict.unwrap_err();
    (refusal.reason, refusal.wait.as_secs())
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
    assert!(a.finish(&first.id, "app1", false, 0, "", now).is_some());
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
    let mut a = Arbiter::new(rules(4), None, now);
    launch(&mut a, true, 2, now);
    assert_eq!((a.left_today(now), a.capped_until(now)), (Some(2), None));
    // One that died may have launched all that it might.
    a.ask(
        Ask::plain(Wish::Grow),
        share(3),
        "app1",
        1,
        "s",
        now + 60 * SECOND,
    )
    .unwrap();
    assert!(a.expire(now + 90 * SECOND).is_some());
    let later = now + 3600 * SECOND;
    assert_eq!((a.left_today(later), a.booting(later)), (Some(0), 0));
    assert_eq!(a.capped_until(later), Some(now + DAY), "one of five over four");
    // A lease that launched nothing counts nothing.
    let b = &mut Arbiter::new(rules(1), None, now);
    launch(b, true, 0, now);
    launch(b, false, 0, now);
    assert_eq!(b.left_today(now), Some(1));

    let saved = a.save(later);
    let restart = |most| Arbiter::new(rules(most), Some(saved.clone()), later);
    assert_eq!(restart(4).capped_until(later), Some(now + DAY));
    assert_eq!(restart(7).left_today(later), Some(2));
    assert_eq!(
        (restart(0).left_today(later), restart(0).capped_until(later)),
        (None, None)
    );
    // The first are a day old: there is room again.
    assert_eq!(restart(4).left_today(now + DAY), Some(1));
    // A number that nobody launches fills nothing.
    launch(b, true, 100_000, now);
    assert_eq!(b.save(now).launches.len(), REMEMBERED);
    assert_eq!(b.booting(now), MOST_MACHINES);
}

#[test]
fn a_launch_that_went_well_begins_the_cooldown() {
    let now = Instant::now();
    for (ok, launched, reason) in [
        (true, 2, Some(Reason::Cooldown)),
        (true, 0, None),
        (false, 0, None),
        (false, 1, Some(Reason::Failing)),
    ] {
        let mut a = fresh(now);
        launch(&mut a, ok, launched, now);
        let later = now + 20 * SECOND;
        assert_eq!(grow(&mut a, "app2", 2, later).err().map(|r| r.reason), reason);
    }
    let mut a = fresh(now);
    launch(&mut a, true, 1, now);
    assert_eq!(
        refused(grow(&mut a, "app2", 2, now + 20 * SECOND)),
        (Reason::Cooldown, 100)
    );
    assert_eq!(refused(retire(&mut a, "app2", 2, now)), (Reason::Cooldown, 600));
    assert!(grow(&mut a, "app2", 2, now + 120 * SECOND).is_ok());
}

#[test]
fn what_was_launched_boots_until_it_is_entered_failed_or_too_old() {
    let now = Instant::now();
    let mut a = fresh(now);
    launch(&mut a, true, 4, now);
    assert_eq!(a.booting(now), 4);
    assert!(a.entered(1, now));
    assert_eq!(a.booting(now), 3);
    a.failed(1, now);
    assert_eq!(a.booting(now), 2);
    let saved = a.save(now);
    assert_eq!(Arbiter::new(rules(), Some(saved.clone()), now).booting(now), 2);
    assert_eq!(a.booting(now + 299 * SECOND), 2);
    assert_eq!(a.booting(now + 300 * SECOND), 0);
    assert!(!a.entered(1, now + 300 * SECOND));
    // A clock that jumped does not stretch it.
    let jumped = Saved {
        booting: vec![(86_400 * SECOND, 1)],
        ..saved
    };
    assert_eq!(
        Arbiter::new(rules(), Some(jumped), now).booting(now + 300 * SECOND),
        0
    );
}

#[test]
fn failures_in_a_row_double_the_back_off_until_a_machine_serves() {
    let now = Instant::now();
    let mut a = fresh(now);
    a.failed(1, now);
    assert_eq!(refused(grow(&mut a, "app1", 1, now)), (Reason::Failing, 120));
    let restarted = Arbiter::new(rules(), Some(a.save(now)), now);
    assert_eq!(restarted.failing(Wish::Grow, now), (120 * SECOND, 1));
    let later = now + 120 * SECOND;
    launch(&mut a, false, 1, later);
    assert_eq!(refused(grow(&mut a, "app1", 1, later)), (Reason::Failing, 240));
    // It holds up no departure, and hands force nothing.
    assert!(retire(&mut a, "app1", 1, later).is_ok());
    a.finish("2-salt", "app1", false, 0, NOT_NOW, later);
    let force = Ask {
        force: true,
        ..Ask::plain(Wish::Grow)
    };
    assert_eq!(
        refused(a.ask(force, share(1), "app1", 1, "s", later)),
        (Reason::Failing, 240)
    );
    a.serves(later);
    assert_eq!(refused(grow(&mut a, "app1", 1, later)), (Reason::Cooldown, 120));
    assert_eq!(a.failing(Wish::Grow, later).1, 0);
}

#[test]
fn the_machines_of_one_launch_are_one_failure() {
    let now = Instant::now();
    let mut a = fresh(now);
    launch(&mut a, true, 3, now);
    for _ in 0..3 {
        a.failed(1, now);
    }
    assert_eq!(
        (a.failing(Wish::Grow, now), a.booting(now)),
        ((120 * SECOND, 1), 0)
    );
    a.failed(1, now);
    assert_eq!(a.failing(Wish::Grow, now).1, 2, "nobody knows of which launch");
}

#[test]
fn failed_departures_hold_up_departures_alone() {
    let now = Instant::now();
    let mut a = fresh(now);
    let leave = |a: &mut Arbiter, ok, text, now| {
        let id = retire(a, "app1", 1, now).unwrap().id.clone();
        a.finish(&id, "app1", ok, 0, text, now);
    };
    leave(&mut a, false, "not now: master lb2: few, 10 s", now);
    leave(&mut a, false, "EC2: UnauthorizedOperation", now);
    assert_eq!(refused(retire(&mut a, "app1", 1, now)), (Reason::Failing, 120));
    assert!(a.verdict(Ask::plain(Wish::Grow), share(1), 9, now).is_ok());
    let later = now + 120 * SECOND;
    leave(&mut a, false, "again", later);
    assert_eq!(refused(retire(&mut a, "app1", 1, later)), (Reason::Failing, 240));
    let later = later + 240 * SECOND;
    leave(&mut a, true, "", later);
    assert_eq!(refused(retire(&mut a, "app1", 1, later)), (Reason::Cooldown, 600));
    assert!(grow(&mut a, "app1", 1, later).is_ok(), "its own cooldown only");
}

#[test]
fn one_hot_machine_gets_one_more_per_window() {
    let now = Instant::now();
    let hot = || {
        Ok(Share {
            machines: 1,
            hot: true,
        })
    };
    let plain = Ask::plain(Wish::Grow);
    let mut a = fresh(now);
    let id = a.ask(plain, hot(), "app1", 1, "s", now).unwrap().id.clone();
    a.finish(&id, "app1", true, 1, "", now);
    let later = now + 130 * SECOND;
    let restarted = Arbiter::new(rules(), Some(a.save(now)), now);
    for a in [&a, &restarted] {
        let refusal = a.verdict(plain, hot(), 1, later).unwrap_err();
        assert_eq!((refusal.reason, refusal.wait), (Reason::Cooldown, 170 * SECOND));
        assert!(a.verdict(plain, share(3), 1, later).is_ok());
        let force = Ask { force: true, ..plain };
        assert!(a.verdict(force, hot(), 1, later).is_ok());
    }
    assert!(a.verdict(plain, hot(), 1, now + 300 * SECOND).is_ok());
}

#[test]
fn to_put_things_right_needs_no_cooldown_and_begins_none() {
    let now = Instant::now();
    let mut a = fresh(now);
    launch(&mut a, true, 1, now);
    a.failed(1, now);
    let repair = Ask {
        machines: Some(0),
        ..Ask::plain(Wish::Grow)
    };
    let full = || {
        Err(Refusal {
            reason: Reason::Full,
            wait: SECOND,
        })
    };
    let before = a.save(now);
    let lease = a.ask(repair, full(), "app1", 1, "s", now).unwrap().clone();
    assert_eq!(lease.share, Share::NONE);
    assert_eq!(
        refused(a.ask(repair, full(), "app2", 2, "s", now)).0,
        Reason::Holder
    );
    a.finish(&lease.id, "app1", true, 0, "", now);
    let after = a.save(now);
    assert_eq!(
        Saved {
            epoch: before.epoch,
            ..after
        },
        before,
        "nothing but the epoch is another"
    );
    a.ask(repair, full(), "app1", 1, "s", now).unwrap();
    a.expire(now + 30 * SECOND).unwrap();
    assert_eq!(a.save(now).launches.len(), 1);
    let b = &mut Arbiter::new(rules(), Some(before), now);
    assert_eq!(
        refused(b.ask(repair, full(), "app1", 1, "s", now)).0,
        Reason::Starting
    );
}

#[test]
fn force_passes_over_cooldowns_alone() {
    let now = Instant::now();
    let mut a = fresh(now);
    launch(&mut a, true, 1, now);
    for (wish, machines) in [(Wish::Grow, 2), (Wish::Leave, 0)] {
        let ask = |force| Ask {
            force,
            ..Ask::plain(wish)
        };
        assert_eq!(
            a.verdict(ask(false), share(machines), 1, now).unwrap_err().reason,
            Reason::Cooldown
        );
        assert!(a.verdict(ask(true), share(machines), 1, now).is_ok());
        let few = Refusal {
            reason: Reason::Few,
            wait: SECOND,
        };
        assert_eq!(a.verdict(ask(true), Err(few.clone()), 1, now), Err(few));
    }
}

#[test]
fn nobody_holds_a_lease_for_longer_than_an_hour() {
    let now = Instant::now();
    let mut a = fresh(now);
    let lease = grow(&mut a, "app1", 1, now).unwrap().clone();
    for seconds in (10..3600).step_by(10) {
        let at = now + seconds * SECOND;
        assert_eq!(a.expire(at), None, "after {seconds} s");
        a.renew(1, at);
    }
    let restarted = Arbiter::new(rules(), Some(a.save(now + 3590 * SECOND)), now + 3590 * SECOND);
    let end = now + 3600 * SECOND;
    assert_eq!(a.lease().unwrap().expires, end);
    assert_eq!(restarted.lease().unwrap().expires, end);
    assert!(a.hold(&lease.id, "app1", 2, now + 3599 * SECOND).is_ok());
    assert!(a.expire(end).is_some());
}

#[test]
fn other_rules_hold_at_once() {
    let now = Instant::now();
    let mut a = fresh(now);
    launch(&mut a, true, 1, now);
    let shorter = Rules {
        cooldown: 5 * SECOND,
        scale_down_cooldown: 6 * SECOND,
        boot_timeout: 7 * SECOND,
        ..rules()
    };
    a.set_rules(shorter, now);
    assert_eq!(refused(grow(&mut a, "app1", 1, now)), (Reason::Cooldown, 5));
    assert_eq!(refused(retire(&mut a, "app1", 1, now)), (Reason::Cooldown, 6));
    assert_eq!(a.booting(now + 7 * SECOND), 0);
}

#[test]
fn only_the_holder_finishes() {
    let now = Instant::now();
    let mut a = fresh(now);
    let id = grow(&mut a, "app1", 1, now).unwrap().id.clone();
    assert_eq!(a.finish(&id, "app2", true, 1, "", now), None);
    assert_eq!(a.finish("9-x", "app1", true, 1, "", now), None);
    assert!(a.lease().is_some());
    assert_eq!(a.cooldown_left(now), Duration::ZERO);
}

#[test]
fn a_node_that_left_without_a_word_keeps_others_from_leaving_but_not_from_scaling_up() {
    let now = Instant::now();
    let mut a = fresh(now);
    retire(&mut a, "app1", 1, now).unwrap();
    let later = now + 30 * SECOND;
    a.expire(later).unwrap();
    assert_eq!(refused(retire(&mut a, "app2", 2, later)).0, Reason::Cooldown);
    assert!(grow(&mut a, "app2", 2, later).is_ok());
}

#[test]
fn a_restarted_master_waits_one_lease_in_which_the_holder_may_hold() {
    let now = Instant::now();
    let mut a = fresh(now);
    let three = a.ask(Ask::plain(Wish::Grow), share(3), "app1", 1, "s", now);
    let lease = three.unwrap().clone();
    let mut b = Arbiter::new(rules(), Some(a.save(now)), now);
    assert_eq!(grow(&mut b, "app2", 1, now).unwrap_err().reason, Reason::Starting);
    assert!(b.hold(&lease.id, "app2", 1, now).is_err(), "it is another's");
    let held = b.hold(&lease.id, "app1", 2, now + SECOND).unwrap();
    assert_eq!(
        (&held.id, held.epoch, held.share),
        (&lease.id, lease.epoch, lease.share)
    );
    let refusal = grow(&mut b, "app2", 1, now + 30 * SECOND).unwrap_err();
    assert_eq!(refusal.reason, Reason::Holder);
    assert!(
        b.finish(&lease.id, "app1", true, 0, "", now + 30 * SECOND)
            .is_some()
    );
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
    a.finish("9-ab", "app1", false, 0, "", now);
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
    b.finish(&next.id, "app2", false, 0, "", later);
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
