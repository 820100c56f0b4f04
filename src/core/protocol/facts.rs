//! The lines that answer `STATUS` and `REPORT`: one table of their words.

use super::{LONGEST_LINE, one_line};

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
    pub shape: &'static Shape,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_never_breaks_the_protocol() {
        assert_eq!(word(""), "-");
        assert_eq!(word("a b\n"), "a?b");
        assert_eq!(line("a\u{1b}\nb"), "a? b");
        assert!(line(&"x".repeat(2000)).len() < LONGEST_LINE);
        assert!(Fact::parse("FROB x").is_none());
    }
}
