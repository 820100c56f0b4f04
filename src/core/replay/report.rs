//! What came of each policy, as text: what happened when, and a table to compare by.

use std::fmt::Write;
use std::time::Duration;

use super::{Model, Run, Trace};

/// So many turns within an hour are flapping: up, down, up and down again.
const FLAPS: usize = 3;
const HOUR: Duration = Duration::from_secs(3600);

/// The report. `name` is the trace's; `without` any scaling is what `runs` are compared with.
pub fn text(name: &str, trace: &Trace, model: &Model, without: &Run, runs: &[Run]) -> String {
    let mut out = format!("{name}: {}\n{}\n", recorded(trace), assumed(model),);
    for note in &trace.notes {
        let _ = writeln!(out, "note: {note}");
    }
    for run in runs {
        let _ = writeln!(out, "\n{} ({})", run.title, run.details);
        for event in &run.events {
            let sign = if event.from == event.to { "= " } else { "->" };
            let _ = writeln!(
                out,
                "  {}  {:>3} {sign} {:<3}  {}",
                trace.face.text(event.at),
                event.from,
                event.to,
                event.why
            );
        }
        if run.events.is_empty() {
            out += "  no change\n";
        }
    }
    out.push('\n');
    let over = format!("over {}%", model.yardstick);
    let head = [
        "",
        "up",
        "down",
        "machine-hours",
        &over,
        "at 100%",
        "unmet work",
        "worst load",
        "most machines",
    ];
    let mut rows = vec![head.map(String::from), row(without)];
    rows.extend(runs.iter().map(row));
    let widths: Vec<usize> = (0..head.len())
        .map(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0))
        .collect();
    for row in &rows {
        let mut line = format!("{:<1$}", row[0], widths[0]);
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            let _ = write!(line, "  {cell:>width$}");
        }
        out += line.trim_end();
        out.push('\n');
    }
    for run in runs {
        let (most, begin) = turns(run);
        if most >= FLAPS {
            let _ = writeln!(
                out,
                "note: {} flaps: {most} changes of direction in the hour from {} on; a longer scale_down_window or a \
                 lower scale_down_threshold calms it",
                run.title,
                trace.face.text(begin),
            );
        }
    }
    out
}

/// How often, at most, a change within one hour went the other way than the change before it,
/// and from when on.
pub(super) fn turns(run: &Run) -> (usize, Duration) {
    let changes: Vec<_> = run
        .events
        .iter()
        .filter(|e| e.from != e.to)
        .map(|e| (e.at, e.to > e.from))
        .collect();
    let turns: Vec<Duration> = changes
        .windows(2)
        .filter(|pair| pair[0].1 != pair[1].1)
        .map(|pair| pair[1].0)
        .collect();
    let mut most = (0, Duration::ZERO);
    for (i, begin) in turns.iter().enumerate() {
        let count = turns.partition_point(|at| *at < *begin + HOUR) - i;
        if count > most.0 {
            most = (count, *begin);
        }
    }
    most
}

fn row(run: &Run) -> [String; 9] {
    [
        run.title.clone(),
        run.changes(true).to_string(),
        run.changes(false).to_string(),
        hours(run),
        minutes(run.over_yardstick),
        minutes(sum(&run.full)),
        format!("{:.1}%", run.unmet_percent()),
        format!("{:.0}%", run.worst.0),
        run.peak.to_string(),
    ]
}

fn hours(run: &Run) -> String {
    let hours = run.machine_time.as_secs_f64() / 3600.0;
    format!("{hours:.0$}", if hours < 10.0 { 2 } else { 1 })
}

/// What a run comes to, in one line.
pub fn numbers(run: &Run) -> String {
    let [_, up, down, hours, _, full, unmet, worst, _] = row(run);
    let (over, threshold) = (minutes(sum(&run.over)), run.threshold);
    let peak = counted(run.peak, "machine");
    format!(
        "{hours} machine-hours · {over} over {threshold}%, {full} at 100%, {unmet} of the work unmet · worst load \
         {worst} · at most {peak} · {up} up, {down} down"
    )
}

/// When and how the trace was recorded.
pub fn recorded(trace: &Trace) -> String {
    let (lowest, mean, highest) = trace.range;
    let [begin, end] = [Duration::ZERO, trace.length].map(|at| trace.face.text(at));
    let machines = counted(trace.machines, "machine");
    format!("{begin} to {end}, {machines} at {lowest:.0}% to {highest:.0}% CPU, {mean:.0}% on average")
}

/// What the model takes for granted.
pub fn assumed(model: &Model) -> String {
    let spread = match model.spread {
        0.0 => "all equally busy".to_string(),
        spread => format!("the busiest {spread}% over the mean"),
    };
    format!(
        "starts with {}, {} from launch to service, {spread}",
        counted(model.machines, "machine"),
        model.boots,
    )
}

/// `1 row`, `2 rows`.
pub fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// How long these times are together.
pub fn sum(times: &[(Duration, Duration)]) -> Duration {
    times.iter().map(|(begin, end)| *end - *begin).sum()
}

fn minutes(time: Duration) -> String {
    format!("{:.1} min", time.as_secs_f64() / 60.0)
}
