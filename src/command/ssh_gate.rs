//! `ssh-gate`: the forced command of the app servers' key on a HAProxy host.

use std::env;
use std::ffi::OsString;
use std::net::IpAddr;

use crate::cli::{self, Command};
use crate::core::haproxy::ssh_gate;
use crate::core::protocol;
use crate::error::{Error, Kind};

/// The command that came over ssh, to be carried out in this process, and the address that it came
/// from.
///
/// # Errors
/// Usage where sshd handed over none; refused, where it is none of those that daemons give.
pub fn command() -> Result<(Command, Option<IpAddr>), Error> {
    let Some(order) = env::var_os("SSH_ORIGINAL_COMMAND") else {
        return Err(Error::usage(
            "ssh-gate",
            "there is no SSH_ORIGINAL_COMMAND: this key runs a daemon's calls only, and has no shell",
        ));
    };
    let order = order.to_string_lossy();
    let refused = || {
        let shown: String = protocol::one_line(&order).chars().take(80).collect();
        Error::new(
            Kind::Refused,
            "ssh-gate",
            format!(
                "this key may not run `{shown}`, only list-hosts, generate --check, add-host and remove-host as a daemon calls them"
            ),
        )
    };
    let arguments = ssh_gate::arguments(&order).ok_or_else(refused)?;
    let arguments = arguments.into_iter().map(OsString::from);
    // sshd sets it, and the other end can't.
    let connection = env::var("SSH_CONNECTION").unwrap_or_default();
    let caller = connection
        .split(' ')
        .next()
        .and_then(|ip| ip.parse::<IpAddr>().ok());
    Ok((
        cli::parse(arguments, None)?.command,
        caller.map(|ip| ip.to_canonical()),
    ))
}
