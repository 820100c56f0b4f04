//! stderr: one line per event, without a timestamp, which svlogd and journald add.

use std::io::{IsTerminal, Write};

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// `--quiet`: only what went wrong.
    Quiet,
    Normal,
    /// `--verbose`.
    Verbose,
}

/// Where events go.
#[derive(Debug, Clone, Copy)]
pub struct Log {
    level: Level,
    /// Say how it goes as well: a daemon always does, a one-shot command only to a terminal,
    /// so that cron mails only trouble.
    events: bool,
}

impl Log {
    /// For `master` and `daemon`.
    pub fn daemon(level: Level) -> Log {
        Log {
            level,
            events: level > Level::Quiet,
        }
    }

    /// For one-shot commands.
    pub fn command(level: Level) -> Log {
        let shown = level == Level::Verbose || (level == Level::Normal && std::io::stderr().is_terminal());
        Log { level, events: shown }
    }

    /// Something happened.
    pub fn event(&self, text: &str) {
        if self.events {
            write(text);
        }
    }

    /// Something that only a closer look needs.
    pub fn detail(&self, text: &str) {
        if self.level == Level::Verbose {
            write(text);
        }
    }

    /// How far a wait has come: one line that each call replaces, for a person at a terminal.
    pub fn progress(&self, text: &str) {
        if self.at_terminal() {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[Kautoscaler: {}", clean(text));
        }
    }

    /// Takes the line of [`Log::progress`] away.
    pub fn progress_done(&self) {
        if self.at_terminal() {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }

    fn at_terminal(&self) -> bool {
        self.events && std::io::stderr().is_terminal()
    }

    /// Something that a person has to see.
    pub fn warning(&self, text: &str) {
        write(text);
    }
}

/// A log that can't be written (its reader is gone) is no reason to stop.
fn write(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "autoscaler: {}", clean(text));
}

/// Control characters from outside must not reach a terminal or begin a line of their own.
fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
