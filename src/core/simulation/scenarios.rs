//! Whole days of a site that went wrong once, each by itself.

use super::Ms;
use super::events::Event;
use super::random::Random;
use super::rest::Settling;
use super::site::{Faults, Lasting, Site};
use super::world::World;

const SECOND: Ms = 1000;

/// Sites of so many machines, all launched by autoscaler, with little to do.
fn sites(machines: usize, change: impl Fn(&mut Site)) -> impl Iterator<Item = World> {
    (0..20).map(move |seed| {
        let mut random = Random::new(seed);
        let mut site = Site {
            by_hand: 0,
            launched: machines,
            min_hosts: 1,
            max_hosts: 12,
            max_step: 0,
            max_launches: 0,
            threshold: 60.0,
            scale_down_threshold: 0.0,
            replace_after: 120 * SECOND,
            faults: Faults::default(),
            ..Site::draw(&mut random)
        };
        change(&mut site);
        let mut world = World::of(site, random, false);
        world.load = 10.0 * machines as f64;
        world
    })
}

/// How many were launched, and how many ended.
fn changes(world: &World) -> (usize, usize) {
    let launched = world.launches.iter().map(|launch| launch.count).sum();
    let ended = world.cloud.vms.values().filter(|vm| vm.ended.is_some()).count();
    (launched, ended)
}

/// Runs it until it has been at rest after all that.
fn run(world: &mut World, last: Ms) {
    world.site.faults.until = last;
    world.run();
    assert_eq!(world.violation, None);
}

#[test]
fn a_site_grows_with_its_load_and_shrinks_again() {
    for mut world in sites(2, |site| (site.min_hosts, site.scale_down_threshold) = (2, 20.0)) {
        for (load, machines, why) in [
            (
                500.0,
                9,
                "over 8 it is still over the threshold of 60, over 9 it is not",
            ),
            (40.0, 2, "10 each, then 13, then 20, and never under min_hosts"),
        ] {
            world.load = load;
            world.settled = Settling::default();
            world.done = false;
            world.run();
            assert_eq!(world.violation, None);
            assert_eq!(world.cloud.live().count(), machines, "{why}");
        }
    }
}

#[test]
fn a_rolling_restart_changes_nothing() {
    for mut world in sites(4, |site| site.min_hosts = 4) {
        for machine in 0..4 {
            let at = 60 * SECOND + 30 * SECOND * machine as Ms;
            world.at(at, Event::Sick(machine, at + 20 * SECOND));
        }
        run(&mut world, 300 * SECOND);
        assert_eq!(changes(&world), (0, 0));
    }
}

#[test]
fn half_of_a_site_that_is_down_is_not_ended() {
    for (machines, sick) in [(4, 2), (3, 2), (6, 4)] {
        for mut world in sites(machines, |_| ()) {
            for machine in 0..sick {
                world.at(60 * SECOND, Event::Sick(machine, 900 * SECOND));
            }
            run(&mut world, 900 * SECOND);
            assert_eq!(changes(&world), (0, 0), "{sick} of {machines}");
        }
    }
}

#[test]
fn one_that_hangs_is_replaced_and_the_one_that_serves_stays() {
    for mut world in sites(2, |site| (site.min_hosts, site.scale_down_threshold) = (2, 20.0)) {
        world.at(60 * SECOND, Event::Sick(0, Ms::MAX));
        run(&mut world, 900 * SECOND);
        assert_eq!(changes(&world), (1, 1));
        assert!(world.cloud.vms[&0].ended.is_some());
    }
}

#[test]
fn what_ends_in_the_console_is_replaced_once() {
    for mut world in sites(4, |site| site.min_hosts = 4) {
        world.at(60 * SECOND, Event::Retire(1));
        world.at(60 * SECOND, Event::Retire(2));
        run(&mut world, 400 * SECOND);
        assert_eq!(changes(&world), (2, 2));
    }
}

/// Six are busy, and each would launch.
#[test]
fn a_bad_image_costs_one_attempt_for_each_back_off() {
    for healthy in [false, true] {
        let bad = Some(Lasting::BadImage { healthy });
        for mut world in sites(6, |site| (site.faults.lasting, site.balancers) = (bad, 1)) {
            world.load = 500.0;
            run(&mut world, 0);
            let attempts = world.launches.len() as u32;
            let doublings = (1800 * SECOND / world.site.cooldown).ilog2() + 2;
            assert!((2..=doublings).contains(&attempts), "{attempts} attempts");
            assert!((0..6).all(|n| world.cloud.vms[&n].is_live()));
        }
    }
}
