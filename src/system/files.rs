//! Files: replaced atomically, locked against each other.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The failure `e` to read `path`, with the `step` that makes it where it is missing.
pub fn unread(path: &Path, e: &io::Error, step: &str) -> Error {
    match e.kind() {
        ErrorKind::NotFound => Error::io(path.display(), format!("not found; {step}")),
        _ => Error::io(path.display(), e),
    }
}

/// What it came to to read or remove `path`; `None` where there is nothing.
///
/// # Errors
/// I/O, named after the file.
pub fn if_there<T>(path: &Path, done: io::Result<T>) -> Result<Option<T>, Error> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(path.display(), e)),
    }
}

/// How a new file is put in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Fails if the name is taken.
    New,
    /// Takes over the name, whoever had it.
    Replace,
}

/// Writes `text` under a hidden name beside `path` and puts it in place in one step, so nobody
/// ever sees half of it, and a full disk leaves things as they were.
///
/// # Errors
/// I/O; [`io::ErrorKind::AlreadyExists`] for [`Place::New`]. Nothing is left behind.
pub fn write(path: &Path, text: &str, mode: u32, place: Place) -> io::Result<()> {
    Temporary::create(path, text, mode)?.put(path, place)
}

/// The same for a file that is there: mode and owner stay.
///
/// # Errors
/// I/O; nothing is changed then.
pub fn rewrite(path: &Path, text: &str) -> io::Result<()> {
    let before = fs::metadata(path)?;
    Temporary::instead_of(&before, path, text)?.put(path, Place::Replace)
}

/// A file that goes away when it is not put in place.
pub struct Temporary {
    pub path: PathBuf,
    file: File,
}

impl Temporary {
    /// Writes `text` to `.<name>.<process id>` beside `path`.
    ///
    /// # Errors
    /// I/O.
    pub fn create(path: &Path, text: impl AsRef<[u8]>, mode: u32) -> io::Result<Temporary> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let hidden = path.with_file_name(format!(".{name}.{}", std::process::id()));
        // One left by a process that was killed, whose id has come round again.
        let _ = fs::remove_file(&hidden);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&hidden)?;
        let mut temporary = Temporary { path: hidden, file };
        give_to_owner_of_dir(&temporary.file, path);
        temporary.file.write_all(text.as_ref())?;
        // The mode as asked for, whatever the umask.
        temporary.file.set_permissions(fs::Permissions::from_mode(mode))?;
        Ok(temporary)
    }

    /// The same, with the mode and owner of the one `before`.
    ///
    /// # Errors
    /// I/O; it is only root's to give files away.
    pub fn instead_of(before: &Metadata, path: &Path, text: impl AsRef<[u8]>) -> io::Result<Temporary> {
        let temporary = Temporary::create(path, text, before.mode() & 0o777)?;
        // By the open file, for in a directory of somebody else its name may stand for another one by now.
        let own = temporary.file.metadata()?;
        if (own.uid(), own.gid()) != (before.uid(), before.gid()) {
            fchown(&temporary.file, Some(before.uid()), Some(before.gid()))?;
        }
        Ok(temporary)
    }

    /// Its text is safe from a power cut when this returns.
    ///
    /// # Errors
    /// I/O.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Puts it in place, and the name itself survives a power cut too, where the file system can: the
    /// file is complete either way.
    fn put(self, path: &Path, place: Place) -> io::Result<()> {
        self.sync()?;
        match place {
            Place::New => fs::hard_link(&self.path, path)?,
            Place::Replace => fs::rename(&self.path, path)?,
        }
        if let Some(dir) = path.parent()
            && let Ok(dir) = File::open(dir)
        {
            let _ = dir.sync_all();
        }
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Waits until nobody else has the lock file `path`; the lock goes with the value.
///
/// # Errors
/// I/O, named after the file.
pub fn lock(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    let made = options.clone().create_new(true).open(path);
    let file = match made {
        Ok(file) => {
            give_to_owner_of_dir(&file, path);
            Ok(file)
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => options.open(path),
        Err(e) => Err(e),
    };
    file.and_then(|file| file.lock().map(|()| file))
        .map_err(|e| Error::io(path.display(), e))
}

/// Where an ordinary user runs the services, root's commands must leave nothing behind that this
/// user can't change: what root makes is its directory's owner's. `file` is new, never one that
/// was there before. Nobody but root can do this, and nobody else need.
fn give_to_owner_of_dir(file: &File, path: &Path) {
    let dir = path.parent().and_then(|dir| fs::metadata(dir).ok());
    if let (Some(dir), Ok(own)) = (dir, file.metadata())
        && own.uid() == 0
        && dir.uid() != 0
    {
        let _ = fchown(file, Some(dir.uid()), Some(dir.gid()));
    }
}

/// Makes a directory and those above it, if they are missing.
///
/// # Errors
/// I/O, named after the directory.
pub fn make_dir(path: &Path, mode: u32) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|e| Error::io(path.display(), e))
}
