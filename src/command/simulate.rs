//! `simulate`: a trace of CPU use through the code that decides, on a clock of its own.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use super::{daemon, ini, master, print};
use crate::cli::{DEFAULT_INI, Simulate};
use crate::config::{Config, Scaling};
use crate::core::replay::{self, Model, Policy};
use crate::error::{Error, Kind};
use crate::system::files::{self, Place};

pub fn run(ini: &Path, asked: &Simulate) -> Result<(), Error> {
    let settings = match ini::read(ini) {
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
        boots: asked.boots,
        requests: !asked.loads_alone,
        spread: asked.spread,
        yardstick: policies[0].node.threshold,
    };
    let mut most = policies.iter().map(|p| p.master.max_hosts);
    if let Some(most) = most.find(|most| model.machines > *most) {
        let cause = format!(
            "{} machines at the beginning are more than max_hosts, {most}: set one of them with --start or --max-hosts",
            model.machines
        );
        return Err(Error::usage("simulate", cause));
    }
    let start = Instant::now();
    let runs: Vec<_> = policies
        .iter()
        .map(|p| replay::run(&trace, &model, p, start))
        .collect();
    let title = name.rsplit('/').next().unwrap_or(&name);
    if let Some(path) = &asked.svg {
        let picture = replay::svg(title, &trace, &model, &runs);
        write(path, &picture).map_err(|e| Error::io(path.display(), e))?;
    }
    let without = replay::run(&trace, &model, &policies[0].without_scaling(), start);
    let report = if asked.json { replay::json } else { replay::text };
    print(&report(title, &trace, &model, &without, &runs))
}

/// In one step, but into a pipe or a device as it is: it must not be replaced by a file.
fn write(path: &Path, picture: &str) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(there) if !there.is_file() => fs::write(path, picture),
        _ => files::write(path, picture, 0o644, Place::Replace),
    }
}

/// The settings of one run.
fn policy(ini: &Path, text: &str, keys: &[(String, String)], asked: &Simulate) -> Result<Policy, Error> {
    let given: Vec<(&str, &str)> = keys
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    let config = Config::parse_with(ini, text, &given)?;
    if asked.boots.most > config.machine.boot_timeout {
        return Err(Error::usage(
            "--boot-time",
            "is longer than boot_timeout: no machine would ever serve",
        ));
    }
    let mut node = daemon::settings(&config, true, false);
    node.servers = vec!["lb1".into()];
    // Those with several values are what tells the runs apart.
    let mut compared = given;
    compared.retain(|(key, value)| {
        let differs = |s: &Vec<(String, String)>| s.iter().any(|(k, v)| k == key && v != value);
        *key != "threshold" && asked.settings.iter().any(differs)
    });
    let mut title = format!("threshold {}%", config.scaling.threshold);
    for (key, value) in &compared {
        title += &format!(", {key} {value}");
    }
    Ok(Policy {
        details: details(&config.scaling, &compared),
        title,
        node,
        master: master::rules(&config),
    })
}

/// The settings that are not `compared`, as those stand in the title.
fn details(scaling: &Scaling, compared: &[(&str, &str)]) -> String {
    let time = |label: &str, key: &str, time: Duration| {
        let titled = compared.iter().any(|(k, _)| *k == key);
        (!titled).then(|| format!("{label} {} s", time.as_secs_f64()))
    };
    let machines = format!("{} to {} machines", scaling.min_hosts, scaling.max_hosts);
    let mut parts = vec![
        time("window", "window", scaling.window),
        time("cooldown", "cooldown", scaling.cooldown),
        Some(machines),
    ];
    match scaling.scale_down_threshold {
        0.0 => parts.push(Some("no scale-down".into())),
        percent => parts.extend([
            Some(format!("down at {percent}%")),
            time("down window", "scale_down_window", scaling.scale_down_window),
            time(
                "down cooldown",
                "scale_down_cooldown",
                scaling.scale_down_cooldown,
            ),
        ]),
    }
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
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
