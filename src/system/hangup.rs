//! SIGHUP, by which people and scripts ask a service to read its file again.
//!
//! A service sees a changed file within a second by itself, so all that is left to do is to live
//! through the signal. Without `unsafe`, the only way to do so is to be born with it ignored: the
//! service starts itself anew through a shell that ignores it, under the same process id.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Set for the second start; also by whoever starts it with the signal ignored already.
pub const MARK: &str = "AUTOSCALER_SIGHUP";

/// Has this process ignore SIGHUP from here on. Where there is no shell it goes on as it is, and
/// the signal ends it.
pub fn ignore() {
    let (Ok(program), None) = (env::current_exe(), env::var_os(MARK)) else {
        return;
    };
    // Returns only when it fails.
    let _ = Command::new("/bin/sh")
        .args(["-c", "trap '' HUP && exec \"$0\" \"$@\""])
        .arg(program)
        .args(env::args_os().skip(1))
        .env(MARK, "ignored")
        .exec();
}
