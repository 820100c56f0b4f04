//! What the text of HAProxy's configuration says of its sections with servers.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use crate::core::haproxy::entry::parse_port;
use crate::core::haproxy::template::holds_servers;

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
        Some(SocketAddr::new(ip, parse_port(port).ok()?))
    }

    pub fn is_checked(&self) -> bool {
        self.arguments.contains(&"check")
    }

    /// What the last `word` of its arguments says.
    pub fn value(&self, word: &str) -> Option<&str> {
        let at = self.arguments.iter().rposition(|argument| *argument == word)?;
        self.arguments.get(at + 1).copied()
    }

    /// Do both stand for the same server, whatever else changed in the file?
    pub fn same_as(&self, other: &Server) -> bool {
        (self.line, self.place) == (other.line, other.place)
    }

    /// The same, but for the address.
    pub fn moved_from(&self, other: &Server) -> bool {
        let numeric = self.address().is_some() && other.address().is_some();
        numeric && (&self.arguments, self.place) == (&other.arguments, other.place)
    }
}

/// A configuration, as far as the sections go that it was read for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Configuration<'a> {
    /// In the order of their names.
    pub sections: Vec<Section<'a>>,
    /// All lines of the file but the servers of these sections.
    pub others: Vec<&'a str>,
}

/// One `backend` or `listen` section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Section<'a> {
    pub name: &'a str,
    pub servers: Vec<Server<'a>>,
    pub settings: Settings<'a>,
    /// What keeps the servers from being known for certain.
    pub unclear: Option<String>,
}

/// What stands in a section, or above it in `defaults`, for its servers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings<'a> {
    default_server: Vec<&'a str>,
    /// The words after `balance`; empty where none is given.
    pub balance: Vec<&'a str>,
    /// The words after `hash-type`.
    pub hash_type: Vec<&'a str>,
    /// Are cookies made out of a server's address (`cookie … dynamic`)?
    pub dynamic_cookie: bool,
    /// `option external-check`.
    pub external_check: bool,
    /// Does a `defaults` section of this file stand above it?
    pub has_defaults: bool,
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

/// The names of all `backend` and `listen` sections.
pub fn sections(text: &str) -> Vec<&str> {
    let section = |line| {
        let mut words = words_of(line);
        let begins = matches!(words.next(), Some("backend" | "listen"));
        words.next().filter(|_| begins)
    };
    text.split('\n').filter_map(section).collect()
}

/// The lines of a template, with their numbers, that need the server `name` of its managed sections:
/// without it HAProxy refuses the configuration.
pub fn that_need<'a>(template: &'a str, name: &str) -> Vec<(usize, &'a str)> {
    let managed = managed(template);
    let mut section = "";
    let mut found = Vec::new();
    for (at, line) in template.split('\n').enumerate() {
        let words: Vec<&str> = words_of(line).collect();
        match words[..] {
            [first, ref rest @ ..] if SECTIONS.contains(&first) => {
                section = rest.first().copied().unwrap_or_default();
                continue;
            }
            _ => {}
        }
        let named = |part: &str| match part.split_once('/') {
            Some((section, server)) => server == name && managed.contains(&section),
            None => part == name && managed.contains(&section),
        };
        let as_a_word = words
            .windows(2)
            .any(|pair| ["use-server", "track"].contains(&pair[0]) && named(pair[1]));
        let as_an_argument = |word: &&str| word.split(['(', ')', ',']).skip(1).any(named);
        if as_a_word || words.iter().any(as_an_argument) {
            found.push((at + 1, line.trim()));
        }
    }
    found
}

/// A section with two servers of one name, and that name. HAProxy 3.4 takes such a text.
pub fn doubled(text: &str) -> Option<(&str, &str)> {
    let (mut section, mut seen) = ("", BTreeSet::new());
    for line in text.split('\n') {
        let mut words = words_of(line);
        match (words.next(), words.next()) {
            (Some(first), name) if SECTIONS.contains(&first) => {
                section = name.unwrap_or_default();
                seen.clear();
            }
            (Some("server"), Some(name)) if !seen.insert(name) => return Some((section, name)),
            _ => {}
        }
    }
    None
}

/// Reads these `sections` out of a configuration.
///
/// # Errors
/// Why they can't be read: one is missing or there several times, or the file has conditions.
pub fn read<'a>(text: &'a str, sections: &[&'a str]) -> Result<Configuration<'a>, String> {
    let mut reader = Reader {
        wanted: sections,
        ..Reader::default()
    };
    let mut words = Vec::new();
    for line in text.split('\n') {
        words.clear();
        words.extend(words_of(line));
        reader.line(line, &words)?;
    }
    let mut found = reader.found;
    found.sections.sort_by_key(|section| section.name);
    for name in sections {
        match found.sections.iter().filter(|s| s.name == *name).count() {
            0 => return Err(format!("the configuration has no backend `{name}`")),
            1 => {}
            _ => return Err(format!("the configuration has several backends `{name}`")),
        }
    }
    Ok(found)
}

/// Which section a line belongs to.
#[derive(Default)]
enum Place {
    #[default]
    Other,
    Defaults,
    /// The last one found.
    Wanted,
}

#[derive(Default)]
struct Reader<'a, 'b> {
    wanted: &'b [&'a str],
    found: Configuration<'a>,
    /// The `defaults` sections so far, with their names.
    defaults: Vec<(Option<&'a str>, Settings<'a>)>,
    place: Place,
    /// What a `defaults` section has that can't be known for certain.
    unclear: Option<String>,
}

impl<'a> Reader<'a, '_> {
    fn line(&mut self, line: &'a str, words: &[&'a str]) -> Result<(), String> {
        let first = words.first().copied().unwrap_or_default();
        if first.starts_with('.') {
            return Err(format!("the configuration has a condition: {first}"));
        }
        if SECTIONS.contains(&first) {
            self.begin(words)?;
        } else if matches!(self.place, Place::Wanted) && first == "server" {
            self.server(line, words);
            return Ok(());
        } else if !matches!(self.place, Place::Other) {
            self.setting(line, words);
        }
        self.found.others.push(line);
        Ok(())
    }

    fn begin(&mut self, words: &[&'a str]) -> Result<(), String> {
        let from = words
            .iter()
            .position(|w| *w == "from")
            .and_then(|at| words.get(at + 1));
        self.place = match words {
            ["defaults", rest @ ..] => {
                let name = rest.first().copied().filter(|n| *n != "from");
                let inherited = from.map_or(Ok(Settings::default()), |from| self.named(from))?;
                self.defaults.push((name, inherited));
                Place::Defaults
            }
            ["backend" | "listen", name, ..] if self.wanted.contains(name) => {
                let settings = match from {
                    Some(from) => self.named(from)?,
                    None => self.defaults.last().map(|(_, s)| s.clone()).unwrap_or_default(),
                };
                self.found.sections.push(Section {
                    name,
                    settings: Settings {
                        has_defaults: !self.defaults.is_empty(),
                        ..settings
                    },
                    servers: Vec::new(),
                    unclear: self.unclear.clone(),
                });
                Place::Wanted
            }
            _ => Place::Other,
        };
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
        let (settings, unclear) = match self.place {
            Place::Defaults => {
                let (_, settings) = self.defaults.last_mut().expect("one has begun");
                (settings, &mut self.unclear)
            }
            _ => {
                let section = self.found.sections.last_mut().expect("one has begun");
                (&mut section.settings, &mut section.unclear)
            }
        };
        match (*keyword, rest) {
            ("default-server", _) => settings.default_server.extend(rest),
            ("balance", _) => settings.balance = rest.to_vec(),
            ("hash-type", _) => settings.hash_type = rest.to_vec(),
            ("cookie", _) => settings.dynamic_cookie = rest.contains(&"dynamic"),
            ("option", ["external-check", ..]) => settings.external_check = true,
            ("no", ["option", "external-check", ..]) => settings.external_check = false,
            ("server-template", _) => *unclear = Some("it has a server-template".into()),
            _ => return,
        }
        if is_odd(line) {
            *unclear = Some(format!("`{keyword}` has a quote, a backslash or a variable"));
        }
    }

    fn server(&mut self, line: &'a str, words: &[&'a str]) {
        let place = self.found.others.len();
        let section = self.found.sections.last_mut().expect("one has begun");
        if is_odd(line) {
            section.unclear = Some("a server line has a quote, a backslash or a variable".into());
        }
        let own = words.iter().skip(3);
        let given = section.settings.default_server.iter();
        section.servers.push(Server {
            name: words.get(1).copied().unwrap_or_default(),
            target: words.get(2).copied().unwrap_or_default(),
            arguments: given.chain(own).copied().collect(),
            line,
            place,
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
        let read = read(TEXT, &["servers", "web"]).unwrap();
        let [section, web] = &read.sections[..] else {
            panic!("{read:?}")
        };
        assert_eq!(section.settings.balance, ["source"]);
        assert_eq!(section.settings.hash_type, ["consistent"]);
        assert_eq!(section.unclear, None);
        let [first, second] = &section.servers[..] else {
            panic!("{section:?}")
        };
        assert_eq!(first.arguments, ["inter", "1s"]);
        assert_eq!(second.arguments, ["inter", "1s", "rise", "1", "check"]);
        assert_eq!(second.address(), "[2001:db8::1]:81".parse().ok());
        assert!(second.is_checked() && !first.is_checked());
        assert_eq!(web.servers[0].arguments, ["rise", "9"]);
        assert!(section.settings.has_defaults && read.others.contains(&"ring r"));
        assert!(
            !read
                .others
                .iter()
                .any(|l| l.contains("second") || l.contains("web1"))
        );
    }

    #[test]
    fn what_a_section_takes_from_above() {
        let text = "defaults\n option external-check\n cookie S insert dynamic\nbackend a\nbackend b\n \
            no option external-check\n cookie S insert\ndefaults\nbackend c\n";
        let read = read(text, &["a", "b", "c"]).unwrap();
        let of = |s: &Section| (s.settings.external_check, s.settings.dynamic_cookie);
        let found: Vec<_> = read.sections.iter().map(of).collect();
        assert_eq!(found, [(true, true), (false, false), (false, false)]);
        let none = super::read("backend a\n", &["a"]).unwrap();
        assert!(!none.sections[0].settings.has_defaults);
    }

    #[test]
    fn the_managed_sections() {
        let template = "# $SERVERS\nbackend a # one\n  $SERVERS\n  $SERVERS # again\nbackend b\n  # $SERVERS\n\
            listen c\n  bind :1\n\t$SERVERS # no\nfrontend f\n  $SERVERS\nbackend a\n $SERVERS\n";
        assert_eq!(managed(template), ["a", "c"]);
    }

    #[test]
    fn lines_that_need_a_server() {
        let template = "frontend f\n acl up srv_is_up(b/app1)\n use_backend b if { srv_is_up(x/app1) }\nbackend b\n\
            # use-server app1 if up\n use-server app1 if up\n $SERVERS\n server own 1.2.3.4:80 track app1\n\
            backend x\n use-server app1 if y\n server app1 1.2.3.4:80\n";
        let lines = |name| {
            that_need(template, name)
                .iter()
                .map(|(at, _)| *at)
                .collect::<Vec<_>>()
        };
        assert_eq!(lines("app1"), [2, 6, 8]);
        assert_eq!(that_need(template, "app1")[1].1, "use-server app1 if up");
        assert!(lines("app").is_empty() && lines("own").is_empty());
    }

    #[test]
    fn names_that_are_there_twice() {
        assert_eq!(doubled(TEXT), None);
        let twice = format!("{TEXT}listen x\n server first a\n server b c\n  server first d # no\n");
        assert_eq!(doubled(&twice), Some(("x", "first")));
        assert_eq!(sections(&twice), ["web", "servers", "x"]);
    }

    #[test]
    fn what_cannot_be_known_is_said() {
        for (line, unclear) in [
            ("server-template app 1-3 10.0.0.1:80", "server-template"),
            ("server \"a\" 10.0.0.1:80", "quote"),
            ("default-server inter $X", "variable"),
        ] {
            let text = format!("{TEXT}backend b\n{line}\n");
            let read = read(&text, &["b"]).unwrap();
            assert!(read.sections[0].unclear.as_ref().unwrap().contains(unclear));
        }
        for text in [
            "backend a\n",
            "backend b\nbackend b\n",
            ".if defined(X)\nbackend b\n.endif\n",
            "backend b from nowhere\n",
        ] {
            assert!(read(text, &["b"]).is_err(), "{text}");
        }
    }
}
