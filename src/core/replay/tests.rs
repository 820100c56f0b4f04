use std::time::Instant;

use super::world::MASTER;
use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn policy() -> Policy {
    Policy {
        title: "threshold 50%".into(),
        details: String::new(),
        node: Settings {
            threshold: 50.0,
            window: 10 * SECOND,
            scale_down_threshold: 0.0,
            scale_down_window: 60 * SECOND,
            sample_interval: SECOND,
            servers: vec![MASTER.into()],
            plan: crate::core::plan::Rules {
                ec2: true,
                boot_timeout: 300 * SECOND,
                cooldown: 120 * SECOND,
                replace_after: Duration::ZERO,
                max_hosts: 10,
                min_hosts: 1,
                max_launches_per_day: 0,
                named: true,
                port: 80,
            },
            by_group: false,
            blocked_after: Duration::ZERO,
        },
        master: lease::Rules {
            lease: 30 * SECOND,
            cooldown: 120 * SECOND,
            scale_down_cooldown: 120 * SECOND,
            max_hosts: 10,
            min_hosts: 1,
            threshold: 50.0,
            max_step: 0,
            scale_down_window: 900 * SECOND,
            boot_timeout: 300 * SECOND,
            max_launches_per_day: 0,
        },
    }
}

/// So many machines, with a boot of a minute.
fn model(machines: usize) -> Model {
    Model {
        requests: false,
        machines,
        boots: Boots::parse("60s").unwrap(),
        spread: 0.0,
        yardstick: 50.0,
    }
}

/// Replays CSV on `machines`, with a boot of a minute.
fn replay(csv: &str, machines: usize, policy: &Policy) -> Run {
    let trace = parse(csv, Some(machines)).unwrap();
    let model = model(machines);
    run(&trace, &model, policy, Instant::now())
}

fn changes(run: &Run) -> Vec<(u64, usize, usize)> {
    run.events
        .iter()
        .map(|e| (e.at.as_secs(), e.from, e.to))
        .collect()
}

#[test]
fn under_the_threshold_nothing_happens() {
    let run = replay("0,49.9\n3600,49.9\n7200,49.9\n", 3, &policy());
    assert_eq!(changes(&run), []);
    assert_eq!(run.machine_time, 3 * 10_800 * SECOND);
    assert_eq!((run.over.len(), run.full.len(), run.peak), (0, 0, 3));
}

#[test]
fn a_tiny_trace_by_hand() {
    // 2 machines idle for 100 s, then at 60% of two, which is 40% of three.
    let run = replay("0,0\n100,60\n600,60\n", 2, &policy());
    // A full window of ten samples with a mean of 50: the ninth of 60 makes it 54.
    assert_eq!(changes(&run), [(109, 2, 3)]);
    assert_eq!(run.events[0].why, "CPU at 54% over 10 s");
    assert_eq!(run.serving, [(Duration::ZERO, 2), (169 * SECOND, 3)]);
    let boot = Boot {
        begin: 109 * SECOND,
        end: 169 * SECOND,
        level: 2,
    };
    assert_eq!(run.boots, [boot]);
    // The last row holds for as long as rows do: until 1100.
    assert_eq!(run.machine_time, (2 * 1100 + (1100 - 109)) * SECOND);
    assert_eq!(run.over, [(100 * SECOND, 169 * SECOND)]);
    assert_eq!((run.worst, run.peak), ((60.0, 100 * SECOND), 3));
}

#[test]
fn the_time_over_one_yardstick_is_the_same_measure_for_all() {
    let (csv, mut late) = ("0,0\n100,60\n600,60\n", policy());
    late.node.threshold = 60.0;
    let run = replay(csv, 2, &late);
    // A full window of ten samples at 60.
    assert_eq!(run.over, [(100 * SECOND, 170 * SECOND)]);
    assert_eq!(run.over_yardstick, 70 * SECOND);
    assert_eq!(replay(csv, 2, &policy()).over_yardstick, 69 * SECOND);
    let without = replay(csv, 2, &late.without_scaling());
    assert_eq!((changes(&without), without.peak), (vec![], 2));
    assert_eq!(
        (without.over_yardstick, without.machine_time),
        (1000 * SECOND, 2200 * SECOND)
    );
}

#[test]
fn as_many_are_launched_as_are_missing() {
    let run = replay("0,100\n600,100\n", 4, &policy());
    // 400 of one machine: nine are the fewest under 50 each.
    assert_eq!(changes(&run), [(10, 4, 9)]);
    assert_eq!(run.serving, [(Duration::ZERO, 4), (70 * SECOND, 9)]);
    let levels: Vec<usize> = run.boots.iter().map(|boot| boot.level).collect();
    assert_eq!(levels, [4, 5, 6, 7, 8]);
    assert_eq!(run.full, [(Duration::ZERO, 70 * SECOND)]);
    let mut one_by_one = policy();
    one_by_one.master.max_step = 1;
    let run = replay("0,100\n600,100\n", 4, &one_by_one);
    assert!(run.events.iter().all(|event| event.to <= event.from + 1));
}

#[test]
fn each_machine_of_a_launch_takes_its_own_time() {
    let trace = parse("0,100\n600,100\n", Some(4)).unwrap();
    let boots = Boots::parse("45s-90s").unwrap();
    let model = Model { boots, ..model(4) };
    let run = run(&trace, &model, &policy(), Instant::now());
    let times: Vec<Duration> = run
        .boots
        .iter()
        .take(5)
        .map(|boot| boot.end - boot.begin)
        .collect();
    assert!(times.is_sorted() && times[0] < times[4], "{times:?}");
    let mut expected: Vec<Duration> = (5..=9).map(|number| boots.time(number)).collect();
    expected.sort();
    assert_eq!(times, expected);
    let came: Vec<Duration> = run.serving[1..6].iter().map(|(at, _)| *at).collect();
    let ends: Vec<Duration> = run.boots[..5].iter().map(|boot| boot.end).collect();
    assert_eq!(came, ends);
}

#[test]
fn each_launch_waits_for_the_cooldown_of_the_one_before() {
    let run = replay("0,100\n60,100\n2000,100\n", 1, &policy());
    // Two machines more, and no more: 100 of one is 33 each.
    assert_eq!(changes(&run), [(10, 1, 3)]);
    // Four machines' work on one shows 100% only: two more, a boot of 60 s, a cooldown of 120 s, four more.
    let trace = parse("0,98\n600,98\n", Some(4)).unwrap();
    let run = super::run(&trace, &model(1), &policy(), Instant::now());
    assert_eq!(changes(&run), [(10, 1, 3), (190, 3, 7), (370, 7, 8)]);
    assert_eq!(run.full, [(Duration::ZERO, 250 * SECOND)]);
    // Of 392 to do, 100 was done for 70 s and 300 for 180 s.
    assert_eq!(run.unmet.round(), 292.0 * 70.0 + 92.0 * 180.0);
    assert!((run.unmet_percent() - 100.0 * run.unmet / (392.0 * 1200.0)).abs() < 1e-9);
}

#[test]
fn requests_show_the_load_beyond_a_hundred_percent() {
    let trace = parse("0,10\n600,95\n2000,95\n", Some(4)).unwrap();
    let seeing = |requests| Model { requests, ..model(1) };
    let deaf = run(&trace, &seeing(false), &policy(), Instant::now());
    let seen = run(&trace, &seeing(true), &policy(), Instant::now());
    assert!(
        seen.over_yardstick < deaf.over_yardstick,
        "{:?} {:?}",
        seen.events,
        deaf.events
    );
}

#[test]
fn overload_is_what_the_machines_are_short_of() {
    let run = replay("0,100\n60,100\n", 4, &policy());
    assert_eq!(run.worst, (100.0, Duration::ZERO));
    let model = model(2);
    let trace = parse("0,100\n60,100\n", Some(4)).unwrap();
    assert_eq!(
        super::run(&trace, &model, &policy(), Instant::now()).worst.0,
        200.0
    );
}

#[test]
fn machines_leave_when_the_others_can_take_their_load() {
    let mut policy = policy();
    policy.node.scale_down_threshold = 20.0;
    let run = replay("0,10\n600,10\n", 3, &policy);
    // After a window of 60 s and its re-sampling, then a cooldown of 120 s; the last one stays.
    assert_eq!(changes(&run), [(61, 3, 2), (182, 2, 1)]);
    assert_eq!(run.machine_time, (61 * 3 + 121 * 2 + (1200 - 182)) * SECOND);
}

#[test]
fn what_max_hosts_forbids_is_noted_once() {
    let mut policy = policy();
    policy.master.max_hosts = 2;
    let run = replay("0,100\n600,100\n", 2, &policy);
    assert_eq!(changes(&run), [(10, 2, 2)]);
    assert!(run.events[0].why.contains("max_hosts"));
}

#[test]
fn so_is_what_the_limit_of_a_day_forbids() {
    let mut policy = policy();
    policy.master.max_launches_per_day = 1;
    let run = replay("0,100\n600,100\n", 1, &policy);
    assert_eq!(changes(&run), [(10, 1, 2), (190, 2, 2)]);
    assert!(run.events[1].why.ends_with("but max_launches_per_day is reached"));
}

#[test]
fn the_busiest_machine_decides() {
    let trace = parse("0,45\n600,45\n", Some(3)).unwrap();
    let spread = |spread| Model { spread, ..model(3) };
    let even = run(&trace, &spread(0.0), &policy(), Instant::now());
    let uneven = run(&trace, &spread(20.0), &policy(), Instant::now());
    assert_eq!(changes(&even), []);
    assert_eq!(changes(&uneven), [(10, 3, 4)]);
    assert_eq!(uneven.events[0].why, "CPU at 54% over 10 s");
    assert_eq!(uneven.worst.0, 54.0);
}

#[test]
fn the_picture_escapes_what_a_name_may_hold() {
    let trace = parse("0,0\n100,60\n600,60\n", None).unwrap();
    let model = model(1);
    let runs = [run(&trace, &model, &policy(), Instant::now())];
    let picture = svg("a<b>&\u{1b}\"c", &trace, &model, &runs);
    assert!(picture.contains("a&lt;b&gt;&amp; \"c"));
    assert_eq!(picture, svg("a<b>&\u{1b}\"c", &trace, &model, &runs));
}

/// An hour and a half with a row every `step` s: as much as `work` percent of one machine asks for, up
/// to `noise` more or less, as a share.
fn noisy(work: f64, noise: f64, step: u64, seed: u64) -> Trace {
    let rows = (0..5400 / step).map(|row| {
        let chance = Boots {
            least: Duration::ZERO,
            most: 2000 * SECOND,
            seed,
        };
        let share = 1.0 + noise * (chance.time(row).as_secs_f64() / 1000.0 - 1.0);
        format!("{},{}\n", row * step, work * share / 40.0)
    });
    parse(&rows.collect::<String>(), Some(40)).unwrap()
}

/// The settings that are sensitive: leaving soon, and as many as may be.
fn lively() -> Policy {
    let mut policy = policy();
    policy.node.scale_down_threshold = 45.0;
    policy.node.plan.cooldown = 10 * SECOND;
    policy.node.plan.max_hosts = 40;
    policy.node.scale_down_window = 180 * SECOND;
    policy.master = lease::Rules {
        cooldown: 10 * SECOND,
        scale_down_cooldown: 10 * SECOND,
        scale_down_window: 180 * SECOND,
        max_hosts: 40,
        ..policy.master
    };
    policy
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 24 } else { 200 }))]

    #[test]
    fn a_constant_load_never_flaps(machines in 1usize..12, work in 1.0f64..900.0, requests: bool) {
        let trace = noisy(work, 0.0, 60, 0);
        let run = run(&trace, &Model { requests, ..model(machines) }, &lively(), Instant::now());
        prop_assert_eq!(report::turns(&run).0, 0, "{:?}", run.events);
        let late = |event: &&Event| event.at > 2700 * SECOND;
        prop_assert!(run.events.iter().find(late).is_none(), "{:?}", run.events);
    }

    #[test]
    fn nor_does_one_with_noise(
        machines in 1usize..12,
        work in 1.0f64..900.0,
        step in prop::sample::select(vec![1u64, 5, 20, 60]),
        seed: u64,
        requests: bool,
    ) {
        let trace = noisy(work, 0.1, step, seed);
        let run = run(&trace, &Model { requests, ..model(machines) }, &lively(), Instant::now());
        prop_assert!(report::turns(&run).0 <= 1, "{:?}", run.events);
    }
}
