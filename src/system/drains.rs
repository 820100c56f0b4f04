//! The drains that `remove-host` has begun and not ended: `.drain-<server>` beside the INI, with the
//! sections in which it was set. Such a file tells our drains from those that a person has set.
//! Whoever drains holds a lock on it, so one that was killed amid it can be told as well.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::files::{self, Temporary};
use crate::error::Error;

const PREFIX: &str = ".drain-";

/// The directory with these files. Those who change them hold the lock of `hosts.d`.
#[derive(Debug, Clone)]
pub struct Drains {
    base: PathBuf,
}

/// A drain of this process; when it ends before [`Drains::end`], the drain is an abandoned one.
pub struct Held {
    _file: File,
}

impl Drains {
    pub fn new(base: &Path) -> Drains {
        Drains { base: base.into() }
    }

    fn path(&self, server: &str) -> PathBuf {
        self.base.join(format!("{PREFIX}{server}"))
    }

    /// Takes down that `server` is drained by us in `sections`.
    ///
    /// # Errors
    /// I/O.
    pub fn begin(&self, server: &str, sections: &[String]) -> Result<Held, Error> {
        let path = self.path(server);
        let begin = || -> io::Result<Held> {
            let note = Temporary::create(&path, sections.join("\n") + "\n", 0o644)?;
            let file = File::open(&note.path)?;
            file.lock_shared()?;
            fs::rename(&note.path, &path)?;
            Ok(Held { _file: file })
        };
        begin().map_err(|e| Error::io(path.display(), e))
    }

    /// The sections in which `server` is drained by us.
    pub fn sections(&self, server: &str) -> Option<Vec<String>> {
        let text = fs::read_to_string(self.path(server)).ok()?;
        Some(text.lines().map(String::from).collect())
    }

    /// It is no longer drained by us.
    ///
    /// # Errors
    /// I/O.
    pub fn end(&self, server: &str) -> Result<(), Error> {
        let path = self.path(server);
        files::if_there(&path, fs::remove_file(&path)).map(drop)
    }

    /// The servers whose drain nobody is at any more.
    pub fn abandoned(&self) -> Vec<String> {
        let files = fs::read_dir(&self.base).into_iter().flatten().flatten();
        let names =
            files.filter_map(|file| Some(file.file_name().to_str()?.strip_prefix(PREFIX)?.to_string()));
        let is_held = |server: &String| {
            let file = File::open(self.path(server));
            file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
        };
        names.filter(|server| !is_held(server)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_ended_without_a_word_has_abandoned_it() {
        let base = std::env::temp_dir().join(format!("drains-{}", std::process::id()));
        fs::create_dir_all(&base).unwrap();
        let drains = Drains::new(&base);
        let sections = ["a".to_string(), "b".to_string()];
        let held = drains.begin("app1", &sections).unwrap();
        assert_eq!(drains.sections("app1").unwrap(), sections);
        assert!(drains.abandoned().is_empty() && drains.sections("app2").is_none());
        drop(held);
        assert_eq!(drains.abandoned(), ["app1"]);
        drains.end("app1").and_then(|()| drains.end("app1")).unwrap();
        assert!(drains.abandoned().is_empty());
        fs::remove_dir_all(&base).unwrap();
    }
}
