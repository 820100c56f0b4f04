//! "Did you mean …?"

/// `; did you mean NAME?`, or nothing when no name is near.
pub fn suggest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> String {
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
    fn suggests_what_is_near() {
        let names = ["--count", "--image-id", "--block-device-mappings"];
        let hint = |word| suggest(word, names.into_iter());
        assert_eq!(hint("--cuont"), "; did you mean --count?");
        assert_eq!(hint("--ImageID"), "; did you mean --image-id?");
        assert_eq!(hint("--key-name"), "");
        assert!(hint("--blok-device-maping").contains("--block-device-mappings"));
    }
}
