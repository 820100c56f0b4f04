//! What a master finds: how many machines there are and are missing, what is in the way, and its
//! settings.

use super::super::Report;
use super::{Page, RED, change, span};
use crate::core::protocol::facts::Fact;

impl Page<'_> {
    /// How many there are, and how many are missing.
    pub(super) fn fleet(&mut self, report: &Report) {
        let Some(hosts) = report.one("HOSTS").filter(|h| !h.get("up").is_empty()) else {
            return;
        };
        let (entries, up, down) = (hosts.number("entries"), hosts.number("up"), hosts.number("down"));
        let booting = match hosts.number("booting") {
            0 => String::new(),
            booting => format!("; {booting} booting"),
        };
        let names: Vec<&str> = report
            .all("ENTRY")
            .filter(|e| e.get("state") == "DOWN")
            .map(|e| e.get("name"))
            .collect();
        let down = match down {
            0 => String::new(),
            _ => format!(", {down} DOWN ({})", names.join(", ")),
        };
        let colour = if down.is_empty() { "" } else { RED };
        self.paint(
            colour,
            format!("  entries     {entries}, of which {up} serve{down}{booting}"),
        );
        if let Some(need) = report.one("NEED") {
            let missing = match need.number("missing") {
                0 => "nothing is missing".into(),
                n => format!("{n} missing by {}", need.get("estimate")),
            };
            self.line(format!("  need        {missing}: {}", need.get("text")));
        }
    }

    /// What a person has to look at.
    pub(super) fn trouble(&mut self, report: &Report) {
        if let Some(blocked) = report.one("BLOCKED") {
            let (reason, since) = (blocked.get("reason"), span(blocked.number("seconds")));
            self.paint(
                RED,
                format!("  blocked     for {since}: machines are needed, and refused for {reason}"),
            );
        }
        for failing in report.all("BACKOFF") {
            let (what, left) = (
                change(failing.get("request")),
                span(failing.number("seconds_left")),
            );
            let times = failing.number("in_a_row");
            let failures = if times == 1 {
                "failure"
            } else {
                "failures in a row"
            };
            self.line(format!("  back-off    {what}: {times} {failures}, {left} left"));
        }
        let refused: Vec<&Fact> = report.all("REFUSED").collect();
        if !refused.is_empty() {
            let nodes = if refused.len() == 1 {
                "node is"
            } else {
                "nodes are"
            };
            self.paint(RED, format!("  refused     {} {nodes} not let in", refused.len()));
        }
        for fact in refused {
            let (node, ago) = (fact.get("node"), span(fact.number("seconds_ago")));
            let (times, why) = (fact.number("times"), fact.get("text"));
            self.line(format!("    {node}  {times} times, the last {ago} ago: {why}"));
        }
        for fact in report.all("DOUBLE") {
            let (node, why) = (fact.get("node"), fact.get("text"));
            self.paint(RED, format!("  double      {node}: {why}"));
        }
    }

    /// What the master's file sets.
    pub(super) fn settings(&mut self, report: &Report) {
        let set = report.all("SETTING").filter(|s| s.get("source") == "file");
        let set: Vec<String> = set
            .map(|s| format!("{} = {}", s.get("key"), s.get("value")))
            .collect();
        if report.one("SETTING").is_some() {
            let set = if set.is_empty() {
                "all defaults".into()
            } else {
                set.join(", ")
            };
            self.line(format!("  settings    {set}"));
        }
    }

    /// Which settings are not the same on all masters.
    pub(super) fn differences(&mut self, reports: &[Report]) {
        let Some(first) = reports.first() else { return };
        for setting in first.all("SETTING") {
            let key = setting.get("key");
            let of = |report: &Report| {
                let value = report.all("SETTING").find(|s| s.get("key") == key)?;
                Some(format!("{} on {}", value.get("value"), report.master))
            };
            let differs = |r: &Report| {
                r.all("SETTING")
                    .any(|s| s.get("key") == key && s.get("value") != setting.get("value"))
            };
            if reports.iter().any(differs) {
                let all: Vec<String> = reports.iter().filter_map(of).collect();
                self.paint(RED, format!("masters differ: {key} is {}", all.join(", ")));
            }
        }
    }
}
