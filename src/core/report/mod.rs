//! What a master tells of itself: the lines that answer `STATUS` and `REPORT`, read by one table,
//! and made into JSON (here), metrics and a view for people.

mod metrics;
mod view;

use super::protocol::{LONGEST_LINE, one_line};
pub use metrics::metrics;
pub use view::{Look, Seen, view};

/// One kind of line. The manual page is held to this table by a test.
#[derive(Debug)]
pub struct Shape {
    pub verb: &'static str,
    /// Its key in the JSON of a master; the fields of shapes with the same key stand in one
    /// object, those without a key in the master's own.
    pub key: &'static str,
    /// Comes any number of times: a list.
    pub many: bool,
    /// A name for each word; `#` before a number, `…` after what is the rest of the line. A word
    /// `-` stands for nothing.
    pub fields: &'static [&'static str],
}

const fn shape_of(
    verb: &'static str,
    key: &'static str,
    many: bool,
    fields: &'static [&'static str],
) -> Shape {
    Shape {
        verb,
        key,
        many,
        fields,
    }
}

#[rustfmt::skip]
pub const SHAPES: [Shape; 22] = [
    // Of STATUS:
    shape_of("NODE", "nodes", true, &["name", "#cpu_percent", "#seconds_ago"]),
    shape_of("LEASE", "lease", false, &["node", "#seconds_left"]),
    shape_of("COOLDOWN", "cooldown", false, &["#seconds_left"]),
    // Of REPORT:
    shape_of("MASTER", "", false, &["version", "#uptime_seconds", "#epoch"]),
    shape_of("HOSTS", "hosts", false, &["#entries", "#min_hosts", "#max_hosts", "#up", "#down", "#booting"]),
    shape_of("NEED", "need", false, &["#missing", "estimate", "text…"]),
    shape_of("HELD", "lease", false, &["request", "#seconds_held", "#machines"]),
    shape_of("MAY", "may", true, &["request", "answer", "#seconds_left"]),
    shape_of("BACKOFF", "backoffs", true, &["request", "#seconds_left", "#in_a_row"]),
    shape_of("BLOCKED", "blocked", false, &["reason", "#seconds"]),
    shape_of("MACHINES", "machines", false, &["#launched", "#failed"]),
    shape_of("STEP", "steps", true, &["step", "#seconds"]),
    shape_of("SETTING", "settings", true, &["key", "value", "#number", "source"]),
    shape_of("ENTRY", "entries", true, &["name", "address", "#port", "instance", "state", "#seconds", "node"]),
    shape_of("DOUBLE", "doubles", true, &["node", "text…"]),
    shape_of("REFUSED", "refused", true, &["node", "#seconds_ago", "#times", "text…"]),
    shape_of("WAITS", "waits", true, &["request", "reason", "#count"]),
    shape_of("COUNT", "counts", true, &["request", "outcome", "#count"]),
    shape_of("DECISION", "decisions", true,
        &["#seconds_ago", "node", "request", "#cpu_percent", "#times", "outcome", "#seconds_taken", "text…"]),
    shape_of("TUNNEL", "tunnels", true, &["name", "address", "state", "#seconds", "#port", "error…"]),
    shape_of("HAPROXY", "haproxy", false, &["backend", "state", "error…"]),
    shape_of("SERVER", "servers", true, &["name", "address", "state"]),
];

/// The shape of lines that begin with `verb`.
pub fn shape(verb: &str) -> Option<&'static Shape> {
    SHAPES.iter().find(|s| s.verb == verb)
}

/// One line, read.
#[derive(Debug, Clone)]
pub struct Fact {
    shape: &'static Shape,
    words: Vec<String>,
}

impl Fact {
    /// `None` for a line of another kind.
    pub fn parse(line: &str) -> Option<Fact> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let shape = shape(verb)?;
        let words = rest.splitn(shape.fields.len(), ' ').map(String::from);
        Some(Fact {
            shape,
            words: words.collect(),
        })
    }

    /// The word called `name`; empty where there is none.
    pub fn get(&self, name: &str) -> &str {
        let mut fields = self.shape.fields.iter();
        let at = fields.position(|field| field.trim_matches(['#', '…']) == name);
        let word = at.and_then(|at| self.words.get(at));
        word.map(String::as_str).filter(|w| *w != "-").unwrap_or_default()
    }

    /// The whole number called `name`; 0 where there is none.
    pub fn number(&self, name: &str) -> u64 {
        self.get(name).parse().unwrap_or(0)
    }
}

/// What one master has told.
#[derive(Debug, Clone)]
pub struct Report {
    pub master: String,
    pub facts: Vec<Fact>,
}

impl Report {
    /// The lines that begin with `verb`.
    fn all(&self, verb: &'static str) -> impl Iterator<Item = &Fact> {
        self.facts.iter().filter(move |f| f.shape.verb == verb)
    }

    fn one(&self, verb: &'static str) -> Option<&Fact> {
        self.all(verb).next()
    }
}

/// A HAProxy host, as an app server reaches it.
#[derive(Debug, Clone)]
pub struct Host {
    pub name: String,
    /// Why it does not answer; `None` where it does.
    pub error: Option<String>,
}

/// A line for the wire, whatever is in its words.
pub fn line(text: &str) -> String {
    let mut line = one_line(text);
    line.truncate(LONGEST_LINE - 1);
    line
}

/// `text` as one word of a line.
pub fn word(text: &str) -> String {
    let word: String = one_line(text).replace(' ', "?");
    match word.is_empty() {
        true => "-".into(),
        false => word.chars().take(64).collect(),
    }
}

/// All reports as one JSON document, and the HAProxy hosts that were asked. The keys are those of [`SHAPES`]; what is not known is null.
pub fn json(reports: &[Report], hosts: &[Host]) -> String {
    let masters: Vec<String> = reports.iter().map(master).collect();
    let host = |host: &Host| {
        let error = host.error.as_ref().map_or("null".into(), |error| text(error));
        format!("{{\"name\":{},\"error\":{error}}}", text(&host.name))
    };
    let hosts: Vec<String> = hosts.iter().map(host).collect();
    format!(
        "{{\"masters\":[{}],\"haproxy_hosts\":[{}]}}\n",
        masters.join(","),
        hosts.join(",")
    )
}

fn master(report: &Report) -> String {
    let mut members = vec![format!("\"name\":{}", text(&report.master))];
    let mut done: Vec<&str> = Vec::new();
    for shape in &SHAPES {
        let key = shape.key;
        if done.contains(&key) {
            continue;
        }
        done.push(key);
        let of_key = |f: &&Fact| f.shape.key == key;
        let facts: Vec<&Fact> = report.facts.iter().filter(of_key).collect();
        members.push(match (shape.many, key) {
            (true, _) => {
                let list: Vec<String> = facts
                    .iter()
                    .map(|f| object(&members_of(shape, Some(f))))
                    .collect();
                format!("\"{key}\":[{}]", list.join(","))
            }
            (false, _) if facts.is_empty() && !key.is_empty() => format!("\"{key}\":null"),
            (false, _) => {
                let shapes = SHAPES.iter().filter(|s| s.key == key);
                let of = |s: &Shape| facts.iter().find(|f| f.shape.verb == s.verb).copied();
                let all: Vec<String> = shapes.flat_map(|s| members_of(s, of(s))).collect();
                match key {
                    "" => all.join(","),
                    _ => format!("\"{key}\":{}", object(&all)),
                }
            }
        });
    }
    object(&members)
}

/// A JSON object of `members`.
pub fn object(members: &[String]) -> String {
    format!("{{{}}}", members.join(","))
}

fn members_of(shape: &Shape, fact: Option<&Fact>) -> Vec<String> {
    let member = |field: &&str| {
        let name = field.trim_matches(['#', '…']);
        let word = fact.map_or("", |f| f.get(name));
        let value = match field.starts_with('#') {
            true if is_number(word) => word.into(),
            false if !word.is_empty() => text(word),
            _ => "null".into(),
        };
        format!("\"{name}\":{value}")
    };
    shape.fields.iter().map(member).collect()
}

/// Is it a number as JSON writes it, without a sign or an exponent?
fn is_number(word: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (whole, part) = word.split_once('.').unwrap_or((word, "0"));
    digits(whole) && digits(part) && (whole == "0" || !whole.starts_with('0'))
}

/// A JSON string of printable ASCII, which is what lines hold.
pub fn text(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::json;
    use crate::core::value::Value;

    pub fn report(master: &str, lines: &[&str]) -> Report {
        Report {
            master: master.into(),
            facts: lines.iter().map(|l| Fact::parse(l).unwrap()).collect(),
        }
    }

    #[test]
    fn every_key_is_there_whatever_was_told() {
        for lines in [
            &[][..],
            &[
                "NODE a\"\\b 5 1",
                "LEASE a 3",
                "HELD SCALE 4",
                "MAY SCALE yes 0",
                "DECISION 1 a SCALE - 1 failed 2 it \"did\" not",
                "DECISION 1 a SCALE 7 1 granted 0 ",
                "SERVER a",
            ],
        ] {
            let document = json(&[report("lb1", lines)], &[]);
            let Ok(Value::Map(map)) = json::parse(&document) else {
                panic!("{document}");
            };
            let Some(Value::List(masters)) = map.get("masters") else {
                panic!("{document}");
            };
            let Value::Map(master) = &masters[0] else {
                panic!("{document}");
            };
            for shape in &SHAPES {
                match (shape.key, shape.many) {
                    ("", _) => assert_eq!(master.get("epoch"), Some(&Value::Null)),
                    (key, true) => assert!(matches!(master.get(key), Some(Value::List(_))), "{key}"),
                    (key, false) => assert!(master.get(key).is_some(), "{key}"),
                }
            }
        }
        let one = json(&[report("lb1", &["LEASE a 3", "HELD SCALE 4 3"])], &[]);
        assert!(one.contains(
            r#""lease":{"node":"a","seconds_left":3,"request":"SCALE","seconds_held":4,"machines":3}"#
        ));
    }

    #[test]
    fn a_line_never_breaks_the_protocol() {
        assert_eq!(word(""), "-");
        assert_eq!(word("a b\n"), "a?b");
        assert_eq!(line("a\u{1b}\nb"), "a? b");
        assert!(line(&"x".repeat(2000)).len() < LONGEST_LINE);
        assert!(Fact::parse("FROB x").is_none());
    }
}
