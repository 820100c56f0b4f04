//! The INI while a service runs: a changed file is seen, read, and taken between leases.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::ini::{private, read};
use crate::config::Config;
use crate::core::text::ini;
use crate::error::Error;
use crate::system::log::Log;

/// How often a service looks at its file.
const LOOK: Duration = Duration::from_secs(1);

/// The INI of a service, whose changes are taken between leases.
pub struct Watched {
    path: PathBuf,
    /// The text in force, or about to be.
    pub text: String,
    /// What it says by now, and is not in force yet.
    read: Option<Config>,
    /// As it was when its text was taken, or found wrong.
    seen: Option<Stamp>,
    /// Another state, seen once.
    settling: Option<Option<Stamp>>,
    next_look: Instant,
}

/// What tells that a file has changed. The kernel alone sets the time of its last change (ctime), to
/// the tick of its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    times: [i64; 4],
}

impl Watched {
    /// Reads it for the start; its secrets must be its owner's alone.
    ///
    /// # Errors
    /// Config, I/O.
    pub fn open(path: &Path, now: Instant) -> Result<(Watched, Config), Error> {
        let seen = stamp(path);
        let text = read(path)?;
        let config = Config::parse(path, &text)?;
        private(&config)?;
        let watched = Watched {
            path: path.into(),
            text,
            read: None,
            seen,
            settling: None,
            next_look: now + LOOK,
        };
        Ok((watched, config))
    }

    /// The settings to go by from now on, where they are others than those of `config`. While somebody
    /// holds the lease, which is `held`, they wait. What is wrong is said, and the old ones stay.
    pub fn look(&mut self, config: &Config, held: bool, log: Log, now: Instant) -> Option<Config> {
        match self.changed(now) {
            Some(Ok(read)) => self.read = Some(read),
            Some(Err(error)) => log.warning(&format!("{error}; the settings stay as they were")),
            None => {}
        }
        let mut new = self.read.take_if(|_| !held)?;
        let change = config.change_to(&new)?;
        log.event(&format!("{} has changed: {change}", config.path.display()));
        new.keep_until_next_start(config);
        Some(new)
    }

    /// Looks at the file, once a second at most. When it has changed: its settings, or what is wrong
    /// with it, once. Then the old text stays in force.
    ///
    /// A file that is written in place is taken when it has stopped changing, so that nobody goes by
    /// half of it; one that takes over the name is whole at once.
    fn changed(&mut self, now: Instant) -> Option<Result<Config, Error>> {
        if now < self.next_look {
            return None;
        }
        self.next_look = now + LOOK;
        let found = stamp(&self.path);
        if found == self.seen {
            self.settling = None;
            return None;
        }
        let replaced = found.is_some_and(|f| self.seen.is_some_and(|s| s.file != f.file));
        if !replaced && self.settling.replace(found) != Some(found) {
            return None;
        }
        let text = read(&self.path);
        if stamp(&self.path) != found {
            return None;
        }
        self.seen = found;
        self.settling = None;
        Some(text.and_then(|text| {
            let config = Config::parse(&self.path, &text)?;
            private(&config)?;
            // What an editor or a full disk leaves of a file in place of its new text.
            if sets_nothing(&text) && !sets_nothing(&self.text) {
                return Err(Error::config(self.path.display(), "sets nothing any more"));
            }
            self.text = text;
            Ok(config)
        }))
    }
}

fn sets_nothing(text: &str) -> bool {
    ini::parse(text).is_ok_and(|items| items.is_empty())
}

/// `None`: it is not there, or can't be looked at.
fn stamp(path: &Path) -> Option<Stamp> {
    let found = fs::metadata(path).ok()?;
    Some(Stamp {
        file: (found.dev(), found.ino()),
        size: found.size(),
        times: [
            found.mtime(),
            found.mtime_nsec(),
            found.ctime(),
            found.ctime_nsec(),
        ],
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::system::files::{self, Place};

    /// A file of its own, and a clock that goes on by two seconds with each look.
    struct Trial {
        dir: PathBuf,
        path: PathBuf,
        watched: Watched,
        now: Instant,
    }

    const OLD: &str = "[scaling]\nmax_hosts = 3\n";

    impl Trial {
        fn new(name: &str) -> Trial {
            let dir = std::env::temp_dir().join(format!("autoscaler-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            let path = dir.join("autoscaler.ini");
            fs::write(&path, OLD).unwrap();
            let now = Instant::now();
            let (watched, config) = Watched::open(&path, now).unwrap();
            assert_eq!(config.scaling.max_hosts, 3);
            Trial {
                dir,
                path,
                watched,
                now,
            }
        }

        /// `max_hosts`, or the complaint.
        fn look(&mut self) -> Option<Result<usize, String>> {
            self.now += 2 * LOOK;
            let found = self.watched.changed(self.now)?;
            Some(found.map(|c| c.scaling.max_hosts).map_err(|e| e.to_string()))
        }

        fn complaint(&mut self) -> String {
            self.look().unwrap().unwrap_err()
        }
    }

    impl Drop for Trial {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }

    #[test]
    fn one_that_takes_over_the_name_is_taken_at_once_and_once() {
        let mut trial = Trial::new("replaced");
        assert_eq!(trial.look(), None);
        // The same size, and within the clock's tick of the first.
        files::write(&trial.path, "[scaling]\nmax_hosts = 4\n", 0o600, Place::Replace).unwrap();
        assert!(
            trial.watched.changed(trial.now).is_none(),
            "not yet a second later"
        );
        assert_eq!(trial.look(), Some(Ok(4)));
        assert_eq!(trial.watched.text, "[scaling]\nmax_hosts = 4\n");
        assert_eq!(trial.look(), None);
    }

    #[test]
    fn one_that_is_being_written_is_taken_when_it_rests() {
        let mut trial = Trial::new("written");
        fs::write(&trial.path, "").unwrap();
        assert_eq!(trial.look(), None);
        fs::write(&trial.path, "[scaling]\nmax_hosts = 1").unwrap();
        assert_eq!(trial.look(), None, "half of 12");
        fs::write(&trial.path, "[scaling]\nmax_hosts = 12\n").unwrap();
        assert_eq!(trial.look(), None);
        assert_eq!(trial.look(), Some(Ok(12)));
    }

    #[test]
    fn what_is_wrong_is_said_once_and_the_old_text_stays() {
        let mut trial = Trial::new("wrong");
        let at = trial.path.display().to_string();
        let put = |text: &str, mode| files::write(Path::new(&at), text, mode, Place::Replace).unwrap();
        put("[scaling]\nmax_hosts = x\n", 0o600);
        assert_eq!(
            trial.complaint(),
            format!("{at}:2: max_hosts: `x` is not a whole number")
        );
        assert_eq!(trial.look(), None);
        put("# nothing\n", 0o600);
        assert_eq!(trial.complaint(), format!("{at}: sets nothing any more"));
        put("[cluster]\nsecret = x\n", 0o644);
        assert!(trial.complaint().ends_with(&format!("run: chmod 600 {at}")));
        fs::remove_file(&trial.path).unwrap();
        assert_eq!(trial.look(), None, "it may be on its way");
        assert!(trial.complaint().contains("not found"));
        assert_eq!(trial.look(), None);
        assert_eq!(trial.watched.text, OLD);
        put(OLD, 0o600);
        assert_eq!(trial.look(), None);
        assert_eq!(trial.look(), Some(Ok(3)));
    }

    #[test]
    fn a_mode_that_is_mended_is_a_change() {
        let mut trial = Trial::new("mode");
        files::write(&trial.path, "[cluster]\nsecret = x\n", 0o644, Place::Replace).unwrap();
        assert!(trial.complaint().contains("chmod 600"));
        fs::set_permissions(&trial.path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(trial.look(), None);
        assert_eq!(trial.look(), Some(Ok(10)));
    }
}
