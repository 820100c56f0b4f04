//! The same as the report, for programs: seconds since the beginning, minutes and percentages as numbers.

use std::time::Duration;

use super::report::sum;
use super::{Model, Run, Trace};
use crate::core::text::json::{object, text};

/// One JSON document. `without` any scaling is what `runs` are compared with.
pub fn json(name: &str, trace: &Trace, model: &Model, without: &Run, runs: &[Run]) -> String {
    let document = object(&[
        member("trace", text(name)),
        member("seconds", seconds(trace.length)),
        member("machines", model.machines),
        member(
            "boot_seconds",
            list([model.boots.least, model.boots.most].map(seconds)),
        ),
        member("threshold", model.yardstick),
        member("notes", list(trace.notes.iter().map(|note| text(note)))),
        member(
            "load",
            list(trace.spans.iter().map(|(at, load)| pair(*at, load / 100.0))),
        ),
        member("without_scaling", measures(without)),
        member("runs", list(runs.iter().map(measures))),
    ]);
    document + "\n"
}

fn measures(run: &Run) -> String {
    let events = run.events.iter().map(|event| {
        object(&[
            member("at", seconds(event.at)),
            member("from", event.from),
            member("to", event.to),
            member("why", text(&event.why)),
        ])
    });
    let serving = run.serving.iter().map(|(at, machines)| pair(*at, *machines));
    object(&[
        member("title", text(&run.title)),
        member("settings", text(&run.details)),
        member("up", run.changes(true)),
        member("down", run.changes(false)),
        member("machine_hours", number(run.machine_time.as_secs_f64() / 3600.0)),
        member("over_minutes", minutes(run.over_yardstick)),
        member("full_minutes", minutes(sum(&run.full))),
        member("unmet_percent", number(run.unmet_percent())),
        member("worst_percent", number(run.worst.0)),
        member("most_machines", run.peak),
        member("events", list(events)),
        member("serving", list(serving)),
    ])
}

fn member(name: &str, value: impl std::fmt::Display) -> String {
    format!("\"{name}\":{value}")
}

fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(","))
}

fn pair(at: Duration, value: impl std::fmt::Display) -> String {
    format!("[{},{value}]", seconds(at))
}

fn seconds(time: Duration) -> String {
    time.as_secs_f64().to_string()
}

fn minutes(time: Duration) -> String {
    number(time.as_secs_f64() / 60.0)
}

/// Three decimals at most.
fn number(number: f64) -> String {
    ((number * 1000.0).round() / 1000.0).to_string()
}
