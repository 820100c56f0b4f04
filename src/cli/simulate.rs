//! The arguments of `simulate`.

use std::path::PathBuf;

use super::{Command, Opt, Reader};
use crate::core::replay::{Boots, MOST_MACHINES};
use crate::error::Error;

/// The keys of `[scaling]` that may be given as options, one value or several to compare.
const KEYS: [&str; 10] = [
    "threshold",
    "window",
    "cooldown",
    "max-step",
    "max-hosts",
    "min-hosts",
    "scale-down-threshold",
    "scale-down-window",
    "scale-down-cooldown",
    "sample-interval",
];
/// More settings side by side than this make no picture.
const MOST_SETTINGS: usize = 12;

/// What `simulate` replays, and how.
#[derive(Debug, PartialEq)]
pub struct Simulate {
    /// `-`: the standard input.
    pub trace: PathBuf,
    pub hosts: Option<usize>,
    /// Machines at the beginning; `None`: as many as were recorded.
    pub start: Option<usize>,
    pub boots: Boots,
    /// Without what the requests show of the load beyond 100%.
    pub loads_alone: bool,
    /// Percent.
    pub spread: f64,
    pub svg: Option<PathBuf>,
    pub json: bool,
    /// What to compare: for each run, the keys of `[scaling]` and their values. At least one run.
    pub settings: Vec<Vec<(String, String)>>,
}

impl Reader {
    pub(super) fn simulate(&mut self) -> Result<Command, Error> {
        let mut options = ["hosts", "start", "boot-time", "seed", "spread", "svg"]
            .map(Opt::value)
            .to_vec();
        options.extend([Opt::flag("json"), Opt::flag("loads-alone")]);
        options.extend(KEYS.map(Opt::value));
        let words = self.words(&["trace"], &mut options)?;
        if self.help {
            return Ok(Command::Init);
        }
        let [hosts, start, boot, seed, spread, svg] = [0, 1, 2, 3, 4, 5].map(|i| options[i].value.take());
        let (json, loads_alone) = (options[6].given, options[7].given);
        let count = |name: &str, value: Option<String>| {
            let parse = |text: String| {
                let number = text.parse().ok().filter(|n| (1..=MOST_MACHINES).contains(n));
                let wrong = || format!("`{text}` is not a number of machines from 1 to {MOST_MACHINES}");
                number.ok_or_else(|| Error::usage(name, wrong()))
            };
            value.map(parse).transpose()
        };
        let mut boots =
            Boots::parse(boot.as_deref().unwrap_or("1m")).map_err(|e| Error::usage("--boot-time", e))?;
        if let Some(seed) = seed {
            let wrong = |_| Error::usage("--seed", format!("`{seed}` is not a whole number"));
            boots.seed = seed.parse().map_err(wrong)?;
        }
        let spread = spread.unwrap_or_else(|| "0".into());
        let percent = spread.trim_end_matches('%').parse().ok();
        Ok(Command::Simulate(Simulate {
            trace: words[0].clone().into(),
            hosts: count("--hosts", hosts)?,
            start: count("--start", start)?,
            boots,
            loads_alone,
            spread: percent.filter(|p| (0.0..=100.0).contains(p)).ok_or_else(|| {
                Error::usage(
                    "--spread",
                    format!("`{spread}` is not a percentage from 0 to 100"),
                )
            })?,
            svg: svg.map(PathBuf::from),
            json,
            settings: combinations(&options)?,
        }))
    }
}

/// Each value of each option with each of the others.
fn combinations(options: &[Opt]) -> Result<Vec<Vec<(String, String)>>, Error> {
    let mut all = vec![Vec::new()];
    for option in options {
        let Some(values) = &option.value else { continue };
        let name = format!("--{}", option.name);
        let mut next = Vec::new();
        for settings in &all {
            for value in values.split(',').map(str::trim) {
                if value.is_empty() {
                    return Err(Error::usage(name, "a value is missing"));
                }
                let mut settings: Vec<(String, String)> = settings.clone();
                settings.push((option.name.replace('-', "_"), value.into()));
                next.push(settings);
            }
        }
        if next.len() > MOST_SETTINGS {
            let cause = format!("makes more than {MOST_SETTINGS} settings to compare");
            return Err(Error::usage(name, cause));
        }
        all = next;
    }
    Ok(all)
}
