//! `init`: everything that the other commands expect to find.

use std::io::ErrorKind;
use std::path::Path;

use crate::config;
use crate::error::Error;
use crate::system::files::{self, Place};
use crate::system::log::Log;
use crate::system::machine;

/// The INI as `init` writes it, with `@NAME@` and `@SECRET@` where the cluster's own belong.
pub const SAMPLE_INI: &str = include_str!("init/autoscaler.ini");
/// The template as `init` writes it.
const SAMPLE_TEMPLATE: &str = include_str!("init/haproxy.cfg");

pub fn run(path: &Path, log: Log) -> Result<(), Error> {
    let dir = config::dir_of(path);
    files::make_dir(dir, 0o755)?;
    let hosts_d = dir.join("hosts.d");
    let had_hosts = hosts_d.is_dir();
    files::make_dir(&hosts_d, 0o755)?;
    let mut kept = Vec::new();
    for (file, text, mode) in [
        (path.to_path_buf(), fresh_ini()?, 0o600),
        (dir.join("haproxy.cfg"), SAMPLE_TEMPLATE.to_string(), 0o644),
    ] {
        match files::write(&file, &text, mode, Place::New) {
            Ok(()) => log.event(&format!("{}: made", file.display())),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => kept.push(file),
            Err(e) => return Err(Error::io(file.display(), e)),
        }
    }
    if had_hosts {
        kept.push(hosts_d);
    }
    for file in kept {
        log.warning(&format!("{}: is there already, kept", file.display()));
    }
    Ok(())
}

/// The sample with a name and a secret that no other cluster has.
fn fresh_ini() -> Result<String, Error> {
    let secret = machine::nonce()? + &machine::nonce()?;
    let name = format!("site-{}", &machine::nonce()?[..8]);
    Ok(SAMPLE_INI.replace("@NAME@", &name).replace("@SECRET@", &secret))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, KEYS};

    #[test]
    fn the_sample_is_valid_as_it_stands() {
        let config = Config::parse(Path::new("x.ini"), &fresh_ini().unwrap()).unwrap();
        assert!(config.cluster.is_named);
        assert!(config.haproxy.config.is_some());
        assert!(config.has_secret());
        crate::core::haproxy::template::render(SAMPLE_TEMPLATE, &[], &[].into(), &config.haproxy.server_line)
            .unwrap();
    }

    #[test]
    fn the_sample_shows_every_key_with_its_default() {
        for (section, key, default) in KEYS {
            let from = SAMPLE_INI.find(&format!("[{section}]")).unwrap();
            let section_text = &SAMPLE_INI[from..];
            let to = section_text[1..]
                .find("\n[")
                .map_or(section_text.len(), |end| end + 1);
            let shown = format!("#{key} = {default}");
            let own = default.is_empty() || *key == "name";
            let found = section_text[..to].lines().any(|line| match own {
                true => line.trim_start_matches('#').starts_with(&format!("{key} =")),
                false => line == shown,
            });
            assert!(found, "[{section}]: `{shown}` is not in the sample");
        }
    }

    #[test]
    fn the_sample_is_valid_with_every_default_made_visible() {
        let text: String = SAMPLE_INI
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if KEYS.iter().any(|k| rest.starts_with(&format!("{} =", k.1))) => {
                    format!("{rest}\n")
                }
                _ => format!("{line}\n"),
            })
            .collect();
        Config::parse(Path::new("x.ini"), &text.replace("@NAME@", "n")).unwrap();
    }
}
