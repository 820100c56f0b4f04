//! A POST to somebody else's URL, by the same proxies and certificates as EC2's.

use std::time::Duration;

use super::http::{Call, Http};
use super::{Env, endpoint, first_set, var};

/// The most that is read of an answer, in bytes.
const LIMIT: usize = 64 * 1024;

/// Posts `json`; `ca_bundle` as in `[aws]`.
///
/// # Errors
/// A text, with the host and never the rest of the URL, which may hold a token.
pub fn post(url: &str, json: &str, ca_bundle: &str, timeout: Duration) -> Result<(), String> {
    let env: Env = std::sync::Arc::new(|name| std::env::var(name).ok());
    let in_env = var(&env, "AWS_CA_BUNDLE");
    let http = Http::new(first_set([ca_bundle, &in_env])).map_err(|e| e.to_string())?;
    let call = Call {
        method: "POST",
        url,
        headers: &[("content-type", "application/json")],
        body: json.as_bytes(),
        timeout,
        limit: LIMIT,
    };
    let answer = http.by_environment(&call, &env);
    match answer.map_err(|lost| lost.text().to_string())?.status {
        200..300 => Ok(()),
        status => {
            let host = endpoint::split(url).map_or_else(|_| String::new(), |parts| parts.host);
            Err(format!("{host}: HTTP {status}"))
        }
    }
}
