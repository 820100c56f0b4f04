//! Reports as Prometheus's text format, version 0.0.4, for node_exporter's textfile collector.

use std::fmt::Write;

use super::{Host, Report};
use crate::core::protocol::facts::Fact;

/// One metric, made of the lines of one verb.
pub struct Metric {
    pub name: &'static str,
    pub kind: &'static str,
    pub help: &'static str,
    verb: &'static str,
    value: Value,
    /// Labels beside `master`: their names, and the fields they come from.
    labels: &'static [(&'static str, &'static str)],
}

enum Value {
    Number(&'static str),
    Percent(&'static str),
    /// As it stands.
    Decimal(&'static str),
    /// 1 where the field is one of these words, else 0.
    Is(&'static str, &'static [&'static str]),
    One,
}

use Value::{Decimal, Is, Number, One, Percent};

const NODE_NAME: (&str, &str) = ("node", "name");
const NODE: (&str, &str) = ("node", "node");
const REQUEST: (&str, &str) = ("request", "request");

#[rustfmt::skip]
const METRICS: [Metric; 34] = [
    gauge("autoscaler_master_info", "The master's version.", "MASTER", One, &[("version", "version")]),
    gauge("autoscaler_master_uptime_seconds", "Time since the master's start.", "MASTER", Number("uptime_seconds"), &[]),
    gauge("autoscaler_setting", "A setting in force: seconds, percent or a count.", "SETTING", Decimal("number"),
        &[("key", "key")]),
    gauge("autoscaler_epoch", "The newest lease's epoch; it leaps when a master starts.", "MASTER", Number("epoch"), &[]),
    counter("autoscaler_decisions_total", "Decisions by outcome, since the master's start.", "COUNT", Number("count"),
        &[REQUEST, ("outcome", "outcome")]),
    gauge("autoscaler_node_cpu_ratio", "CPU in use, mean over the node's window.", "NODE", Percent("cpu_percent"), &[NODE_NAME]),
    gauge("autoscaler_node_load_age_seconds", "Time since the node's last report.", "NODE", Number("seconds_ago"), &[NODE_NAME]),
    gauge("autoscaler_lease_held", "Whether a node changes the cluster now.", "LEASE", One, &[]),
    gauge("autoscaler_lease_held_seconds", "Time since the lease was granted.", "HELD", Number("seconds_held"), &[]),
    gauge("autoscaler_lease_remaining_seconds", "Time until the lease runs out.", "LEASE", Number("seconds_left"), &[]),
    gauge("autoscaler_cooldown_seconds", "What is left of the cooldown.", "COOLDOWN", Number("seconds_left"), &[]),
    gauge("autoscaler_scaling_allowed", "Whether the request would be granted now.", "MAY", Is("answer", &["yes"]), &[REQUEST]),
    gauge("autoscaler_scaling_answer", "What the request would be answered now, as its label says.", "MAY", One,
        &[REQUEST, ("answer", "answer")]),
    gauge("autoscaler_hosts", "Entries in hosts.d.", "HOSTS", Number("entries"), &[]),
    gauge("autoscaler_hosts_min", "The setting min_hosts.", "HOSTS", Number("min_hosts"), &[]),
    gauge("autoscaler_hosts_max", "The setting max_hosts.", "HOSTS", Number("max_hosts"), &[]),
    gauge("autoscaler_hosts_serving", "Entries that HAProxy has UP, or says nothing of.", "HOSTS", Number("up"), &[]),
    gauge("autoscaler_hosts_down", "Entries that HAProxy has DOWN.", "HOSTS", Number("down"), &[]),
    gauge("autoscaler_hosts_booting", "Machines that were launched and are not entered yet.", "HOSTS", Number("booting"), &[]),
    gauge("autoscaler_hosts_missing", "Machines that are missing, those that boot included.", "NEED", Number("missing"), &[]),
    gauge("autoscaler_blocked_seconds", "For how long a need could not be met; 0 where there is none.", "BLOCKED",
        Number("seconds"), &[]),
    gauge("autoscaler_backoff_seconds", "What is left of the back-off after failures.", "BACKOFF", Number("seconds_left"),
        &[REQUEST]),
    gauge("autoscaler_failures_in_a_row", "Failures since the last success.", "BACKOFF", Number("in_a_row"), &[REQUEST]),
    counter("autoscaler_machines_launched_total", "Machines launched, since the master's start.", "MACHINES",
        Number("launched"), &[]),
    counter("autoscaler_machines_failed_total", "Machines that never came to serve, since the master's start.", "MACHINES",
        Number("failed"), &[]),
    counter("autoscaler_refusals_total", "Requests refused, by reason, since the master's start.", "WAITS", Number("count"),
        &[REQUEST, ("reason", "reason")]),
    gauge("autoscaler_last_scale_up_seconds", "How long the steps of the last scale-up took.", "STEP", Number("seconds"),
        &[("step", "step")]),
    gauge("autoscaler_node_refused", "Whether the master does not let this node in.", "REFUSED", One, &[NODE]),
    gauge("autoscaler_node_double", "Whether two nodes go by this name, or its host's.", "DOUBLE", One, &[NODE]),
    gauge("autoscaler_tunnel_up", "Whether the tunnel to this app server stands.", "TUNNEL", Is("state", &["up"]),
        &[("host", "name")]),
    gauge("autoscaler_tunnel_state_seconds", "Time since the tunnel came up or went down.", "TUNNEL", Number("seconds"),
        &[("host", "name")]),
    gauge("autoscaler_haproxy_up", "Whether HAProxy answers on its socket.", "HAPROXY", Is("state", &["up"]), &[]),
    gauge("autoscaler_haproxy_server_up", "Whether HAProxy sends requests to this server.", "SERVER",
        Is("state", &["UP", "no-check"]), &[("server", "name")]),
    gauge("autoscaler_haproxy_server_missing", "Whether this server should be in HAProxy and is not.", "SERVER",
        Is("state", &["missing"]), &[("server", "name")]),
];

const fn gauge(
    name: &'static str,
    help: &'static str,
    verb: &'static str,
    value: Value,
    labels: &'static [(&'static str, &'static str)],
) -> Metric {
    Metric {
        name,
        kind: "gauge",
        help,
        verb,
        value,
        labels,
    }
}

const fn counter(
    name: &'static str,
    help: &'static str,
    verb: &'static str,
    value: Value,
    labels: &'static [(&'static str, &'static str)],
) -> Metric {
    Metric {
        kind: "counter",
        ..gauge(name, help, verb, value, labels)
    }
}

/// The one metric of masters that is there whether one answers or not.
const MASTER_UP: (&str, &str) = (
    "autoscaler_master_up",
    "Whether the master answers; 0, without a name, where none does.",
);

/// All reports, and the HAProxy hosts that were asked. Where a line is missing whose metric has no labels of its own, it is 0.
pub fn metrics(reports: &[Report], hosts: &[Host]) -> String {
    let mut out = head("autoscaler_masters", "Masters that answered.", "gauge");
    let _ = writeln!(out, "autoscaler_masters {}", reports.len());
    let (name, help) = MASTER_UP;
    out += &head(name, help, "gauge");
    for report in reports {
        let _ = writeln!(out, "{name}{{master=\"{}\"}} 1", escaped(&report.master));
    }
    if reports.is_empty() {
        let _ = writeln!(out, "{name}{{master=\"\"}} 0");
    }
    if !hosts.is_empty() {
        let name = "autoscaler_haproxy_host_up";
        let help = "Whether this HAProxy host answers the app server that asks, by ssh.";
        out += &head(name, help, "gauge");
        for host in hosts {
            let up = u8::from(host.error.is_none());
            let _ = writeln!(out, "{name}{{host=\"{}\"}} {up}", escaped(&host.name));
        }
    }
    for metric in &METRICS {
        out += &head(metric.name, metric.help, metric.kind);
        for report in reports {
            let mut none = true;
            for fact in report.all(metric.verb) {
                sample(&mut out, metric, report, Some(fact));
                none = false;
            }
            if none && metric.labels.is_empty() {
                sample(&mut out, metric, report, None);
            }
        }
    }
    out
}

/// What stands before a metric's samples.
fn head(name: &str, help: &str, kind: &str) -> String {
    format!("# HELP {name} {help}\n# TYPE {name} {kind}\n")
}

fn sample(out: &mut String, metric: &Metric, report: &Report, fact: Option<&Fact>) {
    let _ = write!(out, "{}{{master=\"{}\"", metric.name, escaped(&report.master));
    for (label, field) in metric.labels {
        let value = fact.map_or("", |f| f.get(field));
        let _ = write!(out, ",{label}=\"{}\"", escaped(value));
    }
    let percent = |value: u64| format!("{}.{:02}", value / 100, value % 100);
    let value = match (&metric.value, fact) {
        (Percent(field), fact) => percent(fact.map_or(0, |fact| fact.number(field))),
        (_, None) => "0".into(),
        (Decimal(field), Some(fact)) => fact.get(field).into(),
        (Number(field), Some(fact)) => fact.number(field).to_string(),
        (Is(field, words), Some(fact)) => u8::from(words.contains(&fact.get(field))).to_string(),
        (One, Some(_)) => "1".into(),
    };
    let _ = writeln!(out, "}} {value}");
}

/// A label's value.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;

    #[test]
    fn without_a_master_they_say_so() {
        let text = metrics(&[], &[]);
        assert!(text.lines().any(|l| l == "autoscaler_masters 0"));
    }

    #[test]
    fn each_metric_once_with_the_samples_of_every_master() {
        let text = metrics(
            &[
                report(
                    "lb1",
                    &[
                        "NODE a\"\\ 25 3",
                        "COOLDOWN 7",
                        "MAY SCALE cooldown 7",
                        "SERVER s - missing",
                    ],
                ),
                report(
                    "lb2",
                    &[
                        "MAY SCALE yes 0",
                        "SETTING cooldown 2m 120 file",
                        "SETTING threshold 50.5 50.5 file",
                    ],
                ),
            ],
            &[("lb1", None), ("lb2", Some("no route"))].map(|(name, error)| Host {
                name: name.into(),
                error: error.map(String::from),
            }),
        );
        for metric in &METRICS {
            assert_eq!(text.matches(&format!("# TYPE {} ", metric.name)).count(), 1);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == "counter");
        }
        for line in [
            r#"autoscaler_node_cpu_ratio{master="lb1",node="a\"\\"} 0.25"#,
            r#"autoscaler_masters 2"#,
            r#"autoscaler_haproxy_host_up{host="lb1"} 1"#,
            r#"autoscaler_haproxy_host_up{host="lb2"} 0"#,
            r#"autoscaler_setting{master="lb2",key="cooldown"} 120"#,
            r#"autoscaler_cooldown_seconds{master="lb1"} 7"#,
            r#"autoscaler_cooldown_seconds{master="lb2"} 0"#,
            r#"autoscaler_scaling_allowed{master="lb1",request="SCALE"} 0"#,
            r#"autoscaler_scaling_allowed{master="lb2",request="SCALE"} 1"#,
            r#"autoscaler_master_up{master="lb2"} 1"#,
            r#"autoscaler_setting{master="lb2",key="threshold"} 50.5"#,
            r#"autoscaler_scaling_answer{master="lb1",request="SCALE",answer="cooldown"} 1"#,
            r#"autoscaler_haproxy_server_up{master="lb1",server="s"} 0"#,
            r#"autoscaler_haproxy_server_missing{master="lb1",server="s"} 1"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }
}
