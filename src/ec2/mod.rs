//! The client of EC2's Query API: signing, requests, answers, credentials,
//! instance metadata, retries.
//!
//! Pure, with values in and values out: `sigv4`, `xml`, `response`, `group`, `endpoint`,
//! `shared_files`, `role`, `clock`, `retry`, `failure`. Effects: `http` (the only user of ureq), `query`,
//! `imds`, `container`, `sts`, `web_identity`, `process`, `profile`, `credentials`, `settings`,
//! `exchange`, which joins them, and `client` on top. Nothing outside this directory
//! knows that EC2 is spoken over HTTP.

mod client;
mod clock;
mod container;
mod credentials;
mod endpoint;
mod exchange;
mod failure;
mod group;
mod http;
mod imds;
mod process;
mod profile;
mod query;
pub mod response;
mod retry;
mod role;
mod settings;
mod shared_files;
mod sigv4;
mod sts;
mod web_identity;
mod webhook;
pub mod xml;

#[cfg(test)]
mod client_test;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod profile_test;
#[cfg(test)]
mod provider_test;
#[cfg(test)]
mod web_identity_test;

pub use client::Client;
pub use clock::amz_date;
pub use endpoint::Service;
pub use failure::Failure;
pub use group::Group;
use imds::Imds;
pub use imds::{Lack, Notice};
pub use query::form_encode;
pub use response::{Instance, KEEP_TAG, State};
pub use settings::Settings;
pub use webhook::post;

/// Reads an environment variable. A value, so that tests need not change the
/// process's environment.
type Env = std::sync::Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The first of `texts` that is not empty; empty if all are.
fn first_set<const N: usize>(texts: [&str; N]) -> &str {
    texts
        .into_iter()
        .find(|text| !text.is_empty())
        .unwrap_or_default()
}

/// The variable's trimmed value; empty when unset.
fn var(env: &Env, name: &str) -> String {
    env(name).map_or_else(String::new, |value| value.trim().to_string())
}
