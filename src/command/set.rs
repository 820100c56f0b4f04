//! `set`: one key of the INI, changed in place; for people and cron.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use super::ini::{self, mode_of};
use crate::config::{Config, KEYS, dir_of, is_secret, others_may_read};
use crate::core::text::ini::edit;
use crate::core::text::words::did_you_mean;
use crate::error::Error;
use crate::system::files;
use crate::system::hosts_dir::HostsDir;
use crate::system::log::Log;

/// Sets `key`, which is `KEY` of `[scaling]` or `SECTION.KEY`, to `value`, or to what stdin has
/// where this is `-`.
///
/// # Errors
/// Usage, where there is no such key or a secret stands on the command line; config, where the file
/// would be wrong with it; I/O. Then the file is as it was.
pub fn run(path: &Path, key: &str, value: &str, log: Log) -> Result<(), Error> {
    let (section, key) = known(key)?;
    if is_secret(section, key) && value != "-" {
        return Err(Error::usage(
            format!("set {section}.{key}"),
            format!(
                "is a secret, and others can see command lines; run: autoscaler set {section}.{key} - <FILE"
            ),
        ));
    }
    let value = match value {
        "-" => from_stdin()?,
        value => value.into(),
    };
    // Where it is a link, the file behind it is replaced and not the link.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.into());
    // Before the lock, which would leave a file where there is no site.
    ini::read(path)?;
    let _lock = HostsDir::new(dir_of(path)).lock()?;
    let before = ini::read(path)?;
    let text = edit::set(&before, section, key, &value)
        .map_err(|cause| Error::config(path.display(), format!("{key}: {cause}")))?;
    let checked = Config::parse(path, &text);
    let config = checked.map_err(|e| e.advise("the file is as it was"))?;
    if text == before {
        return Ok(());
    }
    if is_secret(section, key) && !value.is_empty() && others_may_read(mode_of(path)?) {
        let cause = format!(
            "others can read it, and a secret was to go into it; run: chmod 600 {}",
            path.display()
        );
        return Err(Error::config(path.display(), cause));
    }
    files::rewrite(&target, &text).map_err(|e| Error::io(target.display(), e))?;
    if let Ok(old) = Config::parse(path, &before)
        && let Some(change) = old.change_to(&config)
    {
        log.event(&format!("{}: {change}", path.display()));
    }
    Ok(())
}

/// The section and the key that `wanted` names.
fn known(wanted: &str) -> Result<(&'static str, &'static str), Error> {
    let wanted = wanted.to_lowercase();
    let (section, key) = wanted.split_once('.').unwrap_or(("scaling", &wanted));
    if let Some((section, key, _)) = KEYS.iter().find(|k| k.0 == section && k.1 == key) {
        return Ok((section, key));
    }
    let names = KEYS.iter().map(|(section, key, _)| match *section {
        "scaling" => (*key).to_string(),
        section => format!("{section}.{key}"),
    });
    let names: Vec<String> = names.collect();
    // The right key without its section is likelier than a typing error.
    let hint = match names.iter().find(|name| name.ends_with(&format!(".{key}"))) {
        Some(name) => format!("; did you mean {name}?"),
        None => did_you_mean(&wanted, names.iter().map(String::as_str)),
    };
    Err(Error::usage(
        format!("set {}", wanted.escape_default()),
        format!("no such key{hint} (man autoscaler has all)"),
    ))
}

fn from_stdin() -> Result<String, Error> {
    let mut text = String::new();
    match io::stdin().read_to_string(&mut text) {
        Ok(_) => Ok(text.trim().into()),
        Err(e) => Err(Error::io("stdin", e)),
    }
}
