//! What masters tell of themselves, made into JSON (here), metrics and a view for people.

mod metrics;
mod view;

use crate::core::protocol::facts::{Fact, SHAPES, Shape};
use crate::core::text::json::{object, text};
pub use metrics::metrics;
pub use view::{Look, Seen, view};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::text::json;
    use crate::core::text::value::Value;

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
}
