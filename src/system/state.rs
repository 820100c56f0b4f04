//! What a master keeps over a restart: `<state>/master`.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::files::{self, Place};
use crate::core::master::lease::Saved;
use crate::error::Error;

/// The file.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    /// What was saved last, open for notes.
    notes: Option<File>,
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
            notes: None,
        })
    }

    /// What the last master left, and its decisions; `None` where none ran before. A file that
    /// can't be made out counts as one that says nothing: the master then still waits one lease
    /// for a holder.
    ///
    /// # Errors
    /// I/O.
    pub fn load(&self) -> Result<Option<(Saved, Decisions)>, Error> {
        let read = |bytes: Vec<u8>| {
            let (text, now) = (String::from_utf8_lossy(&bytes), wall_clock());
            (Saved::parse(&text, now), parse_decisions(&text, now))
        };
        Ok(files::if_there(&self.path, fs::read(&self.path))?.map(read))
    }

    /// Replaces it, safe from a power cut when this returns, which a busy disk can make long.
    ///
    /// # Errors
    /// I/O.
    pub fn save(&mut self, saved: &Saved, decisions: &Decisions) -> Result<(), Error> {
        let now = wall_clock();
        let mut text = saved.text(now);
        // The oldest first, as a note comes last.
        for decision in decisions.iter().rev() {
            text += &decision_line(decision, now);
        }
        files::write(&self.path, &text, 0o644, Place::Replace)
            .and_then(|()| OpenOptions::new().append(true).open(&self.path))
            .map(|file| self.notes = Some(file))
            .map_err(|e| Error::io(self.path.display(), e))
    }

    /// Appends a lease that has just been granted, and the decision, to what was saved last: at once,
    /// and safe from the end of this process, though not from a power cut.
    pub fn note(&mut self, saved: &Saved, granted: Option<Decision>) {
        if let Some(file) = &mut self.notes {
            let now = wall_clock();
            let granted = granted.map(|decision| decision_line(&decision, now));
            let _ = file.write_all((saved.lease_line(now) + &granted.unwrap_or_default()).as_bytes());
        }
    }
}

/// A line of a history, with its age.
pub type Decision = (Duration, String);

/// The newest first.
pub type Decisions = Vec<Decision>;

fn decision_line((age, line): &Decision, now: Duration) -> String {
    format!("decision {} {line}\n", now.saturating_sub(*age).as_millis())
}

/// Since 1970.
fn wall_clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn parse_decisions(text: &str, now: Duration) -> Decisions {
    let decision = |line: &str| {
        let (at, line) = line.strip_prefix("decision ")?.split_once(' ')?;
        let at = Duration::from_millis(at.parse().ok()?);
        Some((now.saturating_sub(at), line.to_string()))
    };
    text.lines().rev().filter_map(decision).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_get_older_on_file() {
        let second = Duration::from_secs(1);
        let text = "epoch 7\ndecision 990000 app1 SCALE - 1 ok 3 in\ndecision x\ndecision 5\n\
                    lease 8-a app2 SCALE\ndecision 998000 app2 SCALE 60 1 granted 0 \n";
        let older = (10 * second, "app1 SCALE - 1 ok 3 in".to_string());
        let noted = (2 * second, "app2 SCALE 60 1 granted 0 ".to_string());
        assert_eq!(parse_decisions(text, 1000 * second), [noted, older]);
    }
}
