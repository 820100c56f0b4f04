//! One file per command: here the pure core and the effects meet.

mod add_host;
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
mod scale;
mod set;
mod simulate;
mod ssh_gate;
mod status;

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::time::Instant;

use crate::cli::{Command, Invocation};
use crate::config::Config;
use crate::error::Error;
use crate::system::log::Log;
use crate::system::{files, hangup};
use ini::{Watched, load};

/// Carries out what the command line asks for.
pub fn run(invocation: Invocation) -> Result<(), Error> {
    let Invocation {
        config: path,
        level,
        command,
    } = invocation;
    let log = Log::command(level);
    match command {
        Command::Print(text) => print(&text),
        Command::Init => init::run(&path, log),
        Command::Master => {
            hangup::ignore();
            let (_, config) = Watched::open(&path, Instant::now())?;
            master::run(config, Log::daemon(level))
        }
        Command::Daemon => {
            hangup::ignore();
            let (_, config) = Watched::open(&path, Instant::now())?;
            daemon::run(config, Log::daemon(level))
        }
        Command::AddHost {
            host,
            port,
            name,
            instance,
            apply,
        } => {
            let config = load(&path)?;
            add_host::run(&config, &host, port, name.as_deref(), instance.as_deref(), log)?;
            if apply {
                generate::apply(&config, log)
            } else {
                Ok(())
            }
        }
        Command::ListHosts => list_hosts::run(&load(&path)?),
        Command::RemoveHost { host, apply } => remove_host::run(&load(&path)?, &host, apply, log),
        Command::Generate(mode) => generate::run(&load(&path)?, mode, log),
        Command::Status(form) => status::run(&load(&path)?, form),
        Command::Check { host } => check::run(&path, host.as_deref(), log),
        Command::Prune(asked) => prune::run(&load(&path)?, asked, log),
        Command::Set { key, value } => set::run(&path, &key, &value, log),
        Command::SshGate => run(Invocation {
            config: path,
            level,
            command: ssh_gate::command()?,
        }),
        Command::Simulate(asked) => simulate::run(&path, &asked),
        Command::Scale { wish, dry_run } => scale::run(load(&path)?, wish, dry_run, log),
    }
}

/// Prints results. A reader that went away (`| head`) is no error.
fn print(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Error::io("stdout", e)),
        _ => Ok(()),
    }
}

/// The template beside the INI.
fn template(config: &Config) -> Result<String, Error> {
    let path = template_path(config);
    fs::read_to_string(&path).map_err(|e| files::unread(&path, &e, "`autoscaler init` makes an example"))
}

fn template_path(config: &Config) -> std::path::PathBuf {
    config.dir().join("haproxy.cfg")
}
