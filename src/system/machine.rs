//! What this machine says of itself: its name, its CPU, its randomness.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::core::auth::hex;
use crate::core::cpu::Counters;
use crate::core::protocol;
use crate::error::Error;

/// The host's name (`uname -n`), as node and master call themselves.
///
/// # Errors
/// I/O, or a name that does not fit into the protocol.
pub fn host_name() -> Result<String, Error> {
    let path = Path::new("/proc/sys/kernel/hostname");
    let name = super::files::read(path)?.trim().to_string();
    if protocol::is_word(&name) {
        Ok(name)
    } else {
        Err(Error::config(
            "host name",
            format!(
                "`{}` is empty, too long or has a space",
                protocol::one_line(&name)
            ),
        ))
    }
}

/// 16 bytes that nobody can guess, in hex.
///
/// # Errors
/// I/O: without `/dev/urandom` nothing can be kept secret.
pub fn nonce() -> Result<String, Error> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut bytes))
        .map_err(|e| Error::io("/dev/urandom", e))?;
    Ok(hex(&bytes))
}

/// Reads the CPU's counters from `<procfs>/stat`.
///
/// # Errors
/// I/O, or a text that is not `proc(5)`'s, named after the file.
pub fn counters(procfs: &Path) -> Result<Counters, Error> {
    let path = procfs.join("stat");
    // The kernel makes the whole file at once, and the lines about CPUs come first.
    let mut text = vec![0; 16 * 1024];
    let mut length = 0;
    let mut file = File::open(&path).map_err(|e| Error::io(path.display(), e))?;
    loop {
        let read = file
            .read(&mut text[length..])
            .map_err(|e| Error::io(path.display(), e))?;
        length += read;
        let cpus_are_complete = text[..length].windows(5).any(|w| w == b"\nintr");
        if read == 0 || cpus_are_complete {
            break;
        }
        if length == text.len() {
            text.resize(2 * length, 0);
        }
    }
    Counters::parse(&String::from_utf8_lossy(&text[..length]))
        .map_err(|cause| Error::io(path.display(), cause))
}
