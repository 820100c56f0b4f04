//! What the text of HAProxy's configuration says of one backend.

use std::net::{IpAddr, SocketAddr};

use crate::core::template::holds_servers;

/// The words that begin a section.
const SECTIONS: [&str; 20] = [
    "acme",
    "backend",
    "cache",
    "crt-store",
    "defaults",
    "fcgi-app",
    "frontend",
    "global",
    "healthcheck",
    "http-errors",
    "listen",
    "log-forward",
    "log-profile",
    "mailers",
    "peers",
    "program",
    "resolvers",
    "ring",
    "traces",
    "userlist",
];

/// One `server` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server<'a> {
    pub name: &'a str,
    /// The address as it is written.
    pub target: &'a str,
    /// What `default-server` gives, then what the line itself does.
    pub arguments: Vec<&'a str>,
    /// The line as it stands.
    pub line: &'a str,
    /// How many other lines of the file stand before it.
    place: usize,
}

impl Server<'_> {
    /// The address and port; `None` where they are not both numbers.
    pub fn address(&self) -> Option<SocketAddr> {
        let target = self.target.strip_prefix("ipv4@").unwrap_or(self.target);
        let target = target.strip_prefix("ipv6@").unwrap_or(target);
        let (ip, port) = target.rsplit_once(':')?;
        let ip: IpAddr = ip.trim_matches(['[', ']']).parse().ok()?;
        Some(SocketAddr::new(ip, super::super::entry::parse_port(port).ok()?))
    }

    pub fn is_checked(&self) -> bool {
        self.arguments.contains(&"check")
    }

    /// Do both stand for the same server, whatever else changed in the file?
    pub fn same_as(&self, other: &Server) -> bool {
        (self.line, self.place) == (other.line, other.place)
    }
}

/// One `backend` or `listen` section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backend<'a> {
    pub name: &'a str,
    pub servers: Vec<Server<'a>>,
    /// The words after `balance`; empty where none is given.
    pub balance: Vec<&'a str>,
    /// The words after `hash-type`.
    pub hash_type: Vec<&'a str>,
    /// What keeps the servers from being known for certain.
    pub unclear: Option<String>,
    /// All lines of the file but the servers of this backend.
    pub others: Vec<&'a str>,
}

/// The names of the `backend` and `listen` sections of a template that have a line with
/// `$SERVERS`: the managed ones, whose servers are those of `hosts.d`.
pub fn managed(template: &str) -> Vec<&str> {
    let mut section = None;
    let mut found = Vec::new();
    for line in template.split('\n') {
        let mut words = words_of(line);
        match (words.next(), words.next()) {
            (Some("backend" | "listen"), name) => section = name,
            (Some(first), _) if SECTIONS.contains(&first) => section = None,
            (Some(_), _) if holds_servers(line) => found.extend(section.filter(|s| !found.contains(s))),
            _ => {}
        }
    }
    found
}

/// What a section hands on to its servers.
#[derive(Debug, Clone, Default)]
struct Settings<'a> {
    default_server: Vec<&'a str>,
    balance: Vec<&'a str>,
    hash_type: Vec<&'a str>,
}

/// Which section a line belongs to.
enum Section {
    Other,
    Defaults,
    Wanted,
}

/// Reads the section of `backend` out of a configuration.
///
/// # Errors
/// Why it can't be read: it is missing, there are several, or the file has conditions.
pub fn read<'a>(text: &'a str, backend: &'a str) -> Result<Backend<'a>, String> {
    let mut reader = Reader {
        found: Backend {
            name: backend,
            ..Backend::default()
        },
        defaults: vec![(None, Settings::default())],
        here: Settings::default(),
        section: Section::Other,
        times: 0,
    };
    let mut words = Vec::new();
    for line in text.split('\n') {
        words.clear();
        words.extend(words_of(line));
        reader.line(line, &words)?;
    }
    match reader.times {
        0 => Err(format!("the configuration has no backend `{backend}`")),
        1 => Ok(reader.found),
        _ => Err(format!("the configuration has several backends `{backend}`")),
    }
}

struct Reader<'a> {
    found: Backend<'a>,
    /// The `defaults` sections so far, with their names.
    defaults: Vec<(Option<&'a str>, Settings<'a>)>,
    /// Those of the section that is being read.
    here: Settings<'a>,
    section: Section,
    /// How often the backend was begun.
    times: usize,
}

impl<'a> Reader<'a> {
    fn line(&mut self, line: &'a str, words: &[&'a str]) -> Result<(), String> {
        let first = words.first().copied().unwrap_or_default();
        if first.starts_with('.') {
            return Err(format!("the configuration has a condition: {first}"));
        }
        if SECTIONS.contains(&first) {
            self.begin(words)?;
        } else if matches!(self.section, Section::Wanted) && first == "server" {
            self.server(line, words);
            return Ok(());
        } else if !matches!(self.section, Section::Other) {
            self.setting(line, words);
        }
        self.found.others.push(line);
        Ok(())
    }

    fn begin(&mut self, words: &[&'a str]) -> Result<(), String> {
        self.section = match words {
            ["defaults", ..] => Section::Defaults,
            ["backend" | "listen", name, ..] if *name == self.found.name => Section::Wanted,
            _ => Section::Other,
        };
        let from = words
            .iter()
            .position(|w| *w == "from")
            .and_then(|at| words.get(at + 1));
        match self.section {
            Section::Other => {}
            Section::Defaults => {
                let name = words.get(1).copied().filter(|n| *n != "from");
                let inherited = from.map_or(Ok(Settings::default()), |from| self.named(from))?;
                self.defaults.push((name, inherited));
            }
            Section::Wanted => {
                self.times += 1;
                self.here = match from {
                    Some(from) => self.named(from)?,
                    None => self.defaults.last().map(|(_, s)| s.clone()).unwrap_or_default(),
                };
                self.found.balance = self.here.balance.clone();
                self.found.hash_type = self.here.hash_type.clone();
            }
        }
        Ok(())
    }

    fn named(&self, wanted: &str) -> Result<Settings<'a>, String> {
        let mut found = self.defaults.iter().rev();
        found
            .find(|(name, _)| *name == Some(wanted))
            .map(|(_, settings)| settings.clone())
            .ok_or_else(|| format!("the configuration has no defaults `{wanted}`"))
    }

    fn setting(&mut self, line: &str, words: &[&'a str]) {
        let [keyword, rest @ ..] = words else { return };
        let settings = match self.section {
            Section::Defaults => &mut self.defaults.last_mut().expect("one has begun").1,
            _ => &mut self.here,
        };
        match *keyword {
            "default-server" => settings.default_server.extend(rest),
            "balance" => settings.balance = rest.to_vec(),
            "hash-type" => settings.hash_type = rest.to_vec(),
            "server-template" => self.found.unclear = Some("it has a server-template".into()),
            _ => return,
        }
        if is_odd(line) {
            self.found.unclear = Some(format!("`{keyword}` has a quote, a backslash or a variable"));
        }
        if matches!(self.section, Section::Wanted) {
            self.found.balance = self.here.balance.clone();
            self.found.hash_type = self.here.hash_type.clone();
        }
    }

    fn server(&mut self, line: &'a str, words: &[&'a str]) {
        if is_odd(line) {
            self.found.unclear = Some("a server line has a quote, a backslash or a variable".into());
        }
        let own = words.iter().skip(3);
        self.found.servers.push(Server {
            name: words.get(1).copied().unwrap_or_default(),
            target: words.get(2).copied().unwrap_or_default(),
            arguments: self.here.default_server.iter().chain(own).copied().collect(),
            line,
            place: self.found.others.len(),
        });
    }
}

/// The words of a line, without its comment.
fn words_of(line: &str) -> impl Iterator<Item = &str> {
    let line = line.split('#').next().unwrap_or_default();
    line.split_ascii_whitespace()
}

/// Does HAProxy read the line otherwise than as words between blanks?
fn is_odd(line: &str) -> bool {
    line.bytes().any(|b| matches!(b, b'"' | b'\'' | b'\\' | b'$'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
global
    stats socket /run/haproxy/admin.sock
defaults base
    balance leastconn
    default-server inter 1s
defaults
    default-server rise 9
listen web
    bind :80
    server web1 10.0.0.9:80
backend servers from base # ours
    server first 10.0.0.1:80
    default-server rise 1
\tserver second [2001:db8::1]:81 check
    balance source
    hash-type consistent
ring r
    server third 10.0.0.3:80
";

    #[test]
    fn the_servers_with_what_their_place_gives_them() {
        let backend = read(TEXT, "servers").unwrap();
        assert_eq!(backend.balance, ["source"]);
        assert_eq!(backend.hash_type, ["consistent"]);
        assert_eq!(backend.unclear, None);
        let [first, second] = &backend.servers[..] else {
            panic!("{backend:?}")
        };
        assert_eq!(first.arguments, ["inter", "1s"]);
        assert_eq!(second.arguments, ["inter", "1s", "rise", "1", "check"]);
        assert_eq!(second.address(), "[2001:db8::1]:81".parse().ok());
        assert!(second.is_checked() && !first.is_checked());
        assert_eq!(read(TEXT, "web").unwrap().servers[0].arguments, ["rise", "9"]);
    }

    #[test]
    fn the_managed_sections() {
        let template = "# $SERVERS\nbackend a # one\n  $SERVERS\n  $SERVERS # again\nbackend b\n  # $SERVERS\n\
            listen c\n  bind :1\n\t$SERVERS # no\nfrontend f\n  $SERVERS\nbackend a\n $SERVERS\n";
        assert_eq!(managed(template), ["a", "c"]);
    }

    #[test]
    fn what_cannot_be_known_is_said() {
        for (line, unclear) in [
            ("server-template app 1-3 10.0.0.1:80", "server-template"),
            ("server \"a\" 10.0.0.1:80", "quote"),
            ("default-server inter $X", "variable"),
        ] {
            let text = format!("{TEXT}backend b\n{line}\n");
            let backend = read(&text, "b").unwrap();
            assert!(backend.unclear.unwrap().contains(unclear));
        }
        for text in [
            "backend a\n",
            "backend b\nbackend b\n",
            ".if defined(X)\nbackend b\n.endif\n",
            "backend b from nowhere\n",
        ] {
            assert!(read(text, "b").is_err(), "{text}");
        }
    }
}
