//! One file per command: here the pure core and the effects meet.

mod add_host;
mod by_hand;
mod check;
mod daemon;
mod drain;
mod generate;
mod haproxy;
mod ini;
mod init;
mod list_hosts;
mod master;
mod prune;
mod remove_host;
mod replace;
mod scale;
mod set;
mod simulate;
mod ssh_gate;
mod status;
mod watched_ini;

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::time::Instant;

use crate::cli::{Command, Invocation};
use crate::config::Config;
use crate::core::haproxy::entry::Entry;
use crate::core::haproxy::octets;
use crate::core::haproxy::ssh_gate::By;
use crate::error::Error;
use crate::system::hosts_dir::HostsDir;
use crate::system::log::Log;
use crate::system::{files, hangup};
use ini::load;
use watched_ini::Watched;

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
    let service = |run: fn(Watched, Config, Log) -> Result<(), Error>| {
        hangup::ignore();
        let (watched, config) = Watched::open(&path, Instant::now())?;
        run(watched, config, Log::daemon(level))
    };
    match command {
        Command::Print(text) => print(&text),
        Command::Init => init::run(&path, log),
        Command::Master => service(master::run),
        Command::Daemon => service(daemon::run),
        Command::AddHost(asked) => add_host::run(&load(&path)?, &asked, by, log),
        Command::ListHosts { state } => list_hosts::run(&load(&path)?, state, log),
        Command::RemoveHost(asked) => remove_host::run(&load(&path)?, &asked, by, log),
        Command::Generate(mode) => generate::run(&load(&path)?, mode, log),
        Command::Status(form) => status::run(&load(&path)?, form),
        Command::Check { host } => check::run(&path, host.as_deref(), log),
        Command::Prune(asked) => prune::run(&load(&path)?, asked, log),
        Command::Set { key, value } => set::run(&path, &key, &value, log),
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
        Command::Scale(asked) => scale::run(&path, asked, log),
        Command::Replace(asked) => replace::run(&path, &asked, log),
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

/// Prints results. A reader that went away (`| head`) is no error.
fn print(text: &str) -> Result<(), Error> {
    print_bytes(text.as_bytes())
}

fn print_bytes(bytes: &[u8]) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
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
