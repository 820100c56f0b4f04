//! What went wrong, for whom, and the exit code that says so to a script.

use std::fmt;

/// The class of a failure; its number is the process's exit code (`sysexits.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The command line is wrong.
    Usage = 64,
    /// A remote end (EC2, a HAProxy host, a master, DNS) did not do its part.
    Unavailable = 69,
    /// A local file, directory or program could not be used.
    Io = 74,
    /// Somebody else is at it, or it is too early: try later.
    Busy = 75,
    /// Credentials were refused.
    Refused = 77,
    /// The INI, the template, a host entry or a trace is wrong.
    Config = 78,
}

impl Kind {
    /// The kind with this exit code.
    pub fn of_exit_code(code: i32) -> Option<Kind> {
        let all = [
            Kind::Usage,
            Kind::Unavailable,
            Kind::Io,
            Kind::Busy,
            Kind::Refused,
            Kind::Config,
        ];
        all.into_iter().find(|kind| *kind as i32 == code)
    }
}

/// One failure, printed as `<subject>: <cause>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    /// The file (with its line), host or option that it is about.
    subject: String,
    cause: String,
}

impl Error {
    pub fn new(kind: Kind, subject: impl fmt::Display, cause: impl fmt::Display) -> Error {
        Error {
            kind,
            subject: subject.to_string(),
            cause: cause.to_string(),
        }
    }

    pub fn usage(subject: impl fmt::Display, cause: impl fmt::Display) -> Error {
        Error::new(Kind::Usage, subject, cause)
    }

    pub fn unavailable(subject: impl fmt::Display, cause: impl fmt::Display) -> Error {
        Error::new(Kind::Unavailable, subject, cause)
    }

    pub fn io(subject: impl fmt::Display, cause: impl fmt::Display) -> Error {
        Error::new(Kind::Io, subject, cause)
    }

    pub fn busy(subject: impl fmt::Display, cause: impl fmt::Display) -> Error {
        Error::new(Kind::Busy, subject, cause)
    }

    pub fn config(subject: impl fmt::Display, cause: impl fmt::Display) -> Error {
        Error::new(Kind::Config, subject, cause)
    }

    /// The same failure, with what to do about it.
    pub fn advise(mut self, step: &str) -> Error {
        self.cause = self.cause + "; " + step;
        self
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Without the subject.
    pub fn cause(&self) -> &str {
        &self.cause
    }

    /// The process's exit code for this failure.
    pub fn exit_code(&self) -> u8 {
        self.kind as u8
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.cause)
    }
}

impl std::error::Error for Error {}
