use super::*;

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
fn each_launch_waits_for_the_cooldown_of_the_one_before() {
    let run = replay("0,100\n600,100\n", 1, &policy());
    let at: Vec<u64> = run.events.iter().map(|e| e.at.as_secs()).collect();
    // Launch, boot of 60 s, cooldown of 120 s; at two machines 100 of one is 50 each, the threshold.
    assert_eq!(at, [10, 190]);
    assert_eq!(run.serving.last(), Some(&(250 * SECOND, 3)));
    assert_eq!(run.full, [(Duration::ZERO, 70 * SECOND)]);
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
