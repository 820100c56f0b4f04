//! A command line → its words, as `/bin/sh` splits it (POSIX Shell Command Language, 2.2 and 2.3).
//! Nothing is expanded: what a shell would expand or act on is refused, so that no command means
//! something else here than it meant in a shell.

/// Splits a command as `/bin/sh` would: quotes, backslashes, backslash-newline.
/// `{ } [ ]` are ordinary, as they are to dash; an unquoted newline separates words.
/// Err says which character a shell would act on, or which quote is not closed, and what to do.
pub fn split(command: &str) -> Result<Vec<String>, String> {
    match scan(command) {
        (words, None) => Ok(words),
        (_, Some(problem)) => Err(problem),
    }
}

/// The words up to the first problem, and the problem. `is_native` needs the words even then.
pub fn scan(command: &str) -> (Vec<String>, Option<String>) {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = command.chars().peekable();
    let mut problem = None;
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\\' => match chars.next() {
                Some('\n') => {}
                escaped => word.get_or_insert_default().push(escaped.unwrap_or('\\')),
            },
            '\'' | '"' => {
                let into = word.get_or_insert_default();
                if let Err(text) = quoted(c, &mut chars, into) {
                    problem = Some(text);
                    break;
                }
            }
            '$' | '`' | '*' | '?' | '|' | '&' | ';' | '<' | '>' | '(' | ')' => {
                problem = Some(shell_only(c, "unquoted"));
                break;
            }
            '~' | '#' if word.is_none() => {
                problem = Some(shell_only(c, "unquoted, at the beginning of a word"));
                break;
            }
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    (words, problem)
}

/// Takes what stands up to the closing quote.
fn quoted(
    quote: char,
    chars: &mut std::iter::Peekable<std::str::Chars>,
    word: &mut String,
) -> Result<(), String> {
    let double = quote == '"';
    while let Some(c) = chars.next() {
        match c {
            _ if c == quote => return Ok(()),
            '$' | '`' if double => return Err(shell_only(c, "inside double quotes")),
            '\\' if double => match chars.peek() {
                Some('\n') => _ = chars.next(),
                Some('$' | '`' | '"' | '\\') => word.extend(chars.next()),
                _ => word.push(c),
            },
            _ => word.push(c),
        }
    }
    Err(format!("a quote {quote} is not closed"))
}

fn shell_only(c: char, place: &str) -> String {
    format!("{c} {place} is for a shell: put it in single quotes, or use `sh -c …`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_as_sh_does() {
        let cases: [(&str, &[&str]); 13] = [
            ("", &[]),
            (" a  b\tc\nd ", &["a", "b", "c", "d"]),
            ("a\\\n  b", &["a", "b"]),
            ("a\\\nb", &["ab"]),
            ("a\\ b \\$c", &["a b", "$c"]),
            ("'a b'c\"d e\"", &["a bcd e"]),
            ("'' \"\"", &["", ""]),
            (r#""\$ \` \" \\ \n""#, &["$ ` \" \\ \\n"]),
            ("\"a\\\nb\"", &["ab"]),
            ("'$`*?~#|\\'", &["$`*?~#|\\"]),
            ("a#b a~b K=[a,b] {x,y}", &["a#b", "a~b", "K=[a,b]", "{x,y}"]),
            ("'it'\\''s'", &["it's"]),
            ("end\\", &["end\\"]),
        ];
        for (command, words) in cases {
            assert_eq!(split(command).unwrap(), words, "{command:?}");
        }
    }

    #[test]
    fn refuses_what_a_shell_would_act_on() {
        for c in "$`*?|&;<>()~#".chars() {
            let text = split(&format!("a {c}b")).unwrap_err();
            assert!(text.starts_with(c) && text.contains("sh -c"), "{text}");
        }
        assert!(split("\"$HOME\"").unwrap_err().contains("double quotes"));
        assert!(split("\"`id`\"").unwrap_err().starts_with('`'));
        assert!(split("a 'b").unwrap_err().contains("not closed"));
        assert!(split("a \"b").unwrap_err().contains("not closed"));
        assert_eq!(scan("aws ec2 run|x").0, ["aws", "ec2", "run"]);
    }
}
