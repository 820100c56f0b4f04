//! The rows of a trace: CSV, what sysstat's `sar -u`, `sadf` and `sadf -d` print (their manual
//! pages, with the decimal commas and the clocks of other languages), and CloudWatch's JSON.

use super::cloudwatch;
use super::timestamps::Clock;

/// One row: what the machines did from `begin` on.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// In the file, from 1.
    pub line: usize,
    /// Milliseconds by the trace's clock.
    pub begin: i64,
    pub end: Option<i64>,
    /// Percent of one machine, summed over `machines`.
    pub percent: f64,
    pub machines: usize,
}

impl Row {
    /// The time that stands in the row.
    pub fn written(&self) -> i64 {
        self.end.unwrap_or(self.begin)
    }
}

/// The line, from 1, or 0 for the whole text, and what is wrong with it.
type Wrong = (usize, String);
type Rows = Result<Vec<Row>, Wrong>;

/// How the text is written shows in its first line.
pub fn rows(text: &str, hosts: Option<usize>, clock: &mut Clock) -> Rows {
    if text
        .chars()
        .take(2)
        .any(|c| c == '\0' || c == char::REPLACEMENT_CHARACTER)
    {
        return Err((
            0,
            "is no text; of sar's own file, take what this prints: LC_ALL=C sar -u -f FILE".into(),
        ));
    }
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
    let mut rows = if first.starts_with('{') {
        cloudwatch::rows(text, clock)?
    } else if first.starts_with(SADF_HEADER) || first.split(';').nth(1) == Some(NO_INTERVAL) {
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
/// The interval of a line of sadf that is no row: a boot, which may come before any header, or a
/// comment.
const NO_INTERVAL: &str = "-1";

/// A number with a decimal point or comma, and perhaps a percent sign (`sar --pretty`).
fn number(word: &str) -> Option<f64> {
    let word = word.trim().trim_end_matches('%').replace(',', ".");
    word.parse().ok().filter(|n: &f64| n.is_finite())
}

fn percent(line: usize, word: &str) -> Result<f64, Wrong> {
    let complaint = || format!("`{}` is not a percentage from 0 to 100", word.escape_default());
    // The parts of a hundred are rounded one by one.
    number(word)
        .filter(|n| (-0.5..=100.5).contains(n))
        .map(|n| n.clamp(0.0, 100.0))
        .ok_or_else(|| (line, complaint()))
}

fn time(line: usize, clock: &mut Clock, text: &str) -> Result<i64, Wrong> {
    let like = "12:30:05, 2026-11-24 12:30:05 or a number of seconds";
    let complaint = || format!("`{}` is not a time such as {like}", text.escape_default());
    clock.read(text).ok_or_else(|| (line, complaint()))
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
    fn busy(&self, line: usize, words: &[&str]) -> Result<Option<f64>, Wrong> {
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
        let Some((written, taken)) = time_of_row(&words) else {
            continue;
        };
        words.drain(..taken);
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

/// The time that a row of sar begins with, and how many words it takes: as `%X` of the C library
/// writes it, such as `12:30:05 AM`, `17.45.02` (Finnish), `17時45分02秒` or `17시 45분 02초`.
fn time_of_row(words: &[&str]) -> Option<(String, usize)> {
    const MARKS: [[char; 3]; 3] = [['時', '分', '秒'], ['时', '分', '秒'], ['시', '분', '초']];
    let first = words
        .first()
        .filter(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    if first.contains(':') {
        let half = words.get(1).filter(|word| matches!(**word, "AM" | "PM"));
        return Some(match half {
            Some(half) => (format!("{first} {half}"), 2),
            None => (first.to_string(), 1),
        });
    }
    let two_digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = first.split('.').collect();
    if parts.len() == 3 && parts.iter().all(|part| two_digits(part)) {
        return Some((parts.join(":"), 1));
    }
    let [_, _, last] = MARKS.into_iter().find(|[hours, ..]| first.contains(*hours))?;
    let taken = 1 + words.iter().take(3).position(|word| word.ends_with(last))?;
    let whole = words[..taken].concat();
    let parts: Vec<&str> = whole.split(|c: char| !c.is_ascii_digit()).collect();
    match parts[..] {
        [hours, minutes, seconds, ""] => Some((format!("{hours}:{minutes}:{seconds}"), taken)),
        _ => None,
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
fn same_host<'a>(line: usize, first: &mut Option<&'a str>, host: &'a str) -> Result<(), Wrong> {
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
            && let Some(columns) = columns.as_ref().filter(|_| interval != NO_INTERVAL)
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
            let complaint = || format!("`{}` is not a number of machines", words[2].escape_default());
            let machines = hosts.or(written).ok_or_else(|| (line, complaint()))?;
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
