//! Which settings are secret, and that they stay so.

use std::fmt;

use super::{Aws, Cluster, Config};
use crate::error::Error;

// Written out, so that no secret reaches a log through `{:?}`.
impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Aws {{ region: {:?}, endpoint_url: {:?}, .. }}",
            self.region, self.endpoint_url
        )
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cluster {{ name: {:?}, .. }}", self.name)
    }
}

impl Config {
    /// Does the file hold something that only its owner should read?
    pub fn has_secret(&self) -> bool {
        let texts = [
            &self.aws.secret_key,
            &self.aws.session_token,
            &self.notify.webhook,
        ];
        !self.cluster.secrets.is_empty() || texts.iter().any(|secret| !secret.is_empty())
    }

    /// May the file have these permissions? With a secret in it, it is closed to others.
    ///
    /// # Errors
    /// Config, with the `chmod` to run.
    pub fn may_have_mode(&self, mode: u32) -> Result<(), Error> {
        if !self.has_secret() || !others_may_read(mode) {
            return Ok(());
        }
        let path = self.path.display();
        let cause = format!("holds a secret and others can read it (mode {mode:04o}); run: chmod 600 {path}");
        Err(Error::config(path, cause))
    }
}

/// Do these permissions of a file let others do anything with it?
pub fn others_may_read(mode: u32) -> bool {
    mode & 0o077 != 0
}

/// Is the value of this key nobody's but its owner's?
pub fn is_secret(section: &str, key: &str) -> bool {
    [
        ("aws", "aws_secret_key"),
        ("aws", "aws_session_token"),
        ("cluster", "secret"),
        ("notify", "webhook"),
    ]
    .contains(&(section, key))
}

/// Shorter words are those of a passphrase, which is one secret.
const SHORTEST_OF_TWO: usize = 16;

/// The secrets in the value of `secret`: two where it is two words of at least 16 characters, the
/// new one first; else all of it is one, and an empty text none.
pub(super) fn split(text: &str) -> Vec<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[..] {
        [new, old] if [new, old].iter().all(|w| w.chars().count() >= SHORTEST_OF_TWO) => {
            vec![new.into(), old.into()]
        }
        [] => Vec::new(),
        _ => vec![text.into()],
    }
}
