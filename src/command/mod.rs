//! One file per command: here the pure core and the effects meet.

mod add_host;
mod check;
mod daemon;
mod drain;
mod generate;
mod haproxy;
mod init;
mod list_hosts;
mod master;
mod prune;
mod remove_host;
mod scale;
mod simulate;
mod ssh_gate;
mod status;

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::cli::{Command, Invocation};
use crate::config::Config;
use crate::core::entry::Entry;
use crate::core::octets;
use crate::error::Error;
use crate::system::files;
use crate::system::hosts_dir::HostsDir;
use crate::system::log::Log;
use add_host::Addition;
use remove_host::Removal;

/// Who gives a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// A person, cron, or a daemon whose key may do all.
    Hand,
    /// A daemon through `ssh-gate`, from this address as far as it is known.
    Gate(Option<IpAddr>),
}

/// Carries out what the command line asks for.
pub fn run(invocation: Invocation) -> Result<(), Error> {
    carry_out(invocation, By::Hand)
}

fn carry_out(invocation: Invocation, by: By) -> Result<(), Error> {
    let Invocation {
        config: path,
        level,
        command,
    } = invocation;
    let log = Log::command(level);
    match command {
        Command::Print(text) => print(&text),
        Command::Init => init::run(&path, log),
        Command::Master => master::run(load_for_service(&path)?, Log::daemon(level)),
        Command::Daemon => daemon::run(load_for_service(&path)?, Log::daemon(level)),
        Command::AddHost {
            host,
            port,
            name,
            instance,
            apply,
        } => {
            let asked = Addition {
                host: &host,
                port,
                name: name.as_deref(),
                instance: instance.as_deref(),
                apply,
                by,
            };
            add_host::run(&load(&path)?, &asked, log)
        }
        Command::ListHosts { state } => list_hosts::run(&load(&path)?, state, log),
        Command::RemoveHost { host, apply, force } => {
            let asked = Removal {
                wanted: &host,
                apply,
                force,
                by,
            };
            remove_host::run(&load(&path)?, &asked, log)
        }
        Command::Generate(mode) => generate::run(&load(&path)?, mode, log),
        Command::Status(form) => status::run(&load(&path)?, form),
        Command::Check { host } => check::run(&path, host.as_deref(), log),
        Command::Prune(asked) => prune::run(&load(&path)?, asked, log),
        Command::SshGate => {
            let (command, caller) = ssh_gate::command()?;
            let invocation = Invocation {
                config: path,
                level,
                command,
            };
            carry_out(invocation, By::Gate(caller))
        }
        Command::Simulate(asked) => simulate::run(&path, &asked),
        Command::Scale { wish, dry_run } => scale::run(load(&path)?, wish, dry_run, log),
    }
}

/// The entries of `hosts.d`. What else lies there is named, and passed over.
fn entries(hosts: &HostsDir, log: Log) -> Result<Vec<Entry>, Error> {
    let listing = hosts.read()?;
    for stray in listing.strays {
        log.warning(&format!("{stray}; passed over"));
    }
    Ok(listing.entries)
}

/// Reads the settings of the INI.
fn load(path: &Path) -> Result<Config, Error> {
    Config::parse(path, &read_ini(path)?)
}

fn read_ini(path: &Path) -> Result<String, Error> {
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

/// Reads the INI for a command that runs for long: its secrets must be its owner's alone.
fn load_for_service(path: &Path) -> Result<Config, Error> {
    let config = load(path)?;
    private(&config)?;
    Ok(config)
}

/// Is the INI closed to others, if it holds a secret?
///
/// # Errors
/// Config, with the `chmod` to run.
fn private(config: &Config) -> Result<(), Error> {
    let path = &config.path;
    let mode = mode_of(path)?;
    if config.has_secret() && mode & 0o077 != 0 {
        return Err(Error::config(
            path.display(),
            format!(
                "holds a secret and others can read it (mode {mode:04o}); run: chmod 600 {}",
                path.display()
            ),
        ));
    }
    Ok(())
}

/// The permissions of a file.
fn mode_of(path: &Path) -> Result<u32, Error> {
    let metadata = fs::metadata(path).map_err(|e| Error::io(path.display(), e))?;
    Ok(metadata.permissions().mode() & 0o777)
}

/// Prints results. A reader that went away (`| head`) is no error.
fn print(text: impl AsRef<[u8]>) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_ref()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Error::io("stdout", e)),
        _ => Ok(()),
    }
}

/// The template beside the INI, a text of [`octets`].
fn template(config: &Config) -> Result<String, Error> {
    let path = template_path(config);
    let read = fs::read(&path).map(|bytes| octets::widen(&bytes));
    read.map_err(|e| files::unread(&path, &e, "`autoscaler init` makes an example"))
}

fn template_path(config: &Config) -> std::path::PathBuf {
    config.dir().join("haproxy.cfg")
}
