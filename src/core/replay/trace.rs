//! A trace of CPU use as text, and the load over time that it tells of.

use std::time::Duration;

use super::formats::{self, Row};
use super::report::counted;
use super::timestamps::{Clock, Face};

/// A step between two rows this many times longer than usual is a gap.
const GAP: i64 = 5;
/// A year: beyond it, a wrong column is likelier than a trace.
const LONGEST: i64 = 366 * 24 * 3600 * 1000;
/// From here on a machine may have had more to do than it could.
const FULL: f64 = 99.5;

/// The load that a trace tells of.
#[derive(Debug)]
pub struct Trace {
    /// From when on, since the beginning, there was how much to do, in percent of one machine.
    pub spans: Vec<(Duration, f64)>,
    pub length: Duration,
    pub face: Face,
    /// How many machines there were in the first row.
    pub machines: usize,
    /// The lowest, mean and highest CPU of a machine, in percent.
    pub range: (f64, f64, f64),
    /// What is worth knowing before the result is believed.
    pub notes: Vec<String>,
}

/// Reads CSV, `sar -u`, `sadf` or `sadf -d`. `hosts`: how many machines the CPU is the
/// mean of; one if neither it nor the text says so.
///
/// # Errors
/// The line, from 1, or 0 for the whole text, and what is wrong with it.
pub fn parse(text: &str, hosts: Option<usize>) -> Result<Trace, (usize, String)> {
    let mut clock = Clock::default();
    let rows = formats::rows(text, hosts, &mut clock)?;
    if rows.len() < 2 {
        return Err((0, "has fewer than two rows of CPU use".into()));
    }
    for pair in rows.windows(2) {
        if pair[1].written() <= pair[0].written() {
            return Err((
                pair[1].line,
                "its time is not after that of the row before it".into(),
            ));
        }
    }
    let mut steps: Vec<i64> = rows
        .windows(2)
        .map(|pair| pair[1].begin - pair[0].begin)
        .collect();
    let last = rows.len() - 1;
    let origin = rows[0].begin;
    let face = clock.face(origin);
    let mut notes = Vec::new();
    let longest = steps.iter().copied().enumerate().max_by_key(|(_, step)| *step);
    let (at, longest) = longest.unwrap_or_default();
    let gap_line = rows[at + 1].line;
    let gap_begin = since(origin, rows[at].begin);
    steps.sort_unstable();
    let usual = steps[steps.len() / 2];
    if longest > GAP * usual {
        let count = steps.iter().filter(|step| **step > GAP * usual).count();
        notes.push(format!(
            "{}, the longest of {} min after {} (line {gap_line}): the load before it is taken to go on",
            counted(count, "gap"),
            longest / 60_000,
            face.text(gap_begin)
        ));
    }
    let end = rows[last].end.unwrap_or(rows[last].begin + usual);
    if end - origin > LONGEST {
        return Err((rows[last].line, "is more than a year after the first row".into()));
    }
    let mean_of = |row: &Row| row.percent / row.machines as f64;
    let full = rows.iter().filter(|row| mean_of(row) >= FULL).count();
    if full > 0 {
        notes.push(format!(
            "{} at 100%: there may have been more to do than the trace shows",
            counted(full, "row")
        ));
    }
    let mut range = (f64::MAX, 0.0, 0.0f64);
    for (i, row) in rows.iter().enumerate() {
        let until = rows.get(i + 1).map_or(end, |next| next.begin);
        let mean = mean_of(row);
        range.0 = range.0.min(mean);
        range.1 += mean * (until - row.begin) as f64 / (end - origin) as f64;
        range.2 = range.2.max(mean);
    }
    if range.2 <= 1.0 {
        notes.push("no row is over 1%: a share of 1 has to be given as 100".into());
    }
    Ok(Trace {
        spans: rows
            .iter()
            .map(|row| (since(origin, row.begin), row.percent))
            .collect(),
        length: since(origin, end),
        face,
        machines: rows[0].machines,
        range,
        notes,
    })
}

fn since(origin: i64, at: i64) -> Duration {
    Duration::from_millis(u64::try_from(at - origin).unwrap_or(0))
}
