//! What HAProxy says of a configuration that it refuses.

/// What it says each time.
const IDLE: [&str; 2] = [
    "Error(s) found in configuration file",
    "Fatal errors found in configuration",
];

/// The alerts and the warnings of its stderr, each without what stands before it. What is neither, as
/// of another program, is an alert where HAProxy has none.
pub fn of(stderr: &str) -> (Vec<String>, Vec<String>) {
    let (mut alerts, mut warnings, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for line in stderr.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (level, text) = split(line);
        if IDLE.iter().any(|idle| text.contains(idle)) {
            continue;
        }
        match level {
            "ALERT" => alerts.push(text.into()),
            "WARNING" => warnings.push(text.into()),
            "" => others.push(text.into()),
            _ => {}
        }
    }
    match alerts.is_empty() {
        true => (others, warnings),
        false => (alerts, warnings),
    }
}

/// The level of a line such as `[ALERT]    (123) : config : text`, and its text. From 3.2 on the
/// `config : ` is missing.
fn split(line: &str) -> (&str, &str) {
    let headed = line.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let Some((level, text)) = headed.filter(|(level, _)| level.bytes().all(|b| b.is_ascii_uppercase()))
    else {
        return ("", line);
    };
    let text = text.trim_start();
    let text = match text.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
        Some((process, rest)) if process.bytes().all(|b| b.is_ascii_digit()) => rest,
        _ => text,
    };
    let text = text.trim_start_matches([' ', ':']);
    (level, text.strip_prefix("config : ").unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_alone_whatever_the_version() {
        let old = "[NOTICE]   (7) : haproxy version is 2.6.12\n[NOTICE]   (7) : path to executable is /usr/sbin/haproxy\n\
            [WARNING]  (7) : config : missing timeouts for frontend 'web'.\n   | While not properly invalid\n\
            [ALERT]    (7) : config : parsing [a.cfg:3] : unknown keyword 'frob' in 'global' section\n\
            [ALERT]    (7) : config : Error(s) found in configuration file : a.cfg\n\
            [ALERT]    (7) : config : Fatal errors found in configuration.\n";
        let alerts = ["parsing [a.cfg:3] : unknown keyword 'frob' in 'global' section"];
        let (found, warnings) = of(old);
        assert_eq!(found, alerts);
        assert_eq!(warnings, ["missing timeouts for frontend 'web'."]);
        let new = old.replace(" : config : ", " : ");
        assert_eq!(of(&new), (found, warnings));
        assert_eq!(
            of("[ALERT] 123/456 (7) : parsing [a:1]").0,
            ["123/456 (7) : parsing [a:1]"]
        );
        assert_eq!(of("sh: haproxy: not found\n").0, ["sh: haproxy: not found"]);
        assert_eq!(of(""), (Vec::new(), Vec::new()));
    }
}
