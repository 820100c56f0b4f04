//! The system's ssh, called with an argv and never through a shell.

use std::path::Path;
use std::process::Command;

use super::child;
use crate::config::Haproxy;

/// How this node reaches another one, from `[haproxy]`.
#[derive(Debug, Clone)]
pub struct Ssh {
    command: Vec<String>,
    params: Vec<String>,
    user: String,
}

/// Ours: never ask a person, notice within 15 s that the other end is gone, take a host key the
/// first time and hold the host to it, and keep off connections that somebody else multiplexes.
const OPTIONS: [&str; 7] = [
    "BatchMode=yes",
    "ConnectTimeout=5",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "StrictHostKeyChecking=accept-new",
    "ControlPath=none",
    "LogLevel=ERROR",
];

/// The same for Dropbear's client, which refuses options that it doesn't know: take a host key the
/// first time, notice within 15 s that the other end is gone, and never ask for a terminal.
const DROPBEAR: [&str; 4] = ["-y", "-K", "5", "-T"];

impl Ssh {
    pub fn new(settings: &Haproxy) -> Ssh {
        Ssh {
            command: settings.ssh_command.clone(),
            params: settings.ssh_params.clone(),
            user: settings.ssh_user.clone(),
        }
    }

    /// `<ssh_command> <options of ours> <ssh_params> <ssh_user>@<host>`, to which the caller
    /// adds what runs there.
    ///
    /// `known_hosts`: a file for this host's key alone, instead of the user's. `forward`: what
    /// `-R` takes; ssh ends when it can't be had.
    pub fn to(&self, host: &str, known_hosts: Option<&Path>, forward: Option<&str>) -> Command {
        let mut ssh = Command::new(&self.command[0]);
        child::without_credentials(&mut ssh);
        ssh.args(&self.command[1..]);
        let dropbear = Path::new(&self.command[0]).file_name() == Some("dbclient".as_ref());
        match dropbear {
            true => ssh.args(DROPBEAR),
            false => ssh.args(OPTIONS.iter().flat_map(|option| ["-o", option])),
        };
        // Dropbear knows no other file than the user's.
        if let (false, Some(file)) = (dropbear, known_hosts) {
            // In quotes, since ssh takes a list of files here.
            ssh.arg("-o")
                .arg(format!("UserKnownHostsFile=\"{}\"", file.display()));
        }
        if let Some(forward) = forward {
            ssh.args(["-o", "ExitOnForwardFailure=yes", "-R", forward]);
        }
        ssh.args(&self.params);
        ssh.arg(self.destination(host));
        ssh
    }

    /// `<ssh_user>@<host>`.
    pub fn destination(&self, host: &str) -> String {
        match self.user.as_str() {
            "" => host.to_string(),
            user => format!("{user}@{host}"),
        }
    }
}

/// What ssh exits with when it could not reach the host or lost it; anything else is the remote
/// command's own.
pub const UNREACHABLE: i32 = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropbear_gets_only_what_it_knows() {
        let ssh = Ssh {
            command: vec!["/usr/bin/dbclient".into()],
            params: vec!["-i".into(), "/k".into()],
            user: "root".into(),
        };
        let command = ssh.to("lb1", Some(Path::new("/s/k")), None);
        let args: Vec<_> = command.get_args().collect();
        assert_eq!(args, ["-y", "-K", "5", "-T", "-i", "/k", "root@lb1"]);
    }

    #[test]
    fn the_order_of_the_arguments() {
        let ssh = Ssh {
            command: vec!["ssh".into(), "-4".into()],
            params: vec!["-p".into(), "2222".into()],
            user: "ops".into(),
        };
        let command = ssh.to(
            "10.0.0.5",
            Some(Path::new("/s/k")),
            Some("127.0.0.1:1:127.0.0.1:2"),
        );
        let args: Vec<_> = command
            .get_args()
            .map(|a| a.to_string_lossy().into_owned())
            .collect();
        assert_eq!(args[0], "-4");
        assert!(args.contains(&"UserKnownHostsFile=\"/s/k\"".to_string()));
        let tail: Vec<_> = args[args.len() - 5..].to_vec();
        assert_eq!(
            tail,
            ["-R", "127.0.0.1:1:127.0.0.1:2", "-p", "2222", "ops@10.0.0.5"]
        );
    }
}
