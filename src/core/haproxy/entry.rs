//! One entry of `hosts.d`: a file named after its server.

use std::array;
use std::fmt::{Display, Write};
use std::net::IpAddr;

use crate::core::protocol::one_line;

/// An app server as HAProxy is told of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The server's name in HAProxy, and the file's.
    pub name: String,
    pub form: Form,
}

/// What stands in the file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// `<address> <port> <instance or ->`, from which the server line is made.
    Host {
        address: IpAddr,
        port: u16,
        instance: Option<String>,
    },
    /// A finished server line as release 0.0.3 wrote it, taken as it stands.
    Line {
        line: String,
        address: String,
        port: Option<u16>,
    },
}

impl Entry {
    /// Reads the text of the file called `name`.
    ///
    /// # Errors
    /// What is wrong with the text: it would put something else than one server line into
    /// HAProxy's configuration.
    pub fn parse(name: &str, text: &str) -> Result<Entry, String> {
        check_name(name)?;
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let line = lines.next().ok_or("is empty")?;
        if lines.next().is_some() {
            return Err("has more than one line".into());
        }
        if line.chars().any(char::is_control) {
            return Err("has a control character".into());
        }
        let mut words = line.split_ascii_whitespace();
        let form = match array::from_fn(|_| words.next()) {
            [Some("server"), Some(server), Some(target), _] if check_name(server).is_ok() => {
                let (address, port) = split_target(target);
                // The tunnel's ssh is called with it.
                check_host(address)?;
                Form::Line {
                    line: line.into(),
                    address: address.into(),
                    port,
                }
            }
            [Some(address), Some(port), Some(instance), None] => Form::Host {
                address: address
                    .parse()
                    .map_err(|_| format!("`{address}` is not an IP address"))?,
                port: parse_port(port)?,
                instance: match instance {
                    "-" => None,
                    id => Some(check_instance(id)?.into()),
                },
            },
            _ => return Err("is neither `<address> <port> <instance or ->` nor a `server …` line".into()),
        };
        Ok(Entry {
            name: name.into(),
            form,
        })
    }

    /// The text of the file; a line of 0.0.3 comes back as it was.
    pub fn text(&self) -> String {
        match &self.form {
            Form::Host {
                address,
                port,
                instance,
            } => {
                format!("{address} {port} {}\n", instance.as_deref().unwrap_or("-"))
            }
            Form::Line { line, .. } => format!("{line}\n"),
        }
    }

    /// The address, or in a line of 0.0.3 perhaps a name, without brackets.
    pub fn address(&self) -> String {
        match &self.form {
            Form::Host { address, .. } => address.to_string(),
            Form::Line { address, .. } => address.clone(),
        }
    }

    pub fn port(&self) -> Option<u16> {
        match &self.form {
            Form::Host { port, .. } => Some(*port),
            Form::Line { port, .. } => *port,
        }
    }

    pub fn instance(&self) -> Option<&str> {
        match &self.form {
            Form::Host { instance, .. } => instance.as_deref(),
            Form::Line { .. } => None,
        }
    }

    /// The line of `list-hosts`.
    pub fn listing(&self) -> String {
        let port = self.port().map_or("-".into(), |p| p.to_string());
        format!(
            "{} {} {port} {}",
            self.name,
            self.address(),
            self.instance().unwrap_or("-")
        )
    }

    /// The server's name in HAProxy's configuration; for a line of 0.0.3 it may be another than the
    /// entry's. `pattern` as for [`Entry::server_line`].
    pub fn server(&self, pattern: &str) -> String {
        let line = self.server_line(pattern, 0);
        line.split_ascii_whitespace().nth(1).unwrap_or_default().into()
    }

    /// The server line for HAProxy's configuration, made after `pattern` with its `$NAME`, `$IP`,
    /// `$PORT` and `$ID`, which is the entry's `number`.
    pub fn server_line(&self, pattern: &str, number: u32) -> String {
        match &self.form {
            Form::Line { line, .. } => line.clone(),
            Form::Host { address, port, .. } => {
                // Brackets keep the port apart from the last group of an IPv6 address.
                let ip: &dyn Display = match address {
                    IpAddr::V4(v4) => v4,
                    IpAddr::V6(v6) => &format!("[{v6}]"),
                };
                let values: [(_, &dyn Display); 4] =
                    [("NAME", &self.name), ("IP", ip), ("PORT", port), ("ID", &number)];
                let mut parts = pattern.split('$');
                let mut made = String::with_capacity(pattern.len() + 64);
                made += parts.next().unwrap_or_default();
                for part in parts {
                    let known = values
                        .iter()
                        .find_map(|(key, value)| Some((value, part.strip_prefix(key)?)));
                    let written = match known {
                        Some((value, rest)) => write!(made, "{value}{rest}"),
                        None => write!(made, "${part}"),
                    };
                    written.expect("a String takes all");
                }
                made
            }
        }
    }
}

/// Is `name` one that HAProxy takes for a server and that is safe as a file name?
///
/// # Errors
/// A text that says what is taken.
pub fn check_name(name: &str) -> Result<(), String> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
    if (1..=64).contains(&name.len()) && name.bytes().all(ok) && !name.starts_with(['.', '-']) {
        Ok(())
    } else {
        Err(
            "a name has 1 to 64 letters, digits, `-`, `_`, `.` and `:`, and begins with none of `.` and `-`"
                .into(),
        )
    }
}

/// Is `host` a host name or an address, and nothing that a program could take for an option?
///
/// # Errors
/// A text that says so.
pub fn check_host(host: &str) -> Result<(), String> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
    // What has a colon, or is digits and dots, can be nothing but an address.
    let dotted = host.contains('.') && host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let is_host = !host.contains(':') && !dotted || host.parse::<IpAddr>().is_ok();
    match is_host && !host.is_empty() && host.bytes().all(ok) && !host.starts_with('-') {
        true => Ok(()),
        false => Err(format!("`{}` is not a host name or address", one_line(host))),
    }
}

/// Is `id` an EC2 instance id: `i-` and 1 to 32 hex digits?
pub fn is_instance_id(id: &str) -> bool {
    id.strip_prefix("i-")
        .is_some_and(|hex| (1..=32).contains(&hex.len()) && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The same, with the complaint.
///
/// # Errors
/// A text that says so.
pub fn check_instance(id: &str) -> Result<&str, String> {
    match is_instance_id(id) {
        true => Ok(id),
        false => Err(format!(
            "`{}` is not an instance id such as i-0123456789abcdef0",
            one_line(id)
        )),
    }
}

/// Reads a TCP port.
///
/// # Errors
/// A text, when `text` is not a number from 1 to 65535.
pub fn parse_port(text: &str) -> Result<u16, String> {
    // `+80` is a number to Rust, and to nobody else here.
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|p| *p > 0 && digits)
        .ok_or_else(|| format!("`{text}` is not a port from 1 to 65535"))
}

/// The address and port of a server line's third word.
fn split_target(target: &str) -> (&str, Option<u16>) {
    let target = target.split_once('@').map_or(target, |(_family, rest)| rest);
    match target.rsplit_once(':') {
        Some((address, port)) => (address.trim_matches(['[', ']']), parse_port(port).ok()),
        None => (target.trim_matches(['[', ']']), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PATTERN: &str = "server $NAME $IP:$PORT check";

    #[test]
    fn an_entry_of_ours() {
        let entry = Entry::parse("app1", "10.0.0.5 8080 i-0ab\n").unwrap();
        assert_eq!(entry.listing(), "app1 10.0.0.5 8080 i-0ab");
        assert_eq!(entry.server_line(PATTERN, 7), "server app1 10.0.0.5:8080 check");
        assert_eq!(
            entry.server_line("server $NAME $IP:80", 7),
            "server app1 10.0.0.5:80"
        );
        assert_eq!(
            entry.server_line("server $NAME $IP id $ID", 7),
            "server app1 10.0.0.5 id 7"
        );
        assert_eq!(entry.text(), "10.0.0.5 8080 i-0ab\n");
        assert_eq!(Entry::parse("app1", "10.0.0.5 80 -\n").unwrap().instance(), None);
    }

    #[test]
    fn ipv6_stands_in_brackets() {
        let entry = Entry::parse("app1", "2001:db8::5 80 -").unwrap();
        assert_eq!(
            entry.server_line(PATTERN, 7),
            "server app1 [2001:db8::5]:80 check"
        );
        assert_eq!(entry.listing(), "app1 2001:db8::5 80 -");
    }

    #[test]
    fn an_entry_of_release_0_0_3_is_taken_as_it_stands() {
        let entry = Entry::parse("web-1", "  server web-1 10.0.0.5:80 check inter 2s\n").unwrap();
        assert_eq!(
            entry.server_line(PATTERN, 7),
            "server web-1 10.0.0.5:80 check inter 2s"
        );
        assert_eq!(entry.listing(), "web-1 10.0.0.5 80 -");
        let v6 = Entry::parse("w", "server w ipv6@[2001:db8::5]:81").unwrap();
        assert_eq!((v6.address().as_str(), v6.port()), ("2001:db8::5", Some(81)));
        assert_eq!(
            Entry::parse("w", "server w app.internal").unwrap().listing(),
            "w app.internal - -"
        );
    }

    #[test]
    fn what_could_inject_a_line_is_refused() {
        for text in [
            "",
            "10.0.0.5 80",
            "10.0.0.5 80 x",
            "10.0.0.5 80 i-0ab extra",
            "10.0.0.5 0 -",
            "host 80 -",
            "bind *:1",
            "server a\u{0}b 1.2.3.4:80",
            "server a 1.2.3.4:80\nbind *:1",
            "server a -oProxyCommand=x:80",
            "server a $IP:80",
            "server",
        ] {
            assert!(Entry::parse("app1", text).is_err(), "{text:?}");
        }
        for name in [
            "",
            ".x",
            "-x",
            "../x",
            "a b",
            "a\nb",
            "$x",
            "a/b",
            &"x".repeat(65),
        ] {
            assert!(Entry::parse(name, "10.0.0.5 80 -").is_err(), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn a_server_line_is_always_one_line_of_one_server(text in "(server )?[a-z0-9:.\\[\\]@ \n\r\u{0}#$-]{0,60}") {
            if let Ok(entry) = Entry::parse("app1", &text) {
                let line = entry.server_line(PATTERN, 7);
                prop_assert!(line.starts_with("server "));
                prop_assert!(!line.contains(char::is_control));
                prop_assert_eq!(Entry::parse("app1", &entry.text()).unwrap(), entry);
            }
        }
    }
}
