//! What a master keeps over a restart: `<state>/master`, lines of `<word> <value>`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::files::{self, Place};
use crate::core::lease::{Saved, Wish};
use crate::error::Error;

/// The file.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
}

impl StateFile {
    /// In the directory `state`, which is made when it is missing.
    ///
    /// # Errors
    /// I/O.
    pub fn in_dir(state: &Path) -> Result<StateFile, Error> {
        files::make_dir(state, 0o755)?;
        Ok(StateFile {
            path: state.join("master"),
        })
    }

    /// What the last master left; `None` where none ran before. A file that can't be made out
    /// counts as one that says nothing: the master then still waits one lease for a holder.
    ///
    /// # Errors
    /// I/O.
    pub fn load(&self) -> Result<Option<Saved>, Error> {
        match fs::read(&self.path) {
            Ok(bytes) => Ok(Some(parse(&String::from_utf8_lossy(&bytes), wall_clock()))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io(self.path.display(), e)),
        }
    }

    /// # Errors
    /// I/O.
    pub fn save(&self, saved: &Saved) -> Result<(), Error> {
        let text = format(saved, wall_clock());
        files::write(&self.path, &text, 0o644, Place::Replace).map_err(|e| Error::io(self.path.display(), e))
    }
}

/// Since 1970.
fn wall_clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn format(saved: &Saved, now: Duration) -> String {
    let mut text = format!("epoch {}\n", saved.epoch);
    for (word, left) in [
        ("cooldown", saved.grow_cooldown),
        ("scale_down_cooldown", saved.shrink_cooldown),
    ] {
        if !left.is_zero() {
            text += &format!("{word} {}\n", (now + left).as_millis());
        }
    }
    if let Some((id, node, wish)) = &saved.held {
        let wish = match wish {
            Wish::Grow => "SCALE",
            Wish::Shrink => "RETIRE",
        };
        text += &format!("lease {id} {node} {wish}\n");
    }
    text
}

fn parse(text: &str, now: Duration) -> Saved {
    let mut saved = Saved::default();
    let left = |until: &str| Duration::from_millis(until.parse().unwrap_or(0)).saturating_sub(now);
    for line in text.lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["epoch", epoch] => saved.epoch = epoch.parse().unwrap_or(0),
            ["cooldown", until] => saved.grow_cooldown = left(until),
            ["scale_down_cooldown", until] => saved.shrink_cooldown = left(until),
            ["lease", id, node, "SCALE"] => saved.held = Some((id.into(), node.into(), Wish::Grow)),
            ["lease", id, node, "RETIRE"] => saved.held = Some((id.into(), node.into(), Wish::Shrink)),
            _ => {}
        }
    }
    saved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_less_the_time_that_passed() {
        let second = Duration::from_secs(1);
        let saved = Saved {
            epoch: 7,
            grow_cooldown: 50 * second,
            shrink_cooldown: Duration::ZERO,
            held: Some(("7-ab".into(), "app1".into(), Wish::Grow)),
        };
        let text = format(&saved, 1000 * second);
        assert_eq!(text, "epoch 7\ncooldown 1050000\nlease 7-ab app1 SCALE\n");
        assert_eq!(parse(&text, 1000 * second), saved);
        assert_eq!(parse(&text, 1020 * second).grow_cooldown, 30 * second);
        assert_eq!(parse(&text, 2000 * second).grow_cooldown, Duration::ZERO);
        assert_eq!(parse("\0garbage\nepoch x\n", second), Saved::default());
    }
}
