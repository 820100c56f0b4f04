//! What the text of HAProxy's configuration says of one backend.

use std::net::{IpAddr, SocketAddr};

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
pub struct Server {
    pub name: String,
    /// The address as it is written.
    pub target: String,
    /// What `default-server` gives, then what the line itself does.
    pub arguments: Vec<String>,
    /// The line as it stands.
    line: String,
    /// How many other lines of the file stand before it.
    place: usize,
}

impl Server {
    /// The address and port; `None` where they are not both numbers.
    pub fn address(&self) -> Option<SocketAddr> {
        let target = self.target.strip_prefix("ipv4@").unwrap_or(&self.target);
        let target = target.strip_prefix("ipv6@").unwrap_or(target);
        let (ip, port) = target.rsplit_once(':')?;
        let ip: IpAddr = ip.trim_matches(['[', ']']).parse().ok()?;
        Some(SocketAddr::new(ip, super::super::entry::parse_port(port).ok()?))
    }

    pub fn is_checked(&self) -> bool {
        self.arguments.iter().any(|a| a == "check")
    }

    /// Do both stand for the same server, whatever else changed in the file?
    pub fn same_as(&self, other: &Server) -> bool {
        (&self.line, self.place) == (&other.line, other.place)
    }
}

/// One `backend` or `listen` section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backend {
    pub name: String,
    pub servers: Vec<Server>,
    /// The words after `balance`; empty where none is given.
    pub balance: Vec<String>,
    /// The words after `hash-type`.
    pub hash_type: Vec<String>,
    /// What keeps the servers from being known for certain.
    pub unclear: Option<String>,
    /// All lines of the file but the servers of this backend.
    pub others: Vec<String>,
}

/// What a section hands on to its servers.
#[derive(Debug, Clone, Default)]
struct Settings {
    default_server: Vec<String>,
    balance: Vec<String>,
    hash_type: Vec<String>,
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
pub fn read(text: &str, backend: &str) -> Result<Backend, String> {
    let mut reader = Reader {
        found: Backend {
            name: backend.into(),
            ..Backend::default()
        },
        defaults: vec![(None, Settings::default())],
        here: Settings::default(),
        section: Section::Other,
        times: 0,
    };
    for line in text.split('\n') {
        reader.line(line)?;
    }
    match reader.times {
        0 => Err(format!("the configuration has no backend `{backend}`")),
        1 => Ok(reader.found),
        _ => Err(format!("the configuration has several backends `{backend}`")),
    }
}

struct Reader {
    found: Backend,
    /// The `defaults` sections so far, with their names.
    defaults: Vec<(Option<String>, Settings)>,
    /// Those of the section that is being read.
    here: Settings,
    section: Section,
    /// How often the backend was begun.
    times: usize,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let words = words(line);
        let first = words.first().copied().unwrap_or_default();
        if first.starts_with('.') {
            return Err(format!("the configuration has a condition: {first}"));
        }
        if SECTIONS.contains(&first) {
            self.begin(&words)?;
        } else if matches!(self.section, Section::Wanted) && first == "server" {
            self.server(line, &words);
            return Ok(());
        } else if !matches!(self.section, Section::Other) {
            self.setting(line, &words);
        }
        self.found.others.push(line.into());
        Ok(())
    }

    fn begin(&mut self, words: &[&str]) -> Result<(), String> {
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
                let name = words.get(1).filter(|n| **n != "from").map(|n| (*n).to_string());
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

    fn named(&self, wanted: &str) -> Result<Settings, String> {
        let mut found = self.defaults.iter().rev();
        found
            .find(|(name, _)| name.as_deref() == Some(wanted))
            .map(|(_, settings)| settings.clone())
            .ok_or_else(|| format!("the configuration has no defaults `{wanted}`"))
    }

    fn setting(&mut self, line: &str, words: &[&str]) {
        let [keyword, rest @ ..] = words else { return };
        let rest = || rest.iter().map(|w| (*w).to_string());
        let settings = match self.section {
            Section::Defaults => &mut self.defaults.last_mut().expect("one has begun").1,
            _ => &mut self.here,
        };
        match *keyword {
            "default-server" => settings.default_server.extend(rest()),
            "balance" => settings.balance = rest().collect(),
            "hash-type" => settings.hash_type = rest().collect(),
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

    fn server(&mut self, line: &str, words: &[&str]) {
        if is_odd(line) {
            self.found.unclear = Some("a server line has a quote, a backslash or a variable".into());
        }
        let own = words.iter().skip(3).map(|w| (*w).to_string());
        self.found.servers.push(Server {
            name: words.get(1).copied().unwrap_or_default().into(),
            target: words.get(2).copied().unwrap_or_default().into(),
            arguments: self.here.default_server.iter().cloned().chain(own).collect(),
            line: line.into(),
            place: self.found.others.len(),
        });
    }
}

/// The words of a line, without its comment.
fn words(line: &str) -> Vec<&str> {
    let line = line.split('#').next().unwrap_or_default();
    line.split_ascii_whitespace().collect()
}

/// Does HAProxy read the line otherwise than as words between blanks?
fn is_odd(line: &str) -> bool {
    line.contains(['"', '\'', '\\', '$'])
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
    fn what_cannot_be_known_is_said() {
        for (line, unclear) in [
            ("server-template app 1-3 10.0.0.1:80", "server-template"),
            ("server \"a\" 10.0.0.1:80", "quote"),
            ("default-server inter $X", "variable"),
        ] {
            let backend = read(&format!("{TEXT}backend b\n{line}\n"), "b").unwrap();
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
