use super::super::tests::report;
use super::*;

fn look(width: usize) -> Look {
    Look {
        width,
        bars: true,
        colours: false,
        unicode: false,
        threshold: 50,
        scale_down: false,
    }
}

fn example() -> Report {
    report(
        "lb1",
        &[
            "NODE app1 92 1",
            "NODE app2 14 3",
            "LEASE app1 20",
            "MASTER 0.1.0 7260 7",
            "HOSTS 3 1 10 2 1 3",
            "NEED 2 loads 2 serve at 53%, threshold 50%: the loads call for 4",
            "HELD SCALE 12 3",
            "MAY SCALE holder 20",
            "MAY RETIRE holder 20",
            "DECISION 12 app1 SCALE 92 1 granted 0 ",
            "DECISION 200 app2 SCALE - 4 refused 0 cooldown, 3 s left",
            "DECISION 300 app2 SCALE 88 1 failed 43 EC2: no capacity",
            "BLOCKED full 130",
            "BACKOFF SCALE 60 2",
            "REFUSED app9 4 7 its [cluster] secret is not this master's",
            "DOUBLE web/i-1 web/i-2 has the same host name; they count as two",
            "SETTING threshold 50% 50 file",
            "SETTING cooldown 30s 30 default",
            "ENTRY app1 10.0.0.1 80 i-1 UP 5 web/i-1",
            "ENTRY app3 10.0.0.3 80 i-3 DOWN 5 -",
            "TUNNEL app1 10.0.0.1 up 7200 65432 ",
            "TUNNEL app2 10.0.0.2 down 12 - ssh: refused",
            "HAPROXY servers up ",
            "SERVER app1 10.0.0.1:80 UP",
            "SERVER app2 10.0.0.2:80 missing",
        ],
    )
}

#[test]
fn one_look_says_why() {
    let text = view(&[example()], &[], &look(100), None).join("\n");
    let expected = "\
master lb1  (0.1.0, up for 2 h 1 min)
  nodes       2, of which 1 at or over the threshold of 50%
    app1   92%  ##################..  1 s ago
    app2   14%  ###.................  3 s ago
  entries     3, of which 2 serve, 1 DOWN (app3); 3 booting
  need        2 missing by loads: 2 serve at 53%, threshold 50%: the loads call for 4
  lease       app1 has it for 12 s, to add 3 machines; 20 s left
  cooldown    none
  scale-up    no: holder, app1 has the lease
  scale-down  off: scale_down_threshold is 0
  blocked     for 2 min 10 s: machines are needed, and refused for full
  back-off    scale-up: 2 failures in a row, 60 s left
  refused     1 node is not let in
    app9  7 times, the last 4 s ago: its [cluster] secret is not this master's
  double      web/i-1: web/i-2 has the same host name; they count as two
  settings    threshold = 50%
  decisions
    12 s ago        app1 at 92%: scale-up granted, and under way
    3 min 20 s ago  app2: scale-up refused: cooldown, 3 s left (4 times)
    5 min ago       app2 at 88%: scale-up failed after 43 s: EC2: no capacity
  tunnels     1 of 2 up
    app1  10.0.0.1  up for 2 h, port 65432, node web/i-1
    app2  10.0.0.2  down for 12 s: ssh: refused
  HAProxy     backend servers: up
    app1  10.0.0.1:80  UP
    app2  10.0.0.2:80  missing; run: autoscaler generate";
    assert_eq!(text, expected);
}

#[test]
fn masters_that_differ_are_named() {
    let lb = |name, cooldown: &str| {
        let settings = [
            format!("SETTING cooldown {cooldown} 30 file"),
            "SETTING max_hosts 9 9 file".into(),
        ];
        report(name, &settings.each_ref().map(String::as_str))
    };
    let text = view(&[lb("lb1", "30s"), lb("lb2", "1m")], &[], &look(100), None);
    assert_eq!(
        text.last().unwrap(),
        "masters differ: cooldown is 30s on lb1, 1m on lb2"
    );
    let silent = Host {
        name: "lb2".into(),
        error: Some("ssh: no route".into()),
    };
    let text = view(&[lb("lb1", "30s")], &[silent], &look(100), None);
    assert_eq!(
        text.last().unwrap(),
        "HAProxy host lb2 does not answer: ssh: no route"
    );
    let same = view(&[lb("lb1", "30s"), lb("lb2", "30s")], &[], &look(100), None).join("\n");
    assert!(!same.contains("differ"), "{same}");
}

#[test]
fn narrow_terminals_cut_and_colours_wrap_whole_lines() {
    let mut seen = Seen::default();
    for _ in 0..100 {
        seen.add(&[example()]);
    }
    for width in [1, 20, 40, 60, 80, 200] {
        let lines = view(&[example()], &[], &look(width), Some(&seen));
        assert!(lines.iter().all(|l| l.chars().count() <= width), "{width}");
    }
    let wide = view(&[example()], &[], &look(80), Some(&seen));
    assert!(wide[2].contains("  ##################..  *****"), "{}", wide[2]);
    let colours = Look {
        colours: true,
        ..look(10)
    };
    let lines = view(&[example()], &[], &colours, None);
    assert_eq!(lines[2], "\x1b[31m    app   \x1b[0m");
    seen.add(&[]);
    assert!(seen.0.is_empty());
}

#[test]
fn every_answer_is_explained() {
    let say = |lines: &[&str], may: &str| answer(&report("lb1", lines), &Fact::parse(may).unwrap());
    assert_eq!(say(&[], "MAY SCALE yes 0"), "would be granted");
    assert_eq!(
        say(&[], "MAY SCALE cooldown 130"),
        "no: cooldown, 2 min 10 s left"
    );
    assert!(say(&[], "MAY SCALE starting 9").contains("starting, 9 s"));
    assert!(say(&["HOSTS 10 1 10 9 0 0"], "MAY SCALE full 10").contains("max_hosts is 10"));
    assert!(say(&["HOSTS 8 1 10 8 0 2"], "MAY SCALE full 10").contains("and 2 machines booting"));
    assert!(say(&["HOSTS 9 1 10 9 0 0"], "MAY SCALE full 10").contains("max_launches_per_day"));
    assert!(say(&["HOSTS 9 1 10 9 0 2"], "MAY SCALE booting 10").contains("2 machines"));
    assert!(say(&["HOSTS 1 1 10 1 0 0"], "MAY RETIRE few 10").contains("min_hosts is 1"));
    assert!(say(&["HOSTS 5 1 10 5 0 0"], "MAY RETIRE few 10").contains("nobody else"));
    assert!(say(&["HOSTS 5 1 10"], "MAY RETIRE loaded 10").contains("the others"));
    assert!(say(&[], "MAY SCALE failing 61").contains("back-off after failures, 61 s left"));
    assert_eq!(span(100_000), "1 d 3 h");
}
