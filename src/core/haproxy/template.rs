//! HAProxy's configuration out of a template: `$SERVERS` becomes one line per entry.

use std::collections::BTreeMap;

use super::entry::Entry;
use super::octets;

pub const PLACEHOLDER: &str = "$SERVERS";

/// Renders `template`, a text of [`octets`]; `numbers` are those of the entries. A line with
/// `$SERVERS` is repeated for every entry, sorted by name, so each server line keeps its
/// indentation; with no entry it goes.
///
/// # Errors
/// A text, when no line holds `$SERVERS`.
pub fn render(
    template: &str,
    entries: &[Entry],
    numbers: &BTreeMap<String, u32>,
    server_line: &str,
) -> Result<String, String> {
    let mut entries: Vec<&Entry> = entries.iter().collect();
    entries.sort();
    let mut rendered = String::new();
    let mut found = false;
    for line in template.split_inclusive('\n') {
        if !holds_servers(line) {
            rendered.push_str(line);
            continue;
        }
        found = true;
        let around: Vec<&str> = line.split(PLACEHOLDER).collect();
        for entry in &entries {
            let number = numbers.get(&entry.name).copied().unwrap_or_default();
            let server = entry.server_line(server_line, number);
            rendered.push_str(&around.join(&octets::widen(server.as_bytes())));
            if !line.ends_with('\n') {
                rendered.push('\n');
            }
        }
    }
    if !found {
        return Err(format!(
            "has no line with {PLACEHOLDER}, where the servers belong"
        ));
    }
    // HAProxy takes a last line without its line feed for a truncated file.
    if !rendered.ends_with('\n') {
        rendered.push('\n');
    }
    Ok(rendered)
}

/// Do the servers stand in the place of this line? A comment may speak of the placeholder without
/// being one.
pub fn holds_servers(line: &str) -> bool {
    line.contains(PLACEHOLDER) && !line.trim_start().starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(names: &[&str]) -> Vec<Entry> {
        names
            .iter()
            .map(|n| Entry::parse(n, "10.0.0.5 80 -").unwrap())
            .collect()
    }

    const PATTERN: &str = "server $NAME $IP:$PORT";

    #[test]
    fn one_sorted_line_per_entry_with_its_indentation() {
        let rendered = render(
            "# $SERVERS\nbackend b\n\t$SERVERS\nx",
            &entries(&["b", "a"]),
            &BTreeMap::new(),
            PATTERN,
        )
        .unwrap();
        assert_eq!(
            rendered,
            "# $SERVERS\nbackend b\n\tserver a 10.0.0.5:80\n\tserver b 10.0.0.5:80\nx\n"
        );
    }

    #[test]
    fn no_entries_leave_no_line() {
        assert_eq!(
            render("backend b\n  $SERVERS\n", &[], &BTreeMap::new(), PATTERN).unwrap(),
            "backend b\n"
        );
    }

    #[test]
    fn a_template_without_the_placeholder_is_refused() {
        assert!(render("backend b\n# $SERVERS\n", &[], &BTreeMap::new(), PATTERN).is_err());
    }
}
