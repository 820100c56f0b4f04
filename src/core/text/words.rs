//! Words: splitting a line into them, and finding the one that was meant.

/// Splits at blanks, as a shell does with single and double quotes and backslashes, and expands
/// nothing: what an argv takes.
///
/// # Errors
/// A text, when a quote is not closed.
pub fn quoted(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        None => return Err(format!("the quote {c} is not closed")),
                        Some(end) if end == c => break,
                        Some('\\') if c == '"' => word.extend(chars.next()),
                        Some(inner) => word.push(inner),
                    }
                }
            }
            '\\' => word.get_or_insert_default().extend(chars.next()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// `; did you mean NAME?`, or nothing when no name is near `word`.
pub fn did_you_mean<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> String {
    names
        .map(|name| (distance(word, name), name))
        .min()
        .filter(|(distance, name)| *distance <= 1 + name.len() / 6)
        .map_or(String::new(), |(_, name)| format!("; did you mean {name}?"))
}

/// How many characters to change, insert or delete (Levenshtein), whatever their case.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let changed = diagonal + usize::from(!x.eq_ignore_ascii_case(&y));
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_backslashes() {
        assert_eq!(
            quoted(r#"a 'b c' "d\" e" f\ g "" ~/h"#).unwrap(),
            ["a", "b c", "d\" e", "f g", "", "~/h"]
        );
        assert_eq!(quoted("  ").unwrap(), Vec::<String>::new());
        assert!(quoted("a 'b").is_err());
    }

    #[test]
    fn near_misses() {
        let names = ["threshold", "window", "--image-id", "--block-device-mappings"];
        let hint = |word| did_you_mean(word, names.into_iter());
        assert_eq!(hint("treshold"), "; did you mean threshold?");
        assert_eq!(hint("windwo"), "; did you mean window?");
        assert_eq!(hint("--ImageID"), "; did you mean --image-id?");
        assert!(hint("--blok-device-maping").contains("--block-device-mappings"));
        assert_eq!(hint("frobnicate"), "");
    }
}
