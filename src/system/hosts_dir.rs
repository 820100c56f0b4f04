//! `hosts.d`: one file per app server, beside the INI.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::files::{self, Place, Temporary};
use crate::core::haproxy::entering::{Entering, next_name, serial_of};
use crate::core::haproxy::entry::{self, Entry, Form};
use crate::error::{Error, Kind};

/// What there is.
#[derive(Debug, Default)]
pub struct Listing {
    pub entries: Vec<Entry>,
    /// Files that are no entries, each named, and why not.
    pub strays: Vec<Error>,
}

/// What became of a machine that is entered, with the name of its entry.
#[derive(Debug, PartialEq, Eq)]
pub enum Added {
    Now(String),
    /// In the place of these, which stood for another machine at its address, or for the same
    /// machine at another.
    Instead(String, Vec<Entry>),
    Before(String),
}

/// `O_NONBLOCK` of Linux.
const NONBLOCK: i32 = 0o4000;

/// For how long a removed entry is remembered; longer than any machine boots.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// More bytes than a line of HAProxy's configuration may have.
const LONGEST: usize = 4096;

/// Beside `hosts.d`: the highest number of an `app<n>`, the numbers for `$ID`, and what was removed.
const SERIAL: &str = ".serial";
const NUMBERS: &str = ".ids";
const REMOVED: &str = ".removed";

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

    /// All entries, sorted by name, and what else lies there.
    ///
    /// # Errors
    /// I/O. A file that can't be read is no stray one: to pass over it would take a server out of
    /// HAProxy without anyone having asked for it.
    pub fn read(&self) -> Result<Listing, Error> {
        let mut path = self.path();
        let mut listing = Listing::default();
        for name in self.names()? {
            path.push(&name);
            match read(&path, &name) {
                Ok(entry) => listing.entries.push(entry),
                Err(error) if error.kind() == Kind::Config => listing.strays.push(error),
                // Removed since it was listed.
                Err(_) if fs::symlink_metadata(&path).is_err() => {}
                Err(error) if !path.exists() => listing.strays.push(error.advise("a link to nowhere")),
                Err(error) => return Err(error),
            }
            path.pop();
        }
        Ok(listing)
    }

    /// The names of the files, entries or not. Hidden ones and editors' backups (`x~`) are left out.
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

    /// Could an entry be written now?
    ///
    /// # Errors
    /// I/O: the disk is full, or nothing may be written there.
    pub fn try_writing(&self) -> Result<(), Error> {
        let path = self.path();
        let tried = Temporary::create(
            &path.join("new"),
            "255.255.255.255 65535 i-0123456789abcdef0\n",
            0o600,
        );
        tried.map(drop).map_err(|e| Error::io(path.display(), e))
    }

    /// When an entry last came or went.
    ///
    /// # Errors
    /// I/O.
    pub fn changed(&self) -> io::Result<SystemTime> {
        fs::metadata(self.path())?.modified()
    }

    /// Writes an entry for `machine`, unless one stands for it already. No `name`: the instance's
    /// id, else the next of `app1`, `app2`, … `limit`: how many entries there may be.
    ///
    /// # Errors
    /// I/O; usage where another server has `name`; refused beyond `limit`.
    pub fn add(&self, machine: Entering, name: Option<&str>, limit: usize) -> Result<Added, Error> {
        let _lock = self.lock()?;
        let entries = self.read()?.entries;
        let replaced = match machine.replaces(&entries) {
            Ok(replaced) => replaced,
            Err(there) => return Ok(Added::Before(there.name.clone())),
        };
        if replaced.is_empty() && entries.len() >= limit {
            return Err(Error::new(
                Kind::Refused,
                self.path().display(),
                format!(
                    "has {} entries, and with this key there may be {limit}",
                    entries.len()
                ),
            ));
        }
        let names = self.names()?;
        let name = match machine.name(name, &replaced, &names)? {
            Some(name) => name,
            None => next_name(&names, self.last_serial()?),
        };
        self.remember(&name)?;
        let entry = Entry {
            name,
            form: Form::Host {
                address: machine.address,
                port: machine.port,
                instance: machine.instance.map(String::from),
            },
        };
        let path = self.path().join(&entry.name);
        let kept = replaced.iter().any(|e| e.name == entry.name);
        let place = if kept { Place::Replace } else { Place::New };
        files::write(&path, &entry.text(), 0o644, place).map_err(|e| Error::io(path.display(), e))?;
        for old in replaced.iter().filter(|e| e.name != entry.name) {
            self.remove(&old.name)?;
        }
        match replaced.is_empty() {
            true => Ok(Added::Now(entry.name)),
            false => Ok(Added::Instead(
                entry.name,
                replaced.into_iter().cloned().collect(),
            )),
        }
    }

    /// The highest number of a server called `app<n>` that there has been.
    fn last_serial(&self) -> Result<u64, Error> {
        let path = self.base.join(SERIAL);
        let wrong = |_| Error::config(path.display(), "is not a number; the next name follows from it");
        match files::if_there(&path, fs::read_to_string(&path))? {
            Some(text) => text.trim().parse().map_err(wrong),
            None => Ok(0),
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
        let path = self.base.join(SERIAL);
        let written = files::write(&path, &format!("{serial}\n"), 0o644, Place::Replace);
        written.map_err(|e| Error::io(path.display(), e))
    }

    /// The numbers that entries have, by their names: `$ID` of `server_line`.
    ///
    /// # Errors
    /// I/O.
    pub fn numbers(&self) -> Result<BTreeMap<String, u32>, Error> {
        let path = self.base.join(NUMBERS);
        let line = |line: &str| {
            let (name, number) = line.split_once(' ')?;
            Some((name.to_string(), number.parse().ok()?))
        };
        let text = files::if_there(&path, fs::read_to_string(&path))?.unwrap_or_default();
        Ok(text.lines().filter_map(line).collect())
    }

    /// Keeps them.
    ///
    /// # Errors
    /// I/O.
    pub fn keep_numbers(&self, numbers: &BTreeMap<String, u32>) -> Result<(), Error> {
        let path = self.base.join(NUMBERS);
        let text: String = numbers
            .iter()
            .map(|(name, number)| format!("{name} {number}\n"))
            .collect();
        files::write(&path, &text, 0o644, Place::Replace).map_err(|e| Error::io(path.display(), e))
    }

    /// Removes the entry called `name`.
    ///
    /// # Errors
    /// I/O.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        debug_assert!(entry::check_name(name).is_ok());
        self.remember(name)?;
        let path = self.path().join(name);
        let kept = self.base.join(REMOVED);
        // What was removed is remembered for a while: a rename sets the time of its last change.
        for old in fs::read_dir(&kept).into_iter().flatten().flatten() {
            if age(&old.path()).is_some_and(|age| age > REMEMBERED) {
                let _ = fs::remove_file(old.path());
            }
        }
        let moved = files::make_dir(&kept, 0o755).is_ok() && fs::rename(&path, kept.join(name)).is_ok();
        match moved {
            true => Ok(()),
            false => fs::remove_file(&path).map_err(|e| Error::io(path.display(), e)),
        }
    }

    /// How long ago the entry of `machine` was removed, if that is remembered.
    pub fn removed_ago(&self, machine: Entering) -> Option<Duration> {
        let files = fs::read_dir(self.base.join(REMOVED))
            .into_iter()
            .flatten()
            .flatten();
        files
            .filter(|file| {
                let name = file.file_name().to_string_lossy().into_owned();
                read(&file.path(), &name).is_ok_and(|e| machine.is(&e))
            })
            .filter_map(|file| age(&file.path()))
            .min()
    }
}

/// How long ago a file was changed last, its name included.
fn age(path: &Path) -> Option<Duration> {
    let changed = u64::try_from(fs::metadata(path).ok()?.ctime()).ok()?;
    (SystemTime::UNIX_EPOCH + Duration::from_secs(changed))
        .elapsed()
        .ok()
}

/// Reads the entry `name` from `path`.
fn read(path: &Path, name: &str) -> Result<Entry, Error> {
    let io = |e| Error::io(path.display(), e);
    let config = |cause| Error::config(path.display(), cause);
    let mut text = [0; LONGEST];
    let mut length = 0;
    // A stray pipe would be waited for.
    let opened = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(path);
    let mut file = opened.map_err(io)?;
    // Where the line ends so does the file: neither is its size asked for nor its end read.
    while !text[..length].ends_with(b"\n") {
        match file.read(&mut text[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(e) if e.kind() == ErrorKind::IsADirectory => return Err(config("is a directory".into())),
            Err(e) => return Err(io(e)),
        }
    }
    if length == LONGEST {
        return Err(config("is too long for an entry".into()));
    }
    let text = str::from_utf8(&text[..length]).map_err(|_| config("is not UTF-8".into()))?;
    Entry::parse(name, text).map_err(config)
}
