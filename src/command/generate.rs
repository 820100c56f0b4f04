//! `generate`: template and `hosts.d` → HAProxy's configuration → the running HAProxy.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{print, template, template_path};
use crate::cli::Generate;
use crate::config::Config;
use crate::core::{diff, template as rendering};
use crate::error::{Error, Kind};
use crate::system::child::{self, Finished};
use crate::system::files::Temporary;
use crate::system::hosts_dir::HostsDir;
use crate::system::log::Log;

/// A check or a reload that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn run(config: &Config, mode: Generate, log: Log) -> Result<(), Error> {
    match (mode, &config.haproxy.config) {
        (Generate::Install, Some(target)) => install(config, target, log),
        (Generate::Diff, Some(target)) => {
            let target_name = target.display().to_string();
            let installed = installed(target)?.map(|(text, _)| text).unwrap_or_default();
            print(&diff::unified(
                &target_name,
                &installed,
                &target_name,
                &render(config)?.text,
            ))
        }
        (Generate::Diff, None) => Err(no_config(config)),
        (Generate::Stdout, _) | (Generate::Install, None) => print(&render(config)?.text),
    }
}

/// What `--apply` does: it never prints, so it needs a place to install to.
pub fn apply(config: &Config, log: Log) -> Result<(), Error> {
    match &config.haproxy.config {
        Some(target) => install(config, target, log),
        None => Err(no_config(config)),
    }
}

fn no_config(config: &Config) -> Error {
    Error::config(
        config.path.display(),
        "no HAProxy configuration to write to; add under [haproxy]: config = /etc/haproxy/haproxy.cfg",
    )
}

struct Rendered {
    text: String,
    servers: usize,
}

fn render(config: &Config) -> Result<Rendered, Error> {
    let entries = HostsDir::new(config.dir()).entries()?;
    let text = rendering::render(&template(config)?, &entries, &config.haproxy.server_line)
        .map_err(|cause| Error::config(template_path(config).display(), cause))?;
    Ok(Rendered {
        text,
        servers: entries.len(),
    })
}

/// The configuration as it is installed; `None` where there is none yet.
fn installed(target: &Path) -> Result<Option<(String, Metadata)>, Error> {
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
    let _lock = HostsDir::new(config.dir()).lock()?;
    let rendered = render(config)?;
    let before = installed(target)?;
    let reload_due = Marker::new(config.dir());
    let changed = before.as_ref().map(|(text, _)| text) != Some(&rendered.text);
    if !changed && !reload_due.is_set() {
        log.detail(&format!("{}: nothing changed", target.display()));
        return Ok(());
    }
    if changed {
        if rendered.servers == 0 && before.is_some() {
            return Err(Error::config(
                HostsDir::new(config.dir()).path().display(),
                format!(
                    "is empty; {} is left as it is, a HAProxy without servers answers nobody",
                    target.display()
                ),
            ));
        }
        let mode = before
            .as_ref()
            .map_or(0o644, |(_, metadata)| metadata.permissions().mode() & 0o7777);
        let io = |e| Error::io(target.display(), e);
        let candidate = Temporary::create(target, &rendered.text, mode).map_err(io)?;
        if let Some((_, metadata)) = &before {
            keep_owner(&candidate.path, metadata).map_err(io)?;
        }
        check(config, target, &candidate.path)?;
        // Set before the file changes: a reload that this process doesn't live to see is made up
        // for by the next one.
        reload_due.set()?;
        fs::rename(&candidate.path, target).map_err(io)?;
        log.event(&format!(
            "{}: installed with {} servers",
            target.display(),
            rendered.servers
        ));
    }
    reload(config)?;
    reload_due.clear()?;
    log.event("HAProxy: reloaded");
    Ok(())
}

fn keep_owner(path: &Path, before: &Metadata) -> io::Result<()> {
    let file = File::open(path)?;
    let now = file.metadata()?;
    if (now.uid(), now.gid()) == (before.uid(), before.gid()) {
        return Ok(());
    }
    std::os::unix::fs::fchown(&file, Some(before.uid()), Some(before.gid()))
}

/// Has `check_command` look at `candidate`.
fn check(config: &Config, target: &Path, candidate: &Path) -> Result<(), Error> {
    let command = &config.haproxy.check_command;
    let done = shell(command, candidate).map_err(|e| Error::io("check_command", e))?;
    match done.status.code() {
        Some(0) => Ok(()),
        Some(126 | 127) => Err(Error::io("check_command", done.complaint())),
        _ => {
            let complaint =
                complaint(&done).replace(&*candidate.to_string_lossy(), &target.to_string_lossy());
            Err(Error::config(
                template_path(config).display(),
                format!(
                    "refused by `{command}`, {} is left as it is: {complaint}",
                    target.display()
                ),
            ))
        }
    }
}

fn reload(config: &Config) -> Result<(), Error> {
    let command = &config.haproxy.reload_command;
    let target = config.haproxy.config.as_deref().unwrap_or(Path::new(""));
    let failed = |cause: String| {
        let next = "the file is installed, and the next `autoscaler generate` reloads again";
        Error::new(
            Kind::Io,
            "reload_command",
            format!("`{command}`: {cause}; {next}"),
        )
    };
    let done = shell(command, target).map_err(failed)?;
    if done.status.success() {
        Ok(())
    } else {
        Err(failed(done.complaint()))
    }
}

fn shell(command: &str, file: &Path) -> Result<Finished, String> {
    child::run(
        Command::new("/bin/sh").args(["-c", command]).env("FILE", file),
        PATIENCE,
    )
}

/// All that HAProxy complains of, in one line.
fn complaint(done: &Finished) -> String {
    let lines: Vec<&str> = done
        .stderr
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    if lines.is_empty() {
        done.complaint()
    } else {
        lines.join(" | ")
    }
}

/// A file that is there while a reload is due.
struct Marker {
    path: PathBuf,
}

impl Marker {
    fn new(dir: &Path) -> Marker {
        Marker {
            path: dir.join(".reload-due"),
        }
    }

    fn is_set(&self) -> bool {
        self.path.exists()
    }

    fn set(&self) -> Result<(), Error> {
        fs::write(&self.path, "").map_err(|e| Error::io(self.path.display(), e))
    }

    fn clear(&self) -> Result<(), Error> {
        fs::remove_file(&self.path).map_err(|e| Error::io(self.path.display(), e))
    }
}
