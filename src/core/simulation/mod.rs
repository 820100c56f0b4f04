//! Whole sites on a clock of their own: the real [`Node`](crate::core::node::Node)s and
//! [`Master`](crate::core::master::Master)s, with everything around them (network, disks, clocks, EC2,
//! HAProxy hosts, processes that die) made up, and going wrong, from one seed.
//!
//! After faults for a while, all is well again, the load stays, and the site has to come to rest at
//! the size that the load asks for. `invariants` says what has to hold until then and from then on.

mod balancer;
mod calls;
mod cloud;
mod events;
mod faults;
mod hands;
mod haproxy;
mod invariants;
mod ledger;
mod machines;
mod network;
mod random;
mod rest;
mod scenarios;
mod server;
mod site;
mod worker;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use world::World;

/// Milliseconds since the beginning of a run.
type Ms = u64;

fn run(seed: u64, trace: bool) -> (Option<String>, u64) {
    let mut world = World::new(seed, trace);
    world.run();
    (world.violation, world.events)
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{variable}: `{value}` is not a number")),
    )
}

/// `SEED=n` replays one and prints what happens; `SEEDS=n` runs so many, beginning with `FROM=n`, of which up to
/// `FAILURES=n` are reported.
#[test]
fn whatever_fails() {
    if let Some(seed) = number("SEED") {
        let (violation, _) = run(seed, true);
        assert_eq!(violation, None);
        return;
    }
    let seeds = number("SEEDS").unwrap_or(300);
    let first = number("FROM").unwrap_or(0);
    let seeds = first + seeds;
    let (next, events) = (AtomicU64::new(first), AtomicU64::new(0));
    let failed: Mutex<Vec<(u64, String)>> = Mutex::default();
    let most = number("FAILURES").unwrap_or(1) as usize;
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || failed.lock().unwrap().len() >= most {
                        return;
                    }
                    let (violation, count) = run(seed, false);
                    events.fetch_add(count, Ordering::Relaxed);
                    if let Some(text) = violation {
                        failed.lock().unwrap().push((seed, text));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    println!(
        "{} seeds, {} events",
        next.into_inner().min(seeds) - first,
        events.into_inner()
    );
    for (seed, text) in &failed {
        println!("# {text}\nSEED={seed} cargo test --profile simulation simulation -- --nocapture");
    }
    assert!(failed.is_empty(), "{} failed", failed.len());
}
