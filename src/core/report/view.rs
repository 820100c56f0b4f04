//! Reports for people: text in lines, with bars on a terminal.

mod findings;

use super::{Host, Report};
use crate::core::protocol::NOT_NOW;
use crate::core::protocol::facts::Fact;

/// A node that has not reported for this long, in seconds, is lost.
const SILENT: u64 = 15;
const RED: &str = "31";
const BOLD: &str = "1";

/// How it shall look.
#[derive(Debug, Clone)]
pub struct Look {
    /// Columns; longer lines are cut.
    pub width: usize,
    pub bars: bool,
    pub colours: bool,
    /// Beyond ASCII.
    pub unicode: bool,
    /// `[scaling] threshold`, in percent.
    pub threshold: u64,
    /// Is scaling down on?
    pub scale_down: bool,
}

/// The loads seen so far of each node, the newest last.
#[derive(Debug, Default)]
pub struct Seen(Vec<Loads>);

#[derive(Debug)]
struct Loads {
    master: String,
    node: String,
    loads: Vec<u64>,
}

/// As many loads as are kept of a node.
const HISTORY: usize = 60;

impl Seen {
    /// Takes the loads of one look down, and forgets the nodes that are gone.
    pub fn add(&mut self, reports: &[Report]) {
        let before = std::mem::take(&mut self.0);
        for report in reports {
            for fact in report.all("NODE") {
                let (master, node) = (report.master.clone(), fact.get("name").to_string());
                let of_node = |l: &&Loads| l.master == master && l.node == node;
                let mut loads = before
                    .iter()
                    .find(of_node)
                    .map_or(Vec::new(), |l| l.loads.clone());
                if loads.len() == HISTORY {
                    loads.remove(0);
                }
                loads.push(fact.number("cpu_percent"));
                self.0.push(Loads { master, node, loads });
            }
        }
    }
}

/// What all masters have told, and which HAProxy hosts did not answer; `seen` adds a line of history
/// to each node.
pub fn view(reports: &[Report], hosts: &[Host], look: &Look, seen: Option<&Seen>) -> Vec<String> {
    let mut page = Page {
        look,
        lines: Vec::new(),
    };
    for report in reports {
        if !page.lines.is_empty() {
            page.line(String::new());
        }
        page.master(report, seen);
    }
    page.differences(reports);
    for host in hosts {
        if let Some(error) = &host.error {
            page.paint(
                RED,
                format!("HAProxy host {} does not answer: {error}", host.name),
            );
        }
    }
    page.lines
}

struct Page<'a> {
    look: &'a Look,
    lines: Vec<String>,
}

impl Page<'_> {
    fn line(&mut self, text: String) {
        self.paint("", text);
    }

    fn paint(&mut self, colour: &str, text: String) {
        let text = cut(&text, self.look.width);
        self.lines.push(match self.look.colours && !colour.is_empty() {
            true => format!("\x1b[{colour}m{text}\x1b[0m"),
            false => text,
        });
    }

    fn master(&mut self, report: &Report, seen: Option<&Seen>) {
        let about = report.one("MASTER").map_or(String::new(), |about| {
            format!(
                "  ({}, up for {})",
                about.get("version"),
                span(about.number("uptime_seconds"))
            )
        });
        self.paint(BOLD, format!("master {}{about}", report.master));
        self.nodes(report, seen);
        self.fleet(report);
        self.line(match report.one("LEASE") {
            None => "  lease       nobody has it".into(),
            Some(lease) => {
                let held = report.one("HELD").map_or(String::new(), |held| {
                    let since = span(held.number("seconds_held"));
                    format!(" for {since}, to {}", deed(held))
                });
                let left = span(lease.number("seconds_left"));
                format!("  lease       {} has it{held}; {left} left", lease.get("node"))
            }
        });
        let cooldown = report.one("COOLDOWN").map_or(0, |c| c.number("seconds_left"));
        self.line(match cooldown {
            0 => "  cooldown    none".into(),
            left => format!("  cooldown    {} left", span(left)),
        });
        for may in report.all("MAY") {
            let request = may.get("request");
            let scale_down = setting(report, "scale_down_threshold").map_or(self.look.scale_down, |s| s > 0);
            let answer = match scale_down || request == "SCALE" {
                true => answer(report, may),
                false => "off: scale_down_threshold is 0".into(),
            };
            self.line(format!("  {:<12}{answer}", change(request)));
        }
        self.trouble(report);
        self.settings(report);
        self.decisions(report);
        self.tunnels(report);
        self.servers(report);
    }

    fn nodes(&mut self, report: &Report, seen: Option<&Seen>) {
        let width = self.look.width;
        let nodes: Vec<&Fact> = report.all("NODE").collect();
        let column = column(&nodes, "name").min(width / 3);
        let threshold = setting(report, "threshold").unwrap_or(self.look.threshold);
        let over = nodes
            .iter()
            .filter(|n| n.number("cpu_percent") >= threshold)
            .count();
        self.line(match nodes.len() {
            0 => "  nodes       none reports; does autoscaler daemon run on the app servers?".into(),
            all => format!("  nodes       {all}, of which {over} at or over the threshold of {threshold}%"),
        });
        for node in nodes {
            let (name, percent) = (node.get("name"), node.number("cpu_percent"));
            let ago = node.number("seconds_ago");
            let mut text = format!("    {:<column$}  {percent:>3}%", cut(name, column));
            let room = width.saturating_sub(column + 24);
            if self.look.bars && room >= 10 {
                text += &format!("  {}", self.bar(percent, room.min(20)));
            }
            let mut all = seen.iter().flat_map(|s| &s.0);
            if let Some(Loads { loads, .. }) = all.find(|l| l.master == report.master && l.node == name)
                && room > 22
            {
                let length = (room - 22).min(HISTORY);
                let newest = &loads[loads.len().saturating_sub(length)..];
                let line: String = newest.iter().map(|load| self.spark(*load)).collect();
                text += &format!("  {line:<length$}");
            }
            text += &format!("  {} ago", span(ago));
            let bad = ago > SILENT || percent >= threshold;
            self.paint(if bad { RED } else { "" }, text);
        }
    }

    fn bar(&self, percent: u64, cells: usize) -> String {
        let full = (percent as usize * cells + 50) / 100;
        let (on, off) = if self.look.unicode {
            ("█", "░")
        } else {
            ("#", ".")
        };
        on.repeat(full.min(cells)) + &off.repeat(cells.saturating_sub(full))
    }

    fn spark(&self, percent: u64) -> char {
        let steps = match self.look.unicode {
            true => ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'],
            false => ['_', '.', '-', '~', '=', '+', '*', '#'],
        };
        steps[((percent as usize * 7 + 50) / 100).min(7)]
    }

    fn decisions(&mut self, report: &Report) {
        if report.one("DECISION").is_some() {
            self.line("  decisions".into());
        }
        for decision in report.all("DECISION") {
            let outcome = decision.get("outcome");
            let took = span(decision.number("seconds_taken"));
            let text = decision.get("text");
            let colon = if text.is_empty() { "" } else { ": " };
            let (result, bad) = match outcome {
                "refused" => (format!("refused{colon}{text}"), false),
                "granted" => (format!("granted, and under way{colon}{text}"), false),
                "ok" => (format!("done in {took}{colon}{text}"), false),
                "failed" => (format!("failed after {took}{colon}{text}"), true),
                "returned" => (
                    format!("given back{colon}{}", text.trim_start_matches(NOT_NOW)),
                    false,
                ),
                "expired" => (
                    format!("no end of it after {took}: its node died or was cut off"),
                    true,
                ),
                other => (format!("{other}{colon}{text}"), false),
            };
            let load = match decision.get("cpu_percent") {
                "" => String::new(),
                percent => format!(" at {percent}%"),
            };
            let times = match decision.number("times") {
                0..=1 => String::new(),
                times => format!(" ({times} times)"),
            };
            let (node, what) = (decision.get("node"), change(decision.get("request")));
            let ago = span(decision.number("seconds_ago"));
            self.paint(
                if bad { RED } else { "" },
                format!("    {:<16}{node}{load}: {what} {result}{times}", ago + " ago"),
            );
        }
    }

    fn tunnels(&mut self, report: &Report) {
        let tunnels: Vec<&Fact> = report.all("TUNNEL").collect();
        if tunnels.is_empty() {
            return;
        }
        let up = tunnels.iter().filter(|t| t.get("state") == "up").count();
        self.line(format!("  tunnels     {up} of {} up", tunnels.len()));
        let (names, addresses) = (column(&tunnels, "name"), column(&tunnels, "address"));
        for tunnel in tunnels {
            let (state, error) = (tunnel.get("state"), tunnel.get("error"));
            let port = match state {
                "up" => format!(", port {}", tunnel.get("port")),
                _ => String::new(),
            };
            let error = match error {
                "" => String::new(),
                _ if state == "up" => format!("; before that: {error}"),
                _ => format!(": {error}"),
            };
            let since = span(tunnel.number("seconds"));
            let name = tunnel.get("name");
            let entry = report.all("ENTRY").find(|e| e.get("name") == name);
            let node = match entry.map_or("", |e| e.get("node")) {
                "" => String::new(),
                node => format!(", node {node}"),
            };
            let text = format!(
                "    {name:<names$}  {:<addresses$}  {state} for {since}{port}{node}{error}",
                tunnel.get("address")
            );
            self.paint(if state == "down" { RED } else { "" }, text);
        }
    }

    fn servers(&mut self, report: &Report) {
        let Some(haproxy) = report.one("HAPROXY") else {
            return;
        };
        let (state, error) = (haproxy.get("state"), haproxy.get("error"));
        let colon = if error.is_empty() { "" } else { ": " };
        let text = format!(
            "  HAProxy     backend {}: {state}{colon}{error}",
            haproxy.get("backend")
        );
        self.paint(if state == "up" { "" } else { RED }, text);
        let servers: Vec<&Fact> = report.all("SERVER").collect();
        let (names, addresses) = (column(&servers, "name"), column(&servers, "address"));
        for server in servers {
            let state = server.get("state");
            let (colour, state) = match state {
                "missing" => (RED, "missing; run: autoscaler generate"),
                "extra" => (RED, "not in hosts.d; run: autoscaler generate"),
                _ if state.starts_with("DOWN") => (RED, state),
                _ => ("", state),
            };
            let (name, address) = (server.get("name"), server.get("address"));
            let text = format!("    {name:<names$}  {address:<addresses$}  {state}");
            self.paint(colour, text);
        }
    }
}

/// The width of what the facts say of `key`.
fn column(facts: &[&Fact], key: &str) -> usize {
    facts
        .iter()
        .map(|f| f.get(key).chars().count())
        .max()
        .unwrap_or(0)
}

/// Would the request be granted, and if not, why not?
fn answer(report: &Report, may: &Fact) -> String {
    let left = span(may.number("seconds_left"));
    let holder = report.one("LEASE").map_or("", |l| l.get("node"));
    let hosts = |name| report.one("HOSTS").map_or(0, |h| h.number(name));
    let (entries, most, least) = (hosts("entries"), hosts("max_hosts"), hosts("min_hosts"));
    let (up, booting) = (hosts("up"), hosts("booting"));
    match (may.get("answer"), may.get("request")) {
        ("yes", _) => "would be granted".into(),
        ("starting", _) => format!("no: starting, {left} more for a holder from before to come back"),
        ("holder", _) => format!("no: holder, {holder} has the lease"),
        ("cooldown", _) => format!("no: cooldown, {left} left"),
        ("full", _) if entries + booting < most => {
            format!("no: full, max_launches_per_day is reached; {left} until it may")
        }
        ("full", _) if booting > 0 => {
            format!(
                "no: full, {entries} entries in hosts.d and {booting} machines booting, max_hosts is {most}"
            )
        }
        ("full", _) => format!("no: full, {entries} entries in hosts.d, max_hosts is {most}"),
        ("booting", _) => format!("no: booting, what is missing is on its way ({booting} machines)"),
        ("few", _) if up <= least => format!("no: few, {up} serve, min_hosts is {least}"),
        ("few", _) => "no: few, nobody else serves and reports a load".into(),
        ("loaded", _) => "no: loaded, the others could not take the load of any node".into(),
        ("failing", _) => format!("no: failing, back-off after failures, {left} left"),
        (other, _) => format!("no: {other}"),
    }
}

fn change(request: &str) -> &str {
    if request == "RETIRE" {
        "scale-down"
    } else {
        "scale-up"
    }
}

/// What a lease is for.
fn deed(held: &Fact) -> String {
    match (held.get("request"), held.get("machines")) {
        ("RETIRE", _) => "leave".into(),
        (_, "0") => "put things right".into(),
        (_, "" | "1") => "add a machine".into(),
        (_, machines) => format!("add {machines} machines"),
    }
}

/// The value of a setting in force on this master, in percent, seconds or machines.
fn setting(report: &Report, key: &str) -> Option<u64> {
    let setting = report.all("SETTING").find(|s| s.get("key") == key)?;
    Some(setting.number("number"))
}

/// Seconds, in at most two units.
fn span(seconds: u64) -> String {
    let two = |large: u64, unit: &str, small: u64, of: &str| match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {of}"),
    };
    match seconds {
        0..100 => format!("{seconds} s"),
        100..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86400, "d", seconds % 86400 / 3600, "h"),
    }
}

/// The first `width` characters.
fn cut(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}

#[cfg(test)]
mod tests;
