//! As whom root runs a command of an INI: as the user who may write it, or not at all, and where it
//! installs. Otherwise that user would be root as soon as root enters a host by hand.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::config::dir_of;
use crate::error::Error;

/// util-linux has it everywhere but on the smallest systems.
const SETPRIV: &str = "/usr/bin/setpriv";

/// A user who is not root.
#[derive(Debug, PartialEq, Eq)]
struct Owner {
    uid: u32,
    gid: u32,
    /// Is it one that the system knows? Then it has groups of its own, too.
    known: bool,
}

/// `/bin/sh -c`, to which the caller adds a command out of `ini`. When root runs this, it is of the
/// user whom the file or its directory belongs to.
///
/// # Errors
/// I/O; config where others may write there.
pub fn shell(ini: &Path) -> Result<Command, Error> {
    let mut shell = match owner(ini)? {
        Some(owner) if owner.known && Path::new(SETPRIV).exists() => {
            let mut setpriv = Command::new(SETPRIV);
            setpriv
                .arg(format!("--reuid={}", owner.uid))
                .arg(format!("--regid={}", owner.gid))
                .args(["--init-groups", "/bin/sh"]);
            setpriv
        }
        Some(owner) => {
            let mut shell = Command::new("/bin/sh");
            shell.uid(owner.uid).gid(owner.gid);
            shell
        }
        None => Command::new("/bin/sh"),
    };
    shell.arg("-c");
    Ok(shell)
}

/// May root put a file where `ini` has it put, at `target` without links? Where another user may write
/// the one, that user must be able to write the other as well.
///
/// # Errors
/// I/O; config: it may not.
pub fn may_install(ini: &Path, target: &Path) -> Result<(), Error> {
    let Some(owner) = owner(ini)? else {
        return Ok(());
    };
    let places = [Some(target), target.parent()].into_iter().flatten();
    let mut owners = places.filter_map(|path| fs::metadata(path).ok());
    if owners.any(|metadata| metadata.uid() == owner.uid) {
        return Ok(());
    }
    Err(Error::config(
        target.display(),
        format!(
            "user {uid} may write {}, and not this, so root does not write it either; run: chown {uid} {}, or make the \
             INI and its directory root's",
            ini.display(),
            target.display(),
            uid = owner.uid
        ),
    ))
}

/// Who but root may write `ini`; `None` where nobody else may, or this process is not root's.
fn owner(ini: &Path) -> Result<Option<Owner>, Error> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if !is_root {
        return Ok(None);
    }
    let file = fs::canonicalize(ini).map_err(|e| Error::io(ini.display(), e))?;
    let mut found = None;
    // Whoever may write a directory may replace what is in it.
    for path in [&file, file.parent().unwrap_or(&file), dir_of(ini)] {
        let metadata = fs::metadata(path).map_err(|e| Error::io(path.display(), e))?;
        if is_open(&metadata) {
            let (mode, shown) = (metadata.mode() & 0o7777, path.display());
            return Err(Error::config(
                shown.to_string(),
                format!(
                    "others may write there (mode {mode:04o}), and root runs no commands out of such an INI; \
                     run: chmod go-w {shown}"
                ),
            ));
        }
        if metadata.uid() != 0 && found.is_none() {
            found = Some(known(metadata.uid(), metadata.gid()));
        }
    }
    Ok(found)
}

/// May the group or everybody write it? root's own group is root, and in a directory like `/tmp`
/// nobody can replace the file of another.
fn is_open(metadata: &Metadata) -> bool {
    let by_group = metadata.mode() & 0o020 != 0 && metadata.gid() != 0 && metadata.uid() == 0;
    let by_all = metadata.mode() & 0o002 != 0;
    let sticky = metadata.is_dir() && metadata.mode() & 0o1000 != 0;
    (by_group || by_all) && !sticky
}

/// The user, with the group that `/etc/passwd` gives it, if it is there.
fn known(uid: u32, gid: u32) -> Owner {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let numbers = |line: &str| {
        let mut fields = line.split(':').skip(2).map(|field| field.parse::<u32>().ok());
        Some((fields.next()??, fields.next()??))
    };
    let found = passwd.lines().filter_map(numbers).find(|(user, _)| *user == uid);
    Owner {
        uid,
        gid: found.map_or(gid, |(_, group)| group),
        known: found.is_some(),
    }
}
