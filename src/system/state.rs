//! What a master keeps over a restart: `<state>/master`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::files::{self, Place};
use crate::core::lease::Saved;
use crate::error::Error;

/// The file.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
}

impl StateFile {
    /// In the directory `state`, which is made when it is missing.
    ///
    /// # Errors
    /// I/O.
    pub fn in_dir(state: &Path) -> Result<StateFile, Error> {
        files::make_dir(state, 0o755)?;
        Ok(StateFile {
            path: state.join("master"),
        })
    }

    /// What the last master left; `None` where none ran before. A file that can't be made out
    /// counts as one that says nothing: the master then still waits one lease for a holder.
    ///
    /// # Errors
    /// I/O.
    pub fn load(&self) -> Result<Option<Saved>, Error> {
        match fs::read(&self.path) {
            Ok(bytes) => Ok(Some(Saved::parse(&String::from_utf8_lossy(&bytes), wall_clock()))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io(self.path.display(), e)),
        }
    }

    /// # Errors
    /// I/O.
    pub fn save(&self, saved: &Saved) -> Result<(), Error> {
        let text = saved.text(wall_clock());
        files::write(&self.path, &text, 0o644, Place::Replace).map_err(|e| Error::io(self.path.display(), e))
    }
}

/// Since 1970.
fn wall_clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
