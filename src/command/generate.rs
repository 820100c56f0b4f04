//! `generate`: template and `hosts.d` → HAProxy's configuration → the running HAProxy.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use super::haproxy::{self, Installed};
use super::{drain, entries, print_bytes, template, template_path};
use crate::cli::Generate;
use crate::config::Config;
use crate::core::haproxy::complaint;
use crate::core::haproxy::entry::Entry;
use crate::core::haproxy::ids;
use crate::core::haproxy::octets;
use crate::core::haproxy::runtime::{reload, text};
use crate::core::haproxy::template as rendering;
use crate::core::protocol::auth::hex;
use crate::core::text::diff;
use crate::ec2;
use crate::error::Error;
use crate::system::due::DueFile;
use crate::system::files::{self, Place, Temporary};
use crate::system::haproxy_socket::HaproxySocket;
use crate::system::hosts_dir::HostsDir;
use crate::system::log::Log;
use crate::system::owner;

pub fn run(config: &Config, mode: Generate, log: Log) -> Result<(), Error> {
    let hosts = HostsDir::new(config.dir());
    match mode {
        Generate::Install if config.haproxy.config.is_some() => apply(config, log),
        Generate::Install | Generate::Stdout => {
            print_bytes(&octets::narrow(&render(config, &entries(&hosts, log)?)?.text))
        }
        Generate::Diff => {
            let target = can_apply(config)?;
            let installed = installed(target)?.map(|(text, _)| text).unwrap_or_default();
            let new = render(config, &entries(&hosts, log)?)?.text;
            let name = octets::widen(target.display().to_string().as_bytes());
            print_bytes(&octets::narrow(&diff::unified(&name, &installed, &name, &new)))
        }
        Generate::Check => {
            let entries = entries(&hosts, log)?;
            hosts.try_writing()?;
            rehearse(config, &entries, log).map(drop)
        }
    }
}

/// The file that `--apply` installs to.
///
/// # Errors
/// The INI names none.
pub fn can_apply(config: &Config) -> Result<&Path, Error> {
    let cause =
        "no HAProxy configuration to write to; add under [haproxy]: config = /etc/haproxy/haproxy.cfg";
    let target = config.haproxy.config.as_deref();
    target.ok_or_else(|| Error::config(config.path.display(), cause))
}

/// What would be installed with these entries, once `check_command` has taken it; nothing is
/// changed.
///
/// # Errors
/// Whatever keeps it from being installed.
pub fn rehearse(config: &Config, entries: &[Entry], log: Log) -> Result<String, Error> {
    let target = can_apply(config)?;
    let target = &fs::canonicalize(target).unwrap_or_else(|_| target.into());
    let text = render(config, entries)?.text;
    let candidate = candidate(config, target, &text, fs::metadata(target).ok().as_ref())?;
    check(config, target, &candidate.path, &text, log)?;
    Ok(text)
}

/// Texts of [`octets`].
pub struct Rendered {
    pub template: String,
    pub text: String,
    numbers: BTreeMap<String, u32>,
}

/// The template, and what it makes with the entries, unchecked.
///
/// # Errors
/// I/O and config.
pub fn render(config: &Config, entries: &[Entry]) -> Result<Rendered, Error> {
    let template = template(config)?;
    let wrong = |cause: String| Error::config(template_path(config).display(), cause);
    let numbers = ids::assign(&HostsDir::new(config.dir()).numbers()?, entries);
    let text = rendering::render(&template, entries, &numbers, &config.haproxy.server_line).map_err(wrong)?;
    if let Some(backend) = &config.haproxy.backend
        && !text::sections(&text).contains(&backend.as_str())
    {
        return Err(Error::config(
            config.path.display(),
            format!(
                "[haproxy] backend: {} has no backend `{backend}`",
                template_path(config).display()
            ),
        ));
    }
    Ok(Rendered {
        template,
        text,
        numbers,
    })
}

/// The configuration as it is installed, a text of [`octets`]; `None` where there is none yet.
///
/// # Errors
/// I/O.
pub fn installed(target: &Path) -> Result<Option<(String, Metadata)>, Error> {
    let read = || -> io::Result<(String, Metadata)> {
        let mut file = File::open(target)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok((octets::widen(&bytes), file.metadata()?))
    };
    files::if_there(target, read())
}

/// What `--apply` does: it never prints, so it needs a place to install to.
pub fn apply(config: &Config, log: Log) -> Result<(), Error> {
    let target = can_apply(config)?;
    // Where it is a link, the file behind it is replaced and not the link.
    let target = &fs::canonicalize(target).unwrap_or_else(|_| target.into());
    let hosts = HostsDir::new(config.dir());
    let _lock = hosts.lock()?;
    let entries = entries(&hosts, log)?;
    drain::end_abandoned(config, &entries, log)?;
    refuse_master(config)?;
    let rendered = render(config, &entries)?;
    let before = installed(target)?;
    let due_file = DueFile::new(config.dir());
    let due = due_file.load()?;
    let (template, text) = (&rendered.template, &rendered.text);
    let changed = before.as_ref().map(|(text, _)| text) != Some(text);
    if !changed && due.is_none() {
        let differences = haproxy::differences(config, template, text);
        if differences.is_empty() {
            log.detail(&format!("{}: nothing changed", target.display()));
            return Ok(());
        }
        log.event(&format!("HAProxy: it {}", differences.join(", ")));
    }
    let mut due = due.unwrap_or_default();
    let change = || match &before {
        Some((old, _)) => reload::change(template, old, text),
        None => Err("there was no configuration before".into()),
    };
    let io = |e| Error::io(target.display(), e);
    if changed && entries.is_empty() && before.is_some() {
        return Err(Error::config(
            hosts.path().display(),
            format!(
                "holds no entry; {} is left as it is, a HAProxy without servers answers nobody",
                target.display()
            ),
        ));
    }
    let metadata = before.as_ref().map(|(_, metadata)| metadata);
    let candidate = changed.then(|| candidate(config, target, text, metadata));
    let candidate = candidate.transpose()?;
    // While `check_command` has its look, the disk is waited for and HAProxy asked.
    let began = Instant::now();
    let (checked, synced, plan) = thread::scope(|scope| {
        let meanwhile = thread::Builder::new().spawn_scoped(scope, || {
            let synced = candidate.as_ref().map_or(Ok(()), Temporary::sync);
            let socket = HaproxySocket::new(&config.haproxy.socket);
            let plan = change().and_then(|change| haproxy::plan(&socket, &change, &due));
            (synced, plan)
        });
        let meanwhile = meanwhile.map_err(|e| Error::io("a thread", e))?;
        let checked = candidate
            .as_ref()
            .map_or(Ok(()), |file| check(config, target, &file.path, text, log));
        let (synced, plan) = meanwhile.join().expect("it does not panic");
        Ok((checked, synced, plan))
    })?;
    checked?;
    synced.map_err(io)?;
    let reading = began.elapsed();
    // On file before the change: what this process doesn't live to see is made up for by the next
    // one.
    match &plan {
        Ok(plan) => due.aside.extend(plan.touched().cloned()),
        Err(_) => due.reload = true,
    }
    due_file.save(&due)?;
    if config.haproxy.server_line.contains("$ID") && hosts.numbers()? != rendered.numbers {
        hosts.keep_numbers(&rendered.numbers)?;
    }
    if let Some(candidate) = candidate {
        // What was there before the first `generate` ever was somebody's own work.
        files::if_there(target, keep(target, "before-autoscaler"))?;
        let written = config.dir().join(".written");
        if let Some((before, _)) = &before
            && is_foreign(before, &written)
        {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let kept = keep(target, &ec2::amz_date(now.as_secs())).map_err(io)?;
            log.warning(&format!(
                "{}: somebody has changed it since autoscaler wrote it; it is kept as {}, and what it should keep belongs \
                 into {}",
                target.display(),
                kept.display(),
                template_path(config).display()
            ));
        }
        fs::rename(&candidate.path, target).map_err(io)?;
        files::write(&written, &(digest(text) + "\n"), 0o644, Place::Replace).map_err(io)?;
        let servers = entries.len();
        log.event(&format!("{}: installed with {servers} servers", target.display()));
    }
    let installed = Installed {
        template,
        text,
        before: before.as_ref().map(|(text, _)| &**text),
        since: Instant::now(),
        reading,
    };
    haproxy::bring(config, &installed, plan, due, &due_file, log)
}

/// The master process has no servers, and what it answers would look like a HAProxy that can't do
/// without reloads.
fn refuse_master(config: &Config) -> Result<(), Error> {
    let socket = HaproxySocket::new(&config.haproxy.socket);
    if !socket.is_of_master() {
        return Ok(());
    }
    Err(Error::config(
        config.path.display(),
        format!(
            "[haproxy] socket: {} is that of HAProxy's master process (-S); it takes the one of a `stats socket` line",
            config.haproxy.socket
        ),
    ))
}

/// The new configuration in a file beside `target`, unchecked, with the mode and owner of the one
/// `before`.
fn candidate(
    config: &Config,
    target: &Path,
    text: &str,
    before: Option<&Metadata>,
) -> Result<Temporary, Error> {
    owner::may_install(&config.path, target)?;
    let made = match before {
        Some(before) => Temporary::instead_of(before, target, octets::narrow(text)),
        None => Temporary::create(target, octets::narrow(text), 0o644),
    };
    made.map_err(|e| Error::io(target.display(), e))
}

/// Keeps what is there beside it, unless something has that name already.
fn keep(target: &Path, ending: &str) -> io::Result<PathBuf> {
    let mut copy = target.as_os_str().to_owned();
    copy.push(format!(".{ending}"));
    match fs::hard_link(target, &copy) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(e),
        _ => Ok(copy.into()),
    }
}

/// Was this text written by somebody else than `generate`, which leaves the digest of what it wrote last
/// in the file `written`? False where nobody knows.
fn is_foreign(text: &str, written: &Path) -> bool {
    fs::read_to_string(written).is_ok_and(|known| known.trim() != digest(text))
}

fn digest(text: &str) -> String {
    hex(&Sha256::digest(octets::narrow(text)))
}

/// Has `check_command` look at `candidate`, which holds `text`.
fn check(config: &Config, target: &Path, candidate: &Path, text: &str, log: Log) -> Result<(), Error> {
    let command = &config.haproxy.check_command;
    let failed = |cause: String| Error::io("check_command", cause).advise("is HAProxy installed?");
    let done = haproxy::shell(config, "check_command", command, candidate)?;
    // Its lines are the result's, and not the template's.
    let shown = |text: String| text.replace(&*candidate.to_string_lossy(), "line");
    let (alerts, warnings) = complaint::of(&done.stderr);
    match done.status.code() {
        Some(0) => {
            return text::doubled(text).map_or(Ok(()), |(section, server)| {
                let cause = format!("two servers of `{section}` are called `{server}`");
                Err(Error::config(template_path(config).display(), cause))
            });
        }
        Some(126 | 127) => return Err(failed(done.complaint())),
        _ if !warnings.is_empty() => {
            log.warning(&format!("`{command}` warns: {}", shown(warnings.join(" | "))))
        }
        _ => {}
    }
    let complaint = match alerts.is_empty() {
        true => done.complaint(),
        false => alerts.join(" | "),
    };
    Err(Error::config(
        template_path(config).display(),
        format!(
            "refused by `{command}`, {} is left as it is: {}; for the lines see autoscaler generate --stdout",
            target.display(),
            shown(complaint)
        ),
    ))
}
