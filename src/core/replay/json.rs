//! The same as the report, for programs: seconds since the beginning, minutes and percentages as numbers.

use std::time::Duration;

use super::{Model, Run, Trace};
use crate::core::text::json::object;

/// One JSON document. `without` any scaling is what `runs` are compared with.
pub fn json(name: &str, trace: &Trace, model: &Model, without: &Run, runs: &[Run]) -> String {
    let list = |items: Vec<String>| format!("[{}]", items.join(","));
    let document = object(&[
        member("trace", text(name)),
        member("seconds", seconds(trace.length)),
        member("machines", model.machines),
        member(
            "boot_seconds",
            list(vec![seconds(model.boots.least), seconds(model.boots.most)]),
        ),
        member("threshold", model.yardstick),
        member("notes", list(trace.notes.iter().map(|note| text(note)).collect())),
        member(
            "load",
            list(
                trace
                    .spans
                    .iter()
                    .map(|(at, load)| pair(*at, load / 100.0))
                    .collect(),
            ),
        ),
        member("without_scaling", measures(without)),
        member("runs", list(runs.iter().map(measures).collect())),
    ]);
    document + "\n"
}

fn measures(run: &Run) -> String {
    let count = |up: bool| {
        run.events
            .iter()
            .filter(|e| if up { e.to > e.from } else { e.to < e.from })
            .count()
    };
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
        member("up", count(true)),
        member("down", count(false)),
        member("machine_hours", number(run.machine_time.as_secs_f64() / 3600.0)),
        member("over_minutes", minutes(run.over_yardstick)),
        member(
            "full_minutes",
            minutes(run.full.iter().map(|(begin, end)| *end - *begin).sum()),
        ),
        member("unmet_percent", number(run.unmet_percent())),
        member("worst_percent", number(run.worst.0)),
        member("most_machines", run.peak),
        member("events", format!("[{}]", events.collect::<Vec<_>>().join(","))),
        member("serving", format!("[{}]", serving.collect::<Vec<_>>().join(","))),
    ])
}

fn member(name: &str, value: impl std::fmt::Display) -> String {
    format!("\"{name}\":{value}")
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

/// A JSON string of any text (RFC 8259, section 7).
fn text(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\u{0}'..='\u{1f}' => out += &format!("\\u{:04x}", u32::from(c)),
            _ => out.push(c),
        }
    }
    out + "\""
}
