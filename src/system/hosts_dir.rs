//! `hosts.d`: one file per app server, beside the INI.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::files::{self, Place};
use crate::core::entry::{self, Entry, Form};
use crate::error::Error;

/// The name of the entry for an address and a port.
#[derive(Debug, PartialEq, Eq)]
pub enum Added {
    Now(String),
    Before(String),
}

/// More bytes than a line of HAProxy's configuration may have.
const LONGEST: usize = 4096;

/// The directory of the INI, with its `hosts.d`.
#[derive(Debug, Clone)]
pub struct HostsDir {
    base: PathBuf,
}

impl HostsDir {
    pub fn new(base: &Path) -> HostsDir {
        HostsDir { base: base.into() }
    }

    pub fn path(&self) -> PathBuf {
        self.base.join("hosts.d")
    }

    /// Changes that go by what they found wait for each other here.
    ///
    /// # Errors
    /// I/O.
    pub fn lock(&self) -> Result<File, Error> {
        files::lock(&self.base.join(".lock"))
    }

    /// All entries, sorted by name. Hidden files and editors' backups (`x~`) are not entries.
    ///
    /// # Errors
    /// I/O, and an entry that can't be read as one, each named: to leave it out would take a
    /// server out of HAProxy without anyone having asked for it.
    pub fn entries(&self) -> Result<Vec<Entry>, Error> {
        let mut path = self.path();
        let names = self.names()?.into_iter();
        names
            .map(|name| {
                path.push(&name);
                let entry = read(&path, &name);
                path.pop();
                entry
            })
            .collect()
    }

    /// The names of the entries, read or not.
    ///
    /// # Errors
    /// I/O.
    pub fn names(&self) -> Result<BTreeSet<String>, Error> {
        let path = self.path();
        let listed = fs::read_dir(&path).and_then(|dir| {
            let lossy = |name: OsString| name.to_string_lossy().into_owned();
            dir.map(|file| file.map(|f| f.file_name().into_string().unwrap_or_else(lossy)))
                .filter(|name| {
                    name.as_ref()
                        .map_or(true, |n| !n.starts_with('.') && !n.ends_with('~'))
                })
                .collect::<io::Result<_>>()
        });
        listed.map_err(|e| files::unread(&path, &e, "`autoscaler init` makes it"))
    }

    /// One entry.
    ///
    /// # Errors
    /// I/O, or what is wrong with its text.
    pub fn entry(&self, name: &str) -> Result<Entry, Error> {
        read(&self.path().join(name), name)
    }

    /// When an entry last came or went.
    ///
    /// # Errors
    /// I/O.
    pub fn changed(&self) -> io::Result<SystemTime> {
        fs::metadata(self.path())?.modified()
    }

    /// Writes an entry for `address` and `port`, unless one has them already. `name` empty:
    /// the instance's id, else the next of `app1`, `app2`, …
    ///
    /// # Errors
    /// I/O; usage where another server has `name`.
    pub fn add(
        &self,
        address: IpAddr,
        port: u16,
        name: Option<&str>,
        instance: Option<&str>,
    ) -> Result<Added, Error> {
        let _lock = self.lock()?;
        let entries = self.entries()?;
        let same = |e: &Entry| e.address() == address.to_string() && e.port() == Some(port);
        if let Some(there) = entries.iter().find(|e| same(e)) {
            return Ok(Added::Before(there.name.clone()));
        }
        let taken = |name: &str| entries.iter().any(|e| e.name == name);
        let name = match (name, instance) {
            (Some(name), _) if taken(name) => {
                return Err(Error::usage(
                    format!("--name {name}"),
                    "another server has this name",
                ));
            }
            (Some(name), _) => name.to_string(),
            (None, Some(id)) if !taken(id) => id.to_string(),
            (None, _) => {
                let last = self.last_serial()?.max(
                    entries
                        .iter()
                        .filter_map(|e| serial_of(&e.name))
                        .max()
                        .unwrap_or(0),
                );
                format!("app{}", last + 1)
            }
        };
        self.remember(&name)?;
        let entry = Entry {
            name,
            form: Form::Host {
                address,
                port,
                instance: instance.map(String::from),
            },
        };
        let path = self.path().join(&entry.name);
        files::write(&path, &entry.text(), 0o644, Place::New).map_err(|e| Error::io(path.display(), e))?;
        Ok(Added::Now(entry.name))
    }

    /// The highest number of a server called `app<n>` that there has been. Its name is not given
    /// again: HAProxy and ssh remember names for longer than `hosts.d` does.
    fn last_serial(&self) -> Result<u64, Error> {
        let path = self.serial_path();
        match fs::read_to_string(&path) {
            Ok(text) => text
                .trim()
                .parse()
                .map_err(|_| Error::config(path.display(), "is not a number; the next name follows from it")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(e) => Err(Error::io(path.display(), e)),
        }
    }

    /// Takes down that there has been a server called `name`.
    fn remember(&self, name: &str) -> Result<(), Error> {
        let Some(serial) = serial_of(name) else {
            return Ok(());
        };
        if serial <= self.last_serial()? {
            return Ok(());
        }
        let path = self.serial_path();
        let written = files::write(&path, &format!("{serial}\n"), 0o644, Place::Replace);
        written.map_err(|e| Error::io(path.display(), e))
    }

    fn serial_path(&self) -> PathBuf {
        self.base.join(".serial")
    }

    /// Removes the entry called `name`.
    ///
    /// # Errors
    /// I/O.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        debug_assert!(entry::check_name(name).is_ok());
        self.remember(name)?;
        let path = self.path().join(name);
        fs::remove_file(&path).map_err(|e| Error::io(path.display(), e))
    }
}

/// Reads the entry `name` from `path`.
fn read(path: &Path, name: &str) -> Result<Entry, Error> {
    let io = |e| Error::io(path.display(), e);
    let config = |cause| Error::config(path.display(), cause);
    let mut text = [0; LONGEST];
    let mut length = 0;
    let mut file = File::open(path).map_err(io)?;
    // Where the line ends so does the file: neither is its size asked for nor its end read.
    while !text[..length].ends_with(b"\n") {
        match file.read(&mut text[length..]).map_err(io)? {
            0 => break,
            more => length += more,
        }
    }
    if length == LONGEST {
        return Err(config("is too long for an entry".into()));
    }
    let text = str::from_utf8(&text[..length]).map_err(|_| config("is not UTF-8".into()))?;
    Entry::parse(name, text).map_err(config)
}

/// The number of a name like `app7`. Numbers beyond all use don't count, so that the next name
/// stays one.
fn serial_of(name: &str) -> Option<u64> {
    name.strip_prefix("app")?
        .parse()
        .ok()
        .filter(|serial| *serial < 1_000_000_000)
}
