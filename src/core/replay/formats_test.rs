use super::*;
use crate::core::replay::parse;
use proptest::prelude::*;

/// Begin, end and percent of each row, times in seconds.
fn read(text: &str) -> Vec<(i64, Option<i64>, f64)> {
    let rows = rows(text, None, &mut Clock::default()).unwrap();
    let seconds = |ms: i64| ms / 1000;
    rows.iter()
        .map(|r| {
            (
                seconds(r.begin),
                r.end.map(seconds),
                (r.percent * 100.0).round() / 100.0,
            )
        })
        .collect()
}

fn refused(text: &str) -> (usize, String) {
    parse(text, None).unwrap_err()
}

#[test]
fn csv_in_all_its_ways() {
    let plain = [(0, None, 12.5), (60, None, 50.0)];
    for text in [
        "0,12.5\n60,50\n",
        "time,percent\n0,12.5\n60,50\n",
        "# a pattern\n\ntime;cpu\r\n0;12,5\r\n60;50\r\n",
        "\u{feff}\"0\"\t\"12.5%\"\n60\t50%\n",
        "00:00,12.5\n00:01,50\n",
    ] {
        assert_eq!(read(text), plain, "{text:?}");
    }
}

#[test]
fn columns_of_several_machines() {
    let rows = rows(
        "time,web1,web2,web3\n0,10,20,30\n60,0,0,100\n",
        None,
        &mut Clock::default(),
    )
    .unwrap();
    let sums: Vec<_> = rows.iter().map(|r| (r.percent, r.machines)).collect();
    assert_eq!(sums, [(60.0, 3), (100.0, 3)]);
    let counted = |hosts| {
        let text = "time,percent,machines\n0,10,4\n60,10,5\n";
        let rows = super::rows(text, hosts, &mut Clock::default()).unwrap();
        rows.iter().map(|r| (r.percent, r.machines)).collect::<Vec<_>>()
    };
    assert_eq!(counted(None), [(40.0, 4), (50.0, 5)]);
    assert_eq!(counted(Some(2)), [(20.0, 2), (20.0, 2)]);
    assert!(
        parse("0,10,20\n60,10,20\n", Some(2))
            .unwrap_err()
            .1
            .contains("--hosts")
    );
}

const SAR: &str = "Linux 6.1.0 (vm) \t11/24/26 \t_x86_64_\t(2 CPU)

11:50:01 PM     CPU     %user     %nice   %system   %iowait    %steal     %idle
12:00:01 AM     all     10.00      0.00      5.00      5.00      0.00     80.00
12:00:01 AM       0     90.00      0.00      5.00      5.00      0.00      0.00
12:10:01 AM     all     50.00      0.00     10.00      0.00      0.00     40.00
Average:        all     30.00      0.00      7.50      2.50      0.00     60.00

11:50:01 PM    proc/s   cswch/s
12:00:01 AM     48.00   1876.00

12:20:00 AM  LINUX RESTART\t(2 CPU)

12:25:01 AM     CPU     %user     %nice   %system   %iowait    %steal     %idle
12:30:01 AM     all      1.00      0.00      0.00      0.00      0.00     99.01
";

#[test]
fn sar_over_midnight_and_a_restart() {
    let day = 86_400;
    assert_eq!(
        read(SAR),
        [
            (day - 599, Some(day + 1), 15.0),
            (day + 1, Some(day + 601), 60.0),
            (day + 1501, Some(day + 1801), 0.99),
        ]
    );
}

#[test]
fn clocks_of_other_languages() {
    for time in [
        "{h}時{m}分{s}秒",
        "{h}时{m}分{s}秒",
        "{h}시 {m}분 {s}초",
        "{h}.{m}.{s}",
        "{h}:{m}:{s}",
    ] {
        let at = |h: &str, m: &str, s: &str| time.replace("{h}", h).replace("{m}", m).replace("{s}", s);
        let text = format!(
            "Linux 6.1.0 (vm) \t2026年11月24日 \t_x86_64_\t(2 CPU)\n\n{}     CPU     %user     %nice   %system   \
             %iowait    %steal     %idle\n{}     all      5,00      0,00      5,00      0,00      0,00     90,00\n\
             {}     all      5.00      0.00      5.00      0.00      0.00     80.00\nKeskiarvo:  all 1 2 3 4 5 6\n",
            at("17", "45", "02"),
            at("17", "55", "02"),
            at("18", "05", "02"),
        );
        let begin = 17 * 3600 + 45 * 60 + 2;
        let rows = [
            (begin, Some(begin + 600), 10.0),
            (begin + 600, Some(begin + 1200), 20.0),
        ];
        assert_eq!(read(&text), rows, "{text}");
    }
}

#[test]
fn cloudwatch_tells_of_each_machine() {
    let text = "{\"Label\": \"CPUUtilization\", \"Datapoints\": [
        {\"Timestamp\": \"1970-01-01T00:05:00Z\", \"Average\": 20},
        {\"Timestamp\": \"1970-01-01T00:00:00Z\", \"Average\": 10}]}";
    assert_eq!(read(text), [(0, None, 10.0), (300, None, 20.0)]);
    let trace = parse(text, Some(3)).unwrap();
    assert_eq!((trace.machines, trace.spans[0].1), (3, 30.0));
}

#[test]
fn a_binary_file_of_sar_is_named() {
    for start in ["\u{fffd}\u{fffd}u!", "\0\u{fffd}", "u\0"] {
        let (line, why) = refused(start);
        assert!(line == 0 && why.contains("sar -u -f FILE"), "{why}");
    }
}

#[test]
fn sadf_and_its_intervals() {
    let database = "# hostname;interval;timestamp;CPU;%user;%nice;%system;%iowait;%steal;%idle
vm;60;1970-01-01 00:01:00 UTC;-1;10,00;0,00;5,00;5,00;0,00;80,00
vm;60;1970-01-01 00:01:00 UTC;0;10,00;0,00;5,00;5,00;0,00;0,00
# hostname;interval;timestamp;tps;rtps
vm;60;1970-01-01 00:01:00 UTC;1;2
vm;-1;1970-01-01 00:01:30 UTC;LINUX-RESTART\t(2 CPU)
# hostname;interval;timestamp;CPU;%user;%nice;%system;%iowait;%steal;%idle
vm;60;1970-01-01 00:03:00 UTC;-1;10,00;0,00;5,00;5,00;0,00;40,00
";
    let lines = "vm\t60\t60\tall\t%iowait\t5.00\nvm\t60\t60\tall\t%idle\t80.00\nvm\t60\t60\tcpu0\t%idle\t1.00
vm\t-1\t90\tLINUX-RESTART\t(2 CPU)\nvm\t60\t180\tall\t%iowait\t5.00\nvm\t60\t180\tall\t%idle\t40.00\n";
    let rows = [(0, Some(60), 15.0), (120, Some(180), 55.0)];
    assert_eq!(read(database), rows);
    let boot = "vm;-1;1970-01-01 00:00:00 UTC;LINUX-RESTART\t(2 CPU)\n";
    assert_eq!(read(&format!("{boot}{database}")), rows);
    assert_eq!(read(lines), rows);
    let (line, why) = refused(&database.replace("vm;60;1970-01-01 00:03", "vn;60;1970-01-01 00:03"));
    assert!(line == 8 && why.contains("second host"), "{line}: {why}");
}

#[test]
fn complaints_name_their_line() {
    for (text, line, named) in [
        ("", 0, "is empty"),
        ("# 4 machines\n\n", 0, "is empty"),
        ("hello\nworld\n", 0, "neither CSV"),
        ("time,percent\n", 0, "fewer than two rows"),
        ("0,5\n", 0, "fewer than two rows"),
        ("time,percent\n0,5\n60,101\n", 3, "101"),
        ("0,5\n60,-1\n", 2, "-1"),
        ("0,5\n60,nan\n", 2, "nan"),
        ("0,5\n60,\n", 2, "``"),
        ("0,5\n60,5,5\n", 2, "has 3 fields"),
        ("0,5\n# x\n60,5\n30,5\n", 4, "not after"),
        ("0,5\n60,5\n60,5\n", 3, "not after"),
        ("00:00,5\nnoon,5\n", 2, "noon"),
        ("0,5\n1e9,5\n", 2, "more than a year"),
        ("time,percent,machines\n0,5,0\n", 2, "number of machines"),
        (
            "Linux 6.1\n\n00:00:01 CPU %idle\n00:10:01 all 50\n00:05:01 all 50\n",
            5,
            "not after",
        ),
        ("Linux 6.1\n\n00:00:01 CPU %idle\n00:10:01 all x1 2\n", 4, "x1"),
    ] {
        let (at, why) = refused(text);
        assert!(at == line && why.contains(named), "{text:?}: {at}: {why}");
    }
}

#[test]
fn what_is_worth_knowing_is_noted() {
    let notes = |text| parse(text, None).unwrap().notes.join("; ");
    assert_eq!(notes("0,5\n60,5\n120,5\n"), "");
    let gap = notes("0,5\n60,5\n120,5\n3600,5\n3660,5\n");
    assert!(
        gap.contains("1 gap, the longest of 58 min after 00:02:00 (line 4)"),
        "{gap}"
    );
    assert!(notes("0,5\n60,100\n").contains("1 row at 100%"));
    assert!(notes("0,0.5\n60,0.9\n").contains("no row is over 1%"));
}

proptest! {
    #[test]
    fn no_text_is_a_panic(text in "[0-9:,;.#\t\n %aACPUlidewot-]{0,200}") {
        if let Ok(trace) = parse(&text, None) {
            prop_assert!(trace.spans.iter().all(|(_, load)| (0.0..=100_000.0).contains(load)));
        }
    }
}
