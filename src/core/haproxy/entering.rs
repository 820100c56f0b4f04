//! A machine that is entered: which entry stands for it already, which ones it takes the place of, and
//! how its own is called.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::entry::{Entry, Form};
use crate::error::Error;

/// A machine that is to be entered.
#[derive(Debug, Clone, Copy)]
pub struct Entering<'a> {
    pub address: IpAddr,
    pub port: u16,
    /// EC2's id, where it is known.
    pub instance: Option<&'a str>,
}

impl Entering<'_> {
    /// The entries that it takes the place of. Another instance at its address and port is gone, since
    /// EC2 gives addresses again, and the same instance at another address has left that one.
    ///
    /// # Errors
    /// The entry that stands for it already.
    pub fn replaces<'a>(&self, entries: &'a [Entry]) -> Result<Vec<&'a Entry>, &'a Entry> {
        let there = entries.iter().find(|e| self.stands_at(e));
        if let Some(there) = there
            && (self.instance.is_none()
                || there.instance() == self.instance
                || matches!(there.form, Form::Line { .. }))
        {
            return Err(there);
        }
        let is_elsewhere = |e: &&Entry| e.address() != self.address.to_string();
        let same = entries
            .iter()
            .filter(|e| self.instance.is_some() && e.instance() == self.instance);
        let moved = same.filter(is_elsewhere);
        Ok(there.into_iter().chain(moved).collect())
    }

    /// Is it the machine of `entry`? Of the same id, or at its place where one is not known.
    pub fn is(&self, entry: &Entry) -> bool {
        match (entry.instance(), self.instance) {
            (Some(one), Some(other)) => one == other,
            _ => self.stands_at(entry),
        }
    }

    fn stands_at(&self, entry: &Entry) -> bool {
        entry.port() == Some(self.port) && entry.address() == self.address.to_string()
    }

    /// The name that follows for its entry, in the place of those `replaced`: the one that is `asked`
    /// for, else one that somebody gave to what it replaces, else its id. `None`: the next number.
    /// `names` are all that there are.
    ///
    /// # Errors
    /// Usage: another server has the name that is asked for.
    pub fn name(
        &self,
        asked: Option<&str>,
        replaced: &[&Entry],
        names: &BTreeSet<String>,
    ) -> Result<Option<String>, Error> {
        let taken = |name: &str| names.contains(name) && !replaced.iter().any(|e| e.name == name);
        if let Some(name) = asked {
            return match taken(name) {
                true => Err(Error::usage(
                    format!("--name {name}"),
                    "another server has this name",
                )),
                false => Ok(Some(name.into())),
            };
        }
        let given = |e: &&&Entry| e.instance() != Some(e.name.as_str());
        let id = || self.instance.filter(|id| !taken(id)).map(String::from);
        Ok(replaced.iter().find(given).map(|e| e.name.clone()).or_else(id))
    }
}

/// `app<n>`, one beyond all `names` and beyond `last`, the highest number that there has been: a name
/// is not given again, for HAProxy and ssh remember it for longer than `hosts.d` does.
pub fn next_name(names: &BTreeSet<String>, last: u64) -> String {
    let highest = names.iter().filter_map(|name| serial_of(name)).max();
    format!("app{}", last.max(highest.unwrap_or(0)) + 1)
}

/// The number of a name like `app7`. Numbers beyond all use don't count, so that the next name
/// stays one.
pub fn serial_of(name: &str) -> Option<u64> {
    let serial = name.strip_prefix("app")?.parse().ok();
    serial.filter(|serial| *serial < 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> Entry {
        let (name, line) = text.split_once(' ').unwrap();
        Entry::parse(name, line).unwrap()
    }

    /// What `text`, an address, a port and an id or `-`, replaces, and its name; or who has its place.
    fn entered(text: &str, asked: Option<&str>, there: &[&str]) -> Result<(Vec<String>, String), String> {
        let words: Vec<&str> = text.split(' ').collect();
        let machine = Entering {
            address: words[0].parse().unwrap(),
            port: words[1].parse().unwrap(),
            instance: Some(words[2]).filter(|id| *id != "-"),
        };
        let entries: Vec<Entry> = there.iter().map(|text| entry(text)).collect();
        let names = entries.iter().map(|e| e.name.clone()).collect();
        let replaced = machine.replaces(&entries).map_err(|there| there.name.clone())?;
        let name = machine.name(asked, &replaced, &names);
        let name = name.map_err(|e| e.to_string())?;
        let replaced = replaced.into_iter().map(|e| e.name.clone()).collect();
        Ok((replaced, name.unwrap_or_else(|| next_name(&names, 3))))
    }

    #[test]
    fn what_is_replaced_and_how_it_is_called() {
        let a = "a 10.0.0.1 80 i-1";
        let own = "i-1 10.0.0.1 80 i-1";
        let by_hand = "web 10.0.0.1 80 -";
        for (machine, asked, there, replaced, name) in [
            ("10.0.0.2 80 -", None, &[a][..], &[][..], "app4"),
            ("10.0.0.2 80 -", None, &[a, "app7 10.0.0.9 80 -"], &[], "app8"),
            ("10.0.0.2 80 i-2", None, &[a], &[], "i-2"),
            ("10.0.0.2 80 i-2", Some("b"), &[a], &[], "b"),
            // Another port is another server.
            ("10.0.0.1 81 i-2", None, &[a], &[], "i-2"),
            // The address was given again; a name that somebody gave stays.
            ("10.0.0.1 80 i-2", None, &[a], &["a"], "a"),
            ("10.0.0.1 80 i-2", None, &[own], &["i-1"], "i-2"),
            // It learns its id.
            ("10.0.0.1 80 i-1", None, &[by_hand], &["web"], "web"),
            // It has moved.
            ("10.0.0.2 80 i-1", None, &[a], &["a"], "a"),
            (
                "10.0.0.2 80 i-1",
                None,
                &[own, "b 10.0.0.2 80 i-9"],
                &["b", "i-1"],
                "b",
            ),
        ] {
            let due = Ok((replaced.iter().map(|r| (*r).into()).collect(), name.into()));
            assert_eq!(entered(machine, asked, there), due, "{machine}: {there:?}");
        }
        assert_eq!(entered("10.0.0.1 80 i-1", None, &[a]), Err("a".into()));
        assert_eq!(entered("10.0.0.1 80 -", None, &[a]), Err("a".into()));
        let taken = entered("10.0.0.2 80 -", Some("a"), &[a]);
        assert!(taken.is_err_and(|e| e.contains("another server has this name")));
    }
}
