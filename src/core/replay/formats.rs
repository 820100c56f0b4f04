//! The rows of a trace: CSV, and what sysstat's `sar -u`, `sadf` and `sadf -d` print (their
//! manual pages, with the decimal commas and the clocks of other languages).

use super::clock::Clock;
use super::trace::Row;

type Rows = Result<Vec<Row>, (usize, String)>;

/// How the text is written shows in its first line.
pub fn rows(text: &str, hosts: Option<usize>, clock: &mut Clock) -> Rows {
    let text = text.trim_start_matches('\u{feff}');
    let lines = || {
        (1..)
            .zip(text.lines().map(str::trim_end))
            .filter(|(_, l)| !l.trim().is_empty())
    };
    let said = |line: &str| !line.starts_with('#') || line.starts_with(SADF_HEADER);
    let Some(first) = lines().map(|(_, line)| line).find(|line| said(line)) else {
        return Err((0, "is empty".into()));
    };
    let tabs: Vec<&str> = first.split('\t').collect();
    let mut rows = if first.starts_with(SADF_HEADER) {
        sadf_d(lines(), clock)?
    } else if tabs.len() > 3 && tabs[1].parse::<i64>().is_ok() && Clock::default().read(tabs[2]).is_some() {
        sadf(lines(), clock)?
    } else if first.starts_with("Linux ") || !first.contains([',', ';', '\t']) {
        sar(lines(), clock)?
    } else {
        return csv(lines(), hosts, clock);
    };
    for row in &mut rows {
        row.machines = hosts.unwrap_or(1);
        row.percent *= row.machines as f64;
    }
    Ok(rows)
}

const SADF_HEADER: &str = "# hostname;interval;timestamp";

/// A number with a decimal point or comma, and perhaps a percent sign (`sar --pretty`).
fn number(word: &str) -> Option<f64> {
    let word = word.trim().trim_end_matches('%').replace(',', ".");
    word.parse().ok().filter(|n: &f64| n.is_finite())
}

fn percent(line: usize, word: &str) -> Result<f64, (usize, String)> {
    // The parts of a hundred are rounded one by one.
    number(word)
        .filter(|n| (-0.5..=100.5).contains(n))
        .map(|n| n.clamp(0.0, 100.0))
        .ok_or_else(|| {
            (
                line,
                format!("`{}` is not a percentage from 0 to 100", word.escape_default()),
            )
        })
}

fn time(line: usize, clock: &mut Clock, text: &str) -> Result<i64, (usize, String)> {
    let complain = || {
        (
            line,
            format!(
                "`{}` is not a time such as 12:30:05, 2026-11-24 12:30:05 or a number of seconds",
                text.escape_default()
            ),
        )
    };
    clock.read(text).ok_or_else(complain)
}

/// Where sysstat's header puts what is needed.
struct Columns {
    cpu: Option<usize>,
    idle: usize,
    /// `%wio` on other Unixes.
    iowait: Option<usize>,
}

impl Columns {
    fn of(header: &[&str]) -> Option<Columns> {
        let at = |name| header.iter().position(|word| *word == name);
        Some(Columns {
            cpu: at("CPU"),
            idle: at("%idle")?,
            iowait: at("%iowait").or_else(|| at("%wio")),
        })
    }

    /// What is not idle in this row; `None` for a row of one CPU.
    fn busy(&self, line: usize, words: &[&str]) -> Result<Option<f64>, (usize, String)> {
        let word = |at: usize| words.get(at).copied().unwrap_or_default();
        if self.cpu.is_some_and(|at| !matches!(word(at), "all" | "-1")) {
            return Ok(None);
        }
        let idle = percent(line, word(self.idle))?;
        let iowait = self.iowait.map_or(Ok(0.0), |at| percent(line, word(at)))?;
        Ok(Some((100.0 - idle - iowait).max(0.0)))
    }
}

fn row(line: usize, begin: i64, end: i64, percent: f64) -> Row {
    Row {
        line,
        begin,
        end: Some(end),
        percent,
        machines: 1,
    }
}

/// `sar -u`: each row tells of the time since the one before it, the first since its header.
fn sar<'a>(lines: impl Iterator<Item = (usize, &'a str)>, clock: &mut Clock) -> Rows {
    let mut rows = Vec::new();
    let mut columns = None;
    let mut since: Option<i64> = None;
    for (line, text) in lines {
        let mut words: Vec<&str> = text.split_whitespace().collect();
        // What does not begin with a time is the banner or a mean, whatever its language.
        if !words[0].contains(':') || !words[0].starts_with(|c: char| c.is_ascii_digit()) {
            continue;
        }
        let mut written = words.remove(0).to_string();
        if words.first().is_some_and(|word| matches!(*word, "AM" | "PM")) {
            written = written + " " + words.remove(0);
        }
        let header = words.iter().all(|word| number(word).is_none());
        if header {
            columns = Columns::of(&words);
            since = None;
        }
        // Other reports; `LINUX RESTART` passes for the header of one.
        let Some(columns) = &columns else { continue };
        let busy = if header { None } else { columns.busy(line, &words)? };
        if !header && busy.is_none() {
            continue;
        }
        let at = time(line, clock, &written)?;
        if let (Some(busy), Some(since)) = (busy, since) {
            rows.push(row(line, since, at, busy));
        }
        since = Some(at);
    }
    match rows.is_empty() {
        true => Err((
            0,
            "is neither CSV (time,percent), nor has it rows of `sar -u` or `sadf` for all CPUs".into(),
        )),
        false => Ok(rows),
    }
}

/// A row of sadf tells of the `interval` seconds before `at`, but of nothing that the last row has
/// told of: intervals are whole seconds.
fn sadf_begin(rows: &[Row], at: i64, interval: &str) -> i64 {
    let interval = interval.parse().unwrap_or(0);
    let last = rows.last().and_then(|row| row.end).unwrap_or(i64::MIN);
    (at - 1000 * interval).max(last)
}

/// Which host a file of sadf is of: two would be two traces.
fn same_host<'a>(line: usize, first: &mut Option<&'a str>, host: &'a str) -> Result<(), (usize, String)> {
    if *first.get_or_insert(host) == host {
        return Ok(());
    }
    let host = host.escape_default();
    Err((
        line,
        format!("`{host}` is a second host; for several machines take CSV with a column for each"),
    ))
}

/// `sadf -d`: fields with semicolons between them, under headers.
fn sadf_d<'a>(lines: impl Iterator<Item = (usize, &'a str)>, clock: &mut Clock) -> Rows {
    let mut rows: Vec<Row> = Vec::new();
    let (mut columns, mut host) = (None, None);
    for (line, text) in lines {
        let words: Vec<&str> = text.split(';').collect();
        if text.starts_with('#') {
            columns = Columns::of(&words);
        } else if let [name, interval, at, ..] = words[..]
            && let Some(columns) = columns.as_ref().filter(|_| interval != "-1")
            && let Some(busy) = columns.busy(line, &words)?
        {
            same_host(line, &mut host, name)?;
            let at = time(line, clock, at)?;
            rows.push(row(line, sadf_begin(&rows, at, interval), at, busy));
        }
    }
    Ok(rows)
}

/// `sadf` alone, and `sadf -p`: one number a line, with tabs between the fields.
fn sadf<'a>(lines: impl Iterator<Item = (usize, &'a str)>, clock: &mut Clock) -> Rows {
    let mut rows: Vec<Row> = Vec::new();
    let (mut iowait, mut host) = (0.0, None);
    for (line, text) in lines {
        let [name, interval, at, "all" | "-1", what, value] = text.split('\t').collect::<Vec<_>>()[..] else {
            continue;
        };
        match what {
            "%iowait" => iowait = percent(line, value)?,
            "%idle" => {
                same_host(line, &mut host, name)?;
                let at = time(line, clock, at)?;
                let busy = (100.0 - percent(line, value)? - iowait).max(0.0);
                rows.push(row(line, sadf_begin(&rows, at, interval), at, busy));
            }
            _ => {}
        }
    }
    Ok(rows)
}

/// `time,percent`, or a column for each machine, or `time,percent,machines`; each row tells of the
/// time until the next.
fn csv<'a>(lines: impl Iterator<Item = (usize, &'a str)>, hosts: Option<usize>, clock: &mut Clock) -> Rows {
    let mut rows: Vec<Row> = Vec::new();
    let (mut counted, mut fields, mut separator) = (false, 0, ',');
    for (line, text) in lines {
        if text.starts_with('#') {
            continue;
        }
        if fields == 0 {
            separator = [';', '\t', ',']
                .into_iter()
                .find(|c| text.contains(*c))
                .unwrap_or(',');
        }
        let words: Vec<&str> = text
            .split(separator)
            .map(|word| word.trim().trim_matches('"'))
            .collect();
        if fields == 0 {
            fields = words.len();
            counted = fields == 3
                && ["machines", "hosts"]
                    .iter()
                    .any(|name| words[2].eq_ignore_ascii_case(name));
            if hosts.is_some() && fields > 2 && !counted {
                return Err((
                    line,
                    "says how many machines there are itself; leave --hosts out".into(),
                ));
            }
            if Clock::default().read(words[0]).is_none() && number(words.get(1).unwrap_or(&"")).is_none() {
                continue;
            }
        }
        if words.len() != fields || fields < 2 {
            return Err((line, format!("has {} fields, not {}", words.len(), fields.max(2))));
        }
        let begin = time(line, clock, words[0])?;
        let (percent, machines) = if counted {
            let written = words[2].parse().ok().filter(|n| (1..=MOST_MACHINES).contains(n));
            let machines = hosts.or(written).ok_or_else(|| {
                (
                    line,
                    format!("`{}` is not a number of machines", words[2].escape_default()),
                )
            })?;
            (percent(line, words[1])? * machines as f64, machines)
        } else if fields == 2 {
            let machines = hosts.unwrap_or(1);
            (percent(line, words[1])? * machines as f64, machines)
        } else {
            let mut sum = 0.0;
            for word in &words[1..] {
                sum += percent(line, word)?;
            }
            (sum, fields - 1)
        };
        rows.push(Row {
            line,
            begin,
            end: None,
            percent,
            machines,
        });
    }
    Ok(rows)
}

/// More than anybody runs behind one HAProxy, and few enough to simulate.
pub const MOST_MACHINES: usize = 1000;

#[cfg(test)]
#[path = "formats_test.rs"]
mod tests;
