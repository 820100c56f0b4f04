//! One key of an INI's text changed, and every other line left as it is.

use super::{Item, parse};

/// `text` with `key` of `section` at `value`: in the place of the line that sets it, else under the
/// comment that shows it, else at the end of its section, else in a new section at the end. A value
/// of several lines is continued on indented ones; an empty one leaves the key unset.
///
/// # Errors
/// What keeps the value from being read back as it is, or what is wrong with `text`, after its line.
pub fn set(text: &str, section: &str, key: &str, value: &str) -> Result<String, String> {
    let items = parse(text).map_err(|(line, cause)| format!("line {line}: {cause}"))?;
    let page = Page::new(text, section, &items);
    let written: Vec<&str> = value.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let changed = |places: &[Edit]| {
        let mut found = places.iter().map(|place| page.with(place, key, &written));
        found.find(|new| holds(new, &items, section, key, &written.join("\n")))
    };
    let places = match items.iter().find(|i| i.section == section && i.key == key) {
        Some(item) if item.value == written.join("\n") => return Ok(text.into()),
        Some(item) => vec![Edit::Replace(item.line - 1)],
        None => page.places(key),
    };
    changed(&places).ok_or_else(|| "can't be written: a line of the value looks like a comment".into())
}

/// Does `text` say what `before` said, but for this one key?
fn holds(text: &str, before: &[Item], section: &str, key: &str, value: &str) -> bool {
    let others = |items: &[Item]| -> Vec<(String, String, String)> {
        let mut rest: Vec<_> = items.to_vec();
        rest.retain(|i| i.section != section || i.key != key);
        rest.into_iter().map(|i| (i.section, i.key, i.value)).collect()
    };
    parse(text).is_ok_and(|items| {
        let set = items.iter().find(|i| i.section == section && i.key == key);
        set.is_some_and(|i| i.value == value) && others(&items) == others(before)
    })
}

/// Where the key goes, by line from 0.
#[derive(Debug)]
enum Edit {
    /// The key stands here.
    Replace(usize),
    /// After this line.
    After(usize),
    NewSection,
}

/// A text by lines, with their ends.
struct Page<'a> {
    lines: Vec<&'a str>,
    end_of_line: &'static str,
    /// The line of `[section]`, and the first line after it that is another's.
    section: Option<(usize, usize)>,
    name: &'a str,
    /// Before each key of the section.
    indentation: &'a str,
    /// The last line that sets something in it.
    last: Option<usize>,
}

impl<'a> Page<'a> {
    fn new(text: &'a str, name: &'a str, items: &[Item]) -> Page<'a> {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let is_header =
            |line: &&str| line.trim_start_matches('\u{feff}').starts_with('[') && line.trim().ends_with(']');
        let header = format!("[{name}]");
        let begin = lines
            .iter()
            .position(|line| is_header(line) && line.trim_start_matches('\u{feff}').trim() == header);
        let section = begin.map(|begin| {
            let next = lines[begin + 1..].iter().position(is_header);
            (begin, next.map_or(lines.len(), |n| begin + 1 + n))
        });
        let last_item = items.iter().rfind(|i| i.section == name).map(|i| i.line - 1);
        Page {
            end_of_line: if text.contains("\r\n") { "\r\n" } else { "\n" },
            section,
            name,
            indentation: last_item.map_or("", |line| indentation(lines[line])),
            last: last_item.map(|line| end_of_value(&lines, line)),
            lines,
        }
    }

    /// Where a key may go that is not there, the best place first.
    fn places(&self, key: &str) -> Vec<Edit> {
        let Some((begin, end)) = self.section else {
            return vec![Edit::NewSection];
        };
        let shows = |line: &&str| {
            let comment = line.trim().strip_prefix(['#', ';']);
            let name = comment.and_then(|c| c.split_once(['=', ':']));
            name.is_some_and(|(name, _)| name.trim() == key)
        };
        let shown = self.lines[begin..end].iter().position(shows);
        let mut places: Vec<Edit> = shown.map(|line| Edit::After(begin + line)).into_iter().collect();
        places.push(Edit::After(self.last.unwrap_or(begin)));
        places
    }

    fn with(&self, edit: &Edit, key: &str, value: &[&str]) -> String {
        let own = |prefix: &str, indentation: &str| {
            let continued = format!("{}{indentation}    ", self.end_of_line);
            let line = format!("{prefix}{}", value.join(&continued));
            line.trim_end().to_string() + self.end_of_line
        };
        let fresh = |indentation: &str| own(&format!("{indentation}{key} = "), indentation);
        match *edit {
            Edit::Replace(line) => {
                let old = self.lines[line];
                let separator = old.find(['=', ':']).map_or(old.len(), |at| at + 1);
                let (name, rest) = old.split_at(separator);
                let blank = &rest[..rest.len() - rest.trim_start_matches([' ', '\t']).len()];
                let blank = if rest.trim().is_empty() { " " } else { blank };
                // Comments among the lines of the old value stay.
                let kept = self.lines[line + 1..=end_of_value(&self.lines, line)]
                    .iter()
                    .filter(|l| l.trim().is_empty() || is_comment(l));
                let mut new = self.lines[..line].concat() + &own(&format!("{name}{blank}"), indentation(old));
                new.extend(kept.copied());
                new + &self.lines[end_of_value(&self.lines, line) + 1..].concat()
            }
            Edit::After(line) => {
                let mut new = self.lines[..=line].concat();
                if !new.ends_with('\n') {
                    new += self.end_of_line;
                }
                new + &fresh(self.indentation) + &self.lines[line + 1..].concat()
            }
            Edit::NewSection => {
                let mut new = self.lines.concat();
                if !new.is_empty() {
                    let ended = new.ends_with('\n');
                    new += if ended { "" } else { self.end_of_line };
                    new += self.end_of_line;
                }
                new + &format!("[{}]{}", self.name, self.end_of_line) + &fresh("")
            }
        }
    }
}

fn is_comment(line: &str) -> bool {
    line.trim().starts_with(['#', ';'])
}

fn indentation(line: &str) -> &str {
    &line[..line.len() - line.trim_start().len()]
}

/// The last line that continues the value that begins on `line`, or that line.
fn end_of_value(lines: &[&str], line: usize) -> usize {
    let depth = indentation(lines[line]).len();
    let mut end = line;
    for (number, next) in lines.iter().enumerate().skip(line + 1) {
        if next.trim().is_empty() || is_comment(next) {
            continue;
        }
        if indentation(next).len() <= depth {
            break;
        }
        end = number;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "\
# about it
[a]
# one
#x = 1
#y = 2

k = long
    value
    # with a word
    of it
L: 7

[b]
; none
";

    fn changed(section: &str, key: &str, value: &str) -> String {
        set(TEXT, section, key, value).unwrap()
    }

    #[test]
    fn a_key_that_is_there_keeps_its_place_and_its_form() {
        assert_eq!(changed("a", "l", "8"), TEXT.replace("L: 7", "L: 8"));
        assert_eq!(changed("a", "l", "7"), TEXT);
        assert_eq!(
            changed("a", "k", "short"),
            TEXT.replace(
                "k = long\n    value\n    # with a word\n    of it\n",
                "k = short\n    # with a word\n"
            )
        );
        assert_eq!(set("[a]\nk=1\n", "a", "k", "2").unwrap(), "[a]\nk=2\n");
        assert_eq!(set("[a]\nk =\n", "a", "k", "2").unwrap(), "[a]\nk = 2\n");
        assert_eq!(set("[a]\nk = 1\n", "a", "k", "").unwrap(), "[a]\nk =\n");
        assert_eq!(set("[a]\n  k = 1", "a", "k", "2").unwrap(), "[a]\n  k = 2\n");
    }

    #[test]
    fn a_key_that_is_not_there_goes_under_its_comment_or_to_the_end_of_its_section() {
        assert_eq!(
            changed("a", "x", "3"),
            TEXT.replace("#x = 1\n", "#x = 1\nx = 3\n")
        );
        assert_eq!(changed("a", "z", "3"), TEXT.replace("L: 7\n", "L: 7\nz = 3\n"));
        assert_eq!(changed("b", "z", "3"), TEXT.replace("[b]\n", "[b]\nz = 3\n"));
        assert_eq!(changed("c", "z", "3"), format!("{TEXT}\n[c]\nz = 3\n"));
        assert_eq!(set("", "c", "z", "3").unwrap(), "[c]\nz = 3\n");
        assert_eq!(
            set("[a]\n  k = 1", "a", "z", "3").unwrap(),
            "[a]\n  k = 1\n  z = 3\n"
        );
        // Under its comment, it would take the next line for its own.
        let hidden = "[a]\nk = 1\n#z = 2\n  more\n";
        assert_eq!(set(hidden, "a", "z", "3").unwrap(), format!("{hidden}z = 3\n"));
    }

    #[test]
    fn line_ends_and_a_byte_order_mark_stay() {
        assert_eq!(
            set("\u{feff}[a]\r\nk = 1\r\n", "a", "z", "3").unwrap(),
            "\u{feff}[a]\r\nk = 1\r\nz = 3\r\n"
        );
    }

    #[test]
    fn a_value_of_several_lines_is_continued() {
        assert_eq!(
            set("[a]\nk = 1\n", "a", "k", "one\n\n two\n").unwrap(),
            "[a]\nk = one\n    two\n"
        );
        assert!(set("[a]\n", "a", "k", "one\n# two\n").is_err());
        assert!(
            set("[a]\nx\n", "a", "k", "1")
                .unwrap_err()
                .starts_with("line 2: ")
        );
    }

    proptest! {
        #[test]
        fn what_is_set_is_read_back_and_all_else_stays(
            text in "(\\[a\\]\n)?([ ]{0,2}[#kxyz]{1,2} ?[=:] ?[a-z#]{0,3}\r?\n|\\[b\\]\n| {1,3}[a-z]\n|\n){0,8}",
            value in "[a-z=:#\\[\\] ]{0,6}",
        ) {
            if let Ok(before) = parse(&text)
                && let Ok(new) = set(&text, "a", "x", &value)
            {
                let after = parse(&new).unwrap();
                let get = |items: &[Item]| items.iter().find(|i| i.section == "a" && i.key == "x").map(|i| i.value.clone());
                prop_assert_eq!(get(&after), Some(value.trim().to_string()));
                let comments = |text: &str| text.lines().filter(|l| is_comment(l)).map(String::from).collect::<Vec<_>>();
                prop_assert_eq!(comments(&new), comments(&text));
                prop_assert_eq!(after.len(), before.len() + usize::from(get(&before).is_none()));
            }
        }

        #[test]
        fn a_plain_value_can_always_be_set(
            text in "(\\[a\\]\n)?([ ]{0,2}[#kxyz]{1,2} ?[=:] ?[a-z#]{0,3}\n|\\[b\\]\n| {1,3}[a-z]\n|\n){0,8}",
        ) {
            if parse(&text).is_ok() {
                prop_assert!(set(&text, "a", "x", "v").is_ok());
            }
        }
    }
}
