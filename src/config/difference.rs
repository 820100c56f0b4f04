//! What differs between two readings of the INI, what of it can be taken while the program runs,
//! and what of it a master hands to its nodes.

use std::fmt;
use std::path::Path;

use super::values::{Source, Values};
use super::{Config, KEYS};
use crate::error::Error;

/// What is in use from the start to the end.
const NEXT_START: [(&str, &str); 4] = [
    ("master", "listen"),
    ("master", "tunnel_ports"),
    ("master", "state"),
    ("cluster", "name"),
];

/// The keys of `[scaling]` that are each node's own, whatever a master says.
const OWN: [&str; 4] = ["sample_interval", "window", "drain_timeout", "procfs"];

/// What the file says, in the order of [`KEYS`]; `None` where the default holds.
pub(super) struct Texts(Vec<Option<String>>);

// Written out, as secrets are among them.
impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Texts")
    }
}

impl Texts {
    pub fn of(v: &Values) -> Texts {
        let text = |section, key| v.is_set(section, key).then(|| v.text(section, key));
        Texts(KEYS.iter().map(|(section, key, _)| text(section, key)).collect())
    }
}

impl Config {
    /// What `new`, read later from the same file, changes, as in `threshold = 60, secret; listen waits
    /// for the next start`; `None` where it says the same.
    pub fn change_to(&self, new: &Config) -> Option<String> {
        let (mut now, mut next_start) = (Vec::new(), Vec::new());
        for ((section, key, default), (old, new)) in KEYS.iter().zip(self.file.0.iter().zip(&new.file.0)) {
            let (old, new) = (
                old.as_deref().unwrap_or(default),
                new.as_deref().unwrap_or(default),
            );
            match *section {
                _ if old == new => {}
                _ if NEXT_START.contains(&(section, key)) => next_start.push(*key),
                "scaling" => now.push(format!("{key} = {new}")),
                // Commands and addresses may hold secrets, too.
                _ => now.push((*key).into()),
            }
        }
        let verb = if next_start.len() == 1 { "waits" } else { "wait" };
        let later = format!("{} {verb} for the next start", next_start.join(", "));
        let now = (!now.is_empty()).then(|| now.join(", "));
        let later = (!next_start.is_empty()).then_some(later);
        let both: Vec<String> = now.into_iter().chain(later).collect();
        (!both.is_empty()).then(|| both.join("; "))
    }

    /// Takes over from what is `running` what waits for the next start.
    pub fn keep_until_next_start(&mut self, running: &Config) {
        self.master.listen = running.master.listen;
        self.master.tunnel_ports = running.master.tunnel_ports.clone();
        self.master.state.clone_from(&running.master.state);
        self.cluster.name.clone_from(&running.cluster.name);
        self.cluster.is_named = running.cluster.is_named;
    }

    /// The keys of `[scaling]` that the file sets, and that a master hands to its nodes: key and
    /// value.
    pub fn handed_out(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let texts = KEYS.iter().zip(&self.file.0);
        texts.filter_map(|((section, key, _), text)| {
            let handed_out = *section == "scaling" && !OWN.contains(key);
            text.as_deref().filter(|_| handed_out).map(|text| (*key, text))
        })
    }

    /// All of those keys, with the value in force and whether the file sets it.
    pub fn in_force(&self) -> impl Iterator<Item = (&'static str, &str, bool)> {
        let texts = KEYS.iter().zip(&self.file.0);
        let theirs = texts.filter(|((section, key, _), _)| *section == "scaling" && !OWN.contains(key));
        theirs.map(|((_, key, default), text)| (*key, text.as_deref().unwrap_or(default), text.is_some()))
    }

    /// Reads the settings out of `text`, with those that the master of the name `master` has handed
    /// out in the place of the file's. Keys that are a node's own, or unknown here, are passed over.
    ///
    /// # Errors
    /// The first thing wrong, as `<file>:<line>: …` or `master <name>: SET <key>: …`.
    pub fn parse_under(path: &Path, text: &str, master: &str, set: &[(&str, &str)]) -> Result<Config, Error> {
        let set: Vec<_> = set
            .iter()
            .copied()
            .filter(|(key, _)| !OWN.contains(key))
            .collect();
        Config::read(path, text, Source::Master(master), &set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Config {
        Config::parse(Path::new("/etc/a.ini"), text).unwrap()
    }

    fn change(old: &str, new: &str) -> Option<String> {
        parse(old).change_to(&parse(new))
    }

    #[test]
    fn what_changed_is_named_and_no_secret_is() {
        let old = "[scaling]\nthreshold = 50\n[cluster]\nsecret = one\n";
        assert_eq!(
            change(old, "# other words\n[cluster]\nsecret = one\n"),
            None,
            "50 is the default"
        );
        assert_eq!(
            change(
                old,
                "[scaling]\nthreshold = 60\nmax_hosts = 4\n[cluster]\nsecret = two\n"
            )
            .unwrap(),
            "threshold = 60, max_hosts = 4, secret"
        );
    }

    #[test]
    fn what_waits_for_the_next_start_is_said_and_kept() {
        let old = parse("[cluster]\nname = a\n");
        let mut new = parse(
            "[scaling]\nmax_hosts = 4\n[master]\nlisten = 127.0.0.1:1\nstate = /x\n\
             tunnel_ports = 5\nlease = 9s\n",
        );
        assert_eq!(
            old.change_to(&new).unwrap(),
            "max_hosts = 4, lease; listen, tunnel_ports, state, name wait for the next start"
        );
        assert_eq!(
            change("", "[master]\nstate = /x\n").unwrap(),
            "state waits for the next start"
        );
        new.keep_until_next_start(&old);
        assert_eq!(
            (new.master.listen, &new.master.state),
            (old.master.listen, &old.master.state)
        );
        assert_eq!(new.master.tunnel_ports, old.master.tunnel_ports);
        assert_eq!((new.cluster.name.as_str(), new.cluster.is_named), ("a", true));
        assert_eq!(new.scaling.max_hosts, 4);
    }

    #[test]
    fn a_master_hands_out_what_its_file_sets() {
        let config =
            parse("[scaling]\nwindow = 5s\nmin_hosts = 2\nthreshold = 60 %\nprocfs = /p\nmax_hosts =\n");
        let handed_out: Vec<_> = config.handed_out().collect();
        assert_eq!(handed_out, [("threshold", "60 %"), ("min_hosts", "2")]);
    }

    #[test]
    fn what_a_master_hands_out_counts_before_the_file() {
        let path = Path::new("/etc/a.ini");
        let text = "[scaling]\nthreshold = 40\nmax_hosts = 3\nwindow = 20s\n";
        let config = Config::parse_under(
            path,
            text,
            "lb1",
            &[("threshold", "60"), ("window", "1s"), ("of_a_later_version", "x")],
        )
        .unwrap();
        assert_eq!((config.scaling.threshold, config.scaling.max_hosts), (60.0, 3));
        assert_eq!(config.scaling.window.as_secs(), 20);
        let wrong = |set: &[(&str, &str)]| {
            Config::parse_under(path, text, "lb1", set)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            wrong(&[("threshold", "6000")]),
            "master lb1: SET threshold: `6000` is not a percentage from 0 to 100"
        );
        assert_eq!(
            wrong(&[("min_hosts", "4")]),
            "master lb1: SET min_hosts: must not be over max_hosts"
        );
    }
}
