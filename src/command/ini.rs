//! The INI as a file: read, and closed to others.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::config::Config;
use crate::error::Error;

/// Reads the settings of the INI.
pub fn load(path: &Path) -> Result<Config, Error> {
    Config::parse(path, &read(path)?)
}

/// The text of the INI.
///
/// # Errors
/// Config where it is missing, with who makes one, or not UTF-8; I/O.
pub fn read(path: &Path) -> Result<String, Error> {
    let bytes = fs::read(path).map_err(|e| match e.kind() {
        ErrorKind::NotFound => Error::config(path.display(), "not found; `autoscaler init` makes one"),
        _ => Error::io(path.display(), e),
    })?;
    String::from_utf8(bytes).map_err(|e| {
        let before = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = 1 + before.iter().filter(|b| **b == b'\n').count();
        Error::config(format!("{}:{line}", path.display()), "is not UTF-8")
    })
}

/// Is the INI closed to others, if it holds a secret?
///
/// # Errors
/// Config, with the `chmod` to run; I/O.
pub fn private(config: &Config) -> Result<(), Error> {
    config.may_have_mode(mode_of(&config.path)?)
}

/// The permissions of a file.
pub fn mode_of(path: &Path) -> Result<u32, Error> {
    let metadata = fs::metadata(path).map_err(|e| Error::io(path.display(), e))?;
    Ok(metadata.permissions().mode() & 0o777)
}
