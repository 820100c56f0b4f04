//! The arguments of `simulate`.

use std::path::PathBuf;

use super::{Command, Reader};
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
    pub(super) fn simulate(&self) -> Result<Command, Error> {
        let words = self.words(&["trace"])?;
        let count = |option: &str| {
            let parse = |text: String| {
                let number = text.parse().ok().filter(|n| (1..=MOST_MACHINES).contains(n));
                let wrong = format!("`{text}` is not a number of machines from 1 to {MOST_MACHINES}");
                number.ok_or_else(|| Error::usage(format!("--{option}"), wrong))
            };
            self.value(option).map(parse).transpose()
        };
        let boot_time = self.value("boot-time").unwrap_or_else(|| "1m".into());
        let mut boots = Boots::parse(&boot_time).map_err(|e| Error::usage("--boot-time", e))?;
        if let Some(seed) = self.value("seed") {
            let wrong = |_| Error::usage("--seed", format!("`{seed}` is not a whole number"));
            boots.seed = seed.parse().map_err(wrong)?;
        }
        let spread = self.value("spread").unwrap_or_else(|| "0".into());
        let percent = spread.trim_end_matches('%').parse().ok();
        let percent = percent.filter(|p| (0.0..=100.0).contains(p));
        let wrong = || {
            Error::usage(
                "--spread",
                format!("`{spread}` is not a percentage from 0 to 100"),
            )
        };
        Ok(Command::Simulate(Simulate {
            trace: words[0].clone().into(),
            hosts: count("hosts")?,
            start: count("start")?,
            boots,
            loads_alone: self.has("loads-alone"),
            spread: percent.ok_or_else(wrong)?,
            svg: self.value("svg").map(PathBuf::from),
            json: self.has("json"),
            settings: self.combinations()?,
        }))
    }

    /// Each value of each key with each of the others.
    fn combinations(&self) -> Result<Vec<Vec<(String, String)>>, Error> {
        let mut all = vec![Vec::new()];
        for key in KEYS {
            let Some(values) = self.value(key) else { continue };
            let name = format!("--{key}");
            let mut next = Vec::new();
            for settings in &all {
                for value in values.split(',').map(str::trim) {
                    if value.is_empty() {
                        return Err(Error::usage(name, "a value is missing"));
                    }
                    let mut settings: Vec<(String, String)> = settings.clone();
                    settings.push((key.replace('-', "_"), value.into()));
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
}
