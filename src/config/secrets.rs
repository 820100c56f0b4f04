//! Which settings are secret, and that they stay so.

use std::fmt;

use super::{Aws, Cluster, Config};

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
        [
            &self.aws.secret_key,
            &self.aws.session_token,
            &self.cluster.secret,
            &self.notify.webhook,
        ]
        .iter()
        .any(|secret| !secret.is_empty())
    }
}
