//! INI text as Python's `ConfigParser` reads it, which is what 0.0.3 used: `key = value` or
//! `key: value`, names without case, comments on lines of their own, and an indented line
//! continues the value above it.

pub mod edit;

use std::collections::BTreeSet;

/// One `key = value`, with where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub section: String,
    pub key: String,
    pub value: String,
    /// From 1.
    pub line: usize,
}

/// Splits `text` into its items, in their order.
///
/// # Errors
/// The line, from 1, and what is wrong with it. A key or section that stands twice is one.
pub fn parse(text: &str) -> Result<Vec<Item>, (usize, String)> {
    let mut items: Vec<Item> = Vec::new();
    let mut section: Option<String> = None;
    let mut sections = BTreeSet::new();
    let mut keys = BTreeSet::new();
    // The indentation of the item that a deeper line would continue.
    let mut open: Option<usize> = None;
    for (index, raw) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = index + 1;
        let trimmed = raw.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        let indent = raw.len() - raw.trim_start().len();
        if open.is_some_and(|depth| indent > depth) {
            let item = items.last_mut().expect("an open item is the last one");
            item.value.push('\n');
            item.value.push_str(trimmed);
            continue;
        }
        if let Some(rest) = trimmed.strip_prefix('[') {
            let name = rest
                .strip_suffix(']')
                .ok_or((line, "a section is written [name]".to_string()))?;
            if !sections.insert(name) {
                return Err((line, format!("section [{name}] stands here a second time")));
            }
            keys.clear();
            section = Some(name.to_string());
            open = None;
            continue;
        }
        let section = section
            .as_ref()
            .ok_or((line, "a key before the first [section]".to_string()))?;
        let complaint = || format!("`{}` is neither `key = value` nor [section]", shorten(trimmed));
        let (key, value) = trimmed
            .split_once(['=', ':'])
            .ok_or_else(|| (line, complaint()))?;
        let key = key.trim().to_lowercase();
        if !keys.insert(key.clone()) {
            return Err((line, format!("`{key}` stands here a second time")));
        }
        items.push(Item {
            section: section.clone(),
            key,
            value: value.trim().into(),
            line,
        });
        open = Some(indent);
    }
    Ok(items)
}

/// The beginning of a line, so that an error shows no secret in full.
fn shorten(text: &str) -> String {
    text.chars().take(20).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(text: &str) -> Vec<(String, String, String)> {
        let items = parse(text).unwrap();
        items.into_iter().map(|i| (i.section, i.key, i.value)).collect()
    }

    fn value(text: &str) -> String {
        values(text)[0].2.clone()
    }

    #[test]
    fn comments_stand_on_their_own_line_only() {
        let text = "# one\n; two\n[a]\nKey = x # = ; % y\n";
        assert_eq!(values(text), [("a".into(), "key".into(), "x # = ; % y".into())]);
    }

    #[test]
    fn a_colon_separates_too_and_the_first_separator_counts() {
        assert_eq!(value("[a]\nk: v=1\n"), "v=1");
        assert_eq!(value("[a]\nk = http://h:1/\n"), "http://h:1/");
        assert_eq!(value("[a]\nk =\n"), "");
    }

    #[test]
    fn an_indented_line_continues_the_value() {
        let text = "[a]\nk = one\n  two\n  # no\n\n  three\nl = x\n";
        assert_eq!(value(text), "one\ntwo\nthree");
        assert_eq!(values(text).len(), 2);
        assert_eq!(
            values("[a]\n  k = 1\n  l = 2\n").len(),
            2,
            "same depth is a new key"
        );
    }

    #[test]
    fn crlf_and_a_byte_order_mark_are_taken() {
        assert_eq!(value("\u{feff}[a]\r\nk = v\r\n"), "v");
    }

    #[test]
    fn errors_name_their_line() {
        assert_eq!(parse("k = v").unwrap_err().0, 1);
        assert_eq!(
            parse("[a]\n\nfrob\n").unwrap_err(),
            (3, "`frob` is neither `key = value` nor [section]".into())
        );
        assert_eq!(
            parse("[a]\nk=1\nK=2\n").unwrap_err(),
            (3, "`k` stands here a second time".into())
        );
        assert_eq!(parse("[a]\n[a]\n").unwrap_err().0, 2);
        assert_eq!(parse("[a\n").unwrap_err().0, 1);
    }

    proptest! {
        #[test]
        fn never_panics(text in "[\\[\\]a-z=:#; \n\t]{0,80}") {
            let _ = parse(&text);
        }
    }
}
