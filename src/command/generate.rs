//! `generate`: template and `hosts.d` → HAProxy's configuration → the running HAProxy.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;

use super::haproxy;
use super::{drain, entries, print, template, template_path};
use crate::cli::Generate;
use crate::config::Config;
use crate::core::entry::Entry;
use crate::core::{diff, runtime, template as rendering};
use crate::error::Error;
use crate::system::child::Finished;
use crate::system::due::DueFile;
use crate::system::files::Temporary;
use crate::system::hosts_dir::HostsDir;
use crate::system::log::Log;

pub fn run(config: &Config, mode: Generate, log: Log) -> Result<(), Error> {
    let hosts = HostsDir::new(config.dir());
    match (mode, &config.haproxy.config) {
        (Generate::Install, Some(target)) => install(config, target, log),
        (Generate::Diff, Some(target)) => {
            let target_name = target.display().to_string();
            let installed = installed(target)?.map(|(text, _)| text).unwrap_or_default();
            let new = render(config, &entries(&hosts, log)?)?.text;
            print(&diff::unified(&target_name, &installed, &target_name, &new))
        }
        (Generate::Diff, None) => Err(no_config(config)),
        (Generate::Check, _) => {
            let entries = entries(&hosts, log)?;
            hosts.try_writing()?;
            rehearse(config, &entries).map(drop)
        }
        (Generate::Stdout, _) | (Generate::Install, None) => {
            print(&render(config, &entries(&hosts, log)?)?.text)
        }
    }
}

/// What `--apply` does: it never prints, so it needs a place to install to.
pub fn apply(config: &Config, log: Log) -> Result<(), Error> {
    install(config, can_apply(config)?, log)
}

/// The file that `--apply` installs to.
///
/// # Errors
/// The INI names none.
pub fn can_apply(config: &Config) -> Result<&Path, Error> {
    config.haproxy.config.as_deref().ok_or_else(|| no_config(config))
}

fn no_config(config: &Config) -> Error {
    Error::config(
        config.path.display(),
        "no HAProxy configuration to write to; add under [haproxy]: config = /etc/haproxy/haproxy.cfg",
    )
}

/// What would be installed with these entries, once `check_command` has taken it; nothing is
/// changed.
///
/// # Errors
/// Whatever keeps it from being installed.
pub fn rehearse(config: &Config, entries: &[Entry]) -> Result<String, Error> {
    let target = can_apply(config)?;
    let target = &fs::canonicalize(target).unwrap_or_else(|_| target.into());
    let text = render(config, entries)?.text;
    let candidate = candidate(target, &text, fs::metadata(target).ok().as_ref())?;
    check(config, target, &candidate.path)?;
    Ok(text)
}

/// What template and entries make, unchecked.
///
/// # Errors
/// I/O and config.
pub fn rendered(config: &Config) -> Result<String, Error> {
    let entries = HostsDir::new(config.dir()).read()?.entries;
    Ok(render(config, &entries)?.text)
}

struct Rendered {
    template: String,
    text: String,
    servers: usize,
}

fn render(config: &Config, entries: &[Entry]) -> Result<Rendered, Error> {
    let template = template(config)?;
    let text = rendering::render(&template, entries, &config.haproxy.server_line)
        .map_err(|cause| Error::config(template_path(config).display(), cause))?;
    Ok(Rendered {
        template,
        text,
        servers: entries.len(),
    })
}

/// The configuration as it is installed; `None` where there is none yet.
///
/// # Errors
/// I/O.
pub fn installed(target: &Path) -> Result<Option<(String, Metadata)>, Error> {
    let read =
        || -> io::Result<(String, Metadata)> { Ok((fs::read_to_string(target)?, fs::metadata(target)?)) };
    match read() {
        Ok(found) => Ok(Some(found)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(target.display(), e)),
    }
}

fn install(config: &Config, target: &Path, log: Log) -> Result<(), Error> {
    // Where it is a link, the file behind it is replaced and not the link.
    let target = &fs::canonicalize(target).unwrap_or_else(|_| target.into());
    let hosts = HostsDir::new(config.dir());
    let _lock = hosts.lock()?;
    let entries = entries(&hosts, log)?;
    drain::end_abandoned(config, &entries, log)?;
    let rendered = render(config, &entries)?;
    let before = installed(target)?;
    let due_file = DueFile::new(config.dir());
    let due = due_file.load()?;
    let changed = before.as_ref().map(|(text, _)| text) != Some(&rendered.text);
    if !changed && due.is_none() {
        log.detail(&format!("{}: nothing changed", target.display()));
        return Ok(());
    }
    let mut due = due.unwrap_or_default();
    let change = || match &before {
        Some((old, _)) => runtime::change(&rendered.template, old, &rendered.text, &config.haproxy.backend),
        None => Err("there was no configuration before".into()),
    };
    let io = |e| Error::io(target.display(), e);
    let metadata = before.as_ref().map(|(_, metadata)| metadata);
    if changed && rendered.servers == 0 && before.is_some() {
        return Err(Error::config(
            hosts.path().display(),
            format!(
                "holds no entry; {} is left as it is, a HAProxy without servers answers nobody",
                target.display()
            ),
        ));
    }
    let candidate = changed
        .then(|| candidate(target, &rendered.text, metadata))
        .transpose()?;
    // While `check_command` has its look, the disk is waited for and HAProxy asked.
    let (checked, synced, plan) = thread::scope(|scope| {
        let meanwhile = thread::Builder::new().spawn_scoped(scope, || {
            let synced = candidate.as_ref().map_or(Ok(()), Temporary::sync);
            (synced, haproxy::plan(config, change(), &due))
        });
        let meanwhile = meanwhile.map_err(|e| Error::io("a thread", e))?;
        let checked = candidate
            .as_ref()
            .map_or(Ok(()), |file| check(config, target, &file.path));
        let (synced, plan) = meanwhile.join().expect("it does not panic");
        Ok((checked, synced, plan))
    })?;
    checked?;
    synced.map_err(io)?;
    // On file before the change: what this process doesn't live to see is made up for by the next
    // one.
    match &plan {
        Ok(plan) => due.aside.extend(plan.touched().cloned()),
        Err(_) => due.reload = true,
    }
    due_file.save(&due)?;
    if let Some(candidate) = candidate {
        keep_first(target).map_err(io)?;
        fs::rename(&candidate.path, target).map_err(io)?;
        log.event(&format!(
            "{}: installed with {} servers",
            target.display(),
            rendered.servers
        ));
    }
    haproxy::bring(config, &rendered.text, plan, due, &due_file, log)
}

/// The new configuration in a file beside `target`, unchecked, with the mode and owner of the one
/// `before`.
fn candidate(target: &Path, text: &str, before: Option<&Metadata>) -> Result<Temporary, Error> {
    let mode = before.map_or(0o644, |metadata| metadata.permissions().mode() & 0o7777);
    let io = |e| Error::io(target.display(), e);
    let candidate = Temporary::create(target, text, mode).map_err(io)?;
    if let Some(metadata) = before {
        candidate.give_to_owner_of(metadata).map_err(io)?;
    }
    Ok(candidate)
}

/// Keeps what was there before the first `generate` ever, which was somebody's own work.
fn keep_first(target: &Path) -> io::Result<()> {
    let mut copy = target.as_os_str().to_owned();
    copy.push(".before-autoscaler");
    match fs::hard_link(target, copy) {
        Err(e) if !matches!(e.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => Err(e),
        _ => Ok(()),
    }
}

/// Has `check_command` look at `candidate`.
fn check(config: &Config, target: &Path, candidate: &Path) -> Result<(), Error> {
    let command = &config.haproxy.check_command;
    let failed = |cause: String| Error::io("check_command", cause).advise("is HAProxy installed?");
    let done = haproxy::shell(config, "check_command", command, candidate)?;
    match done.status.code() {
        Some(0) => Ok(()),
        Some(126 | 127) => Err(failed(done.complaint())),
        _ => {
            // Its lines are the result's, and not the template's.
            let complaint = complaint(&done).replace(&*candidate.to_string_lossy(), "line");
            Err(Error::config(
                template_path(config).display(),
                format!(
                    "refused by `{command}`, {} is left as it is: {complaint}; for the lines see autoscaler generate --stdout",
                    target.display()
                ),
            ))
        }
    }
}

/// All that HAProxy complains of, in one line, without what it says each time.
fn complaint(done: &Finished) -> String {
    let idle = [
        "[NOTICE]",
        "Error(s) found in configuration file",
        "Fatal errors found in configuration",
    ];
    let wanted = |l: &&str| !l.is_empty() && !idle.iter().any(|words| l.contains(words));
    // Before that: its level and its process.
    let heart = |l| str::split_once(l, " : config : ").map_or(l, |(_, heart)| heart);
    let lines: Vec<&str> = done
        .stderr
        .lines()
        .map(str::trim)
        .filter(wanted)
        .map(heart)
        .collect();
    if lines.is_empty() {
        done.complaint()
    } else {
        lines.join(" | ")
    }
}
