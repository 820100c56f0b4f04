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

/// The word of `known` that `word` most likely was meant to be, if any is near enough.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|k| (distance(word, k), k))
        .filter(|(distance, k)| *distance <= 2 && *distance < k.len() / 2)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k)
}

/// How many letters to insert, delete or exchange to turn `a` into `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let kept = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = kept.min(row[j] + 1).min(diagonal + 1);
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
        let known = ["threshold", "window", "port"];
        assert_eq!(nearest("treshold", known.into_iter()), Some("threshold"));
        assert_eq!(nearest("windwo", known.into_iter()), Some("window"));
        assert_eq!(nearest("frobnicate", known.into_iter()), None);
    }
}
