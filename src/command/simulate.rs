//! `simulate`: a trace of CPU use through the code that decides, on a clock of its own.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use super::{daemon, master, print, read_ini};
use crate::cli::{DEFAULT_INI, Simulate};
use crate::config::Config;
use crate::core::replay::{self, Model, Policy};
use crate::error::{Error, Kind};
use crate::system::files::{self, Place};

pub fn run(ini: &Path, asked: &Simulate) -> Result<(), Error> {
    let settings = match read_ini(ini) {
        // What is being considered may not be installed anywhere yet.
        Err(e) if e.kind() == Kind::Config && ini == Path::new(DEFAULT_INI) && !ini.exists() => String::new(),
        other => other?,
    };
    let mut policies = Vec::new();
    for keys in &asked.settings {
        policies.push(policy(ini, &settings, keys, asked)?);
    }
    let (name, bytes) = read(&asked.trace)?;
    let trace = replay::parse(&String::from_utf8_lossy(&bytes), asked.hosts).map_err(|(line, cause)| {
        let place = if line == 0 {
            name.clone()
        } else {
            format!("{name}:{line}")
        };
        Error::config(place, cause)
    })?;
    let model = Model {
        machines: asked.start.unwrap_or(trace.machines),
        boot: asked.boot,
        spread: asked.spread,
    };
    let start = Instant::now();
    let runs: Vec<_> = policies
        .iter()
        .map(|p| replay::run(&trace, &model, p, start))
        .collect();
    let title = name.rsplit('/').next().unwrap_or(&name);
    if let Some(path) = &asked.svg {
        let picture = replay::svg(title, &trace, &model, &runs);
        files::write(path, &picture, 0o644, Place::Replace).map_err(|e| Error::io(path.display(), e))?;
    }
    print(&replay::text(title, &trace, &model, &runs))
}

/// The settings of one run.
fn policy(ini: &Path, text: &str, keys: &[(String, String)], asked: &Simulate) -> Result<Policy, Error> {
    let given: Vec<(&str, &str)> = keys
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    let config = Config::parse_with(ini, text, &given)?;
    if asked.boot > config.machine.boot_timeout {
        return Err(Error::usage(
            "--boot-time",
            "is longer than boot_timeout: no machine would ever serve",
        ));
    }
    let mut node = daemon::settings(&config, true, false, Duration::ZERO);
    node.servers = vec!["lb1".into()];
    let mut title = format!("threshold {}%", config.scaling.threshold);
    for (key, value) in given {
        // Those with several values are what tells the runs apart.
        if key != "threshold"
            && asked
                .settings
                .iter()
                .any(|s| s.iter().any(|(k, v)| k == key && v != value))
        {
            title += &format!(", {key} {value}");
        }
    }
    Ok(Policy {
        title,
        node,
        master: master::rules(&config),
    })
}

/// The trace, and what to call it.
fn read(path: &Path) -> Result<(String, Vec<u8>), Error> {
    if path != Path::new("-") {
        let bytes = fs::read(path).map_err(|e| Error::io(path.display(), e))?;
        return Ok((path.display().to_string(), bytes));
    }
    let mut bytes = Vec::new();
    match io::stdin().read_to_end(&mut bytes) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Error::io("stdin", e)),
        _ => Ok(("stdin".into(), bytes)),
    }
}
