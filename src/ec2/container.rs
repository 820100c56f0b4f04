//! Credentials of a container: an address in the environment answers with JSON.

use super::http::{Call, Http, Lost};
use super::{Env, Failure, endpoint, var};
use crate::core::text::json;
use crate::core::text::value::Value;
use std::net::IpAddr;
use std::time::Duration;

const RELATIVE_BASE: &str = "http://169.254.170.2";

/// The address that the environment names, and its document. None if it names none.
pub fn fetch(env: &Env, http: &Http) -> Result<Option<(String, Value)>, Failure> {
    let relative = var(env, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    let full = var(env, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
    let url = match (relative.as_str(), full) {
        ("", full) if full.is_empty() => return Ok(None),
        ("", full) if allowed(&full) => full,
        ("", _) => {
            return Err(Failure::Config(
                "AWS_CONTAINER_CREDENTIALS_FULL_URI: must be https, or loopback, or the container \
                 services' address"
                    .to_string(),
            ));
        }
        (path, _) => format!("{RELATIVE_BASE}/{}", path.trim_start_matches('/')),
    };
    let token = token(env)?;
    let headers = [("authorization", token.as_str()), ("accept", "application/json")];
    let call = Call {
        method: "GET",
        url: &url,
        headers: if token.is_empty() { &headers[1..] } else { &headers },
        body: b"",
        timeout: Duration::from_secs(2),
        limit: 64 << 10,
    };
    let answer = http.direct(&call).map_err(|lost| match lost {
        Lost::Hopeless(what) => Failure::Config(what),
        other => Failure::Unavailable {
            cause: format!("container credentials {}", other.text()),
        },
    })?;
    let document = std::str::from_utf8(&answer.body)
        .ok()
        .and_then(|text| json::parse(text).ok());
    match (answer.status, document) {
        (200, Some(document)) => Ok(Some((url, document))),
        (401 | 403, _) => Err(Failure::Credentials {
            code: "ContainerCredentials".to_string(),
            message: format!("{url} answered HTTP {}", answer.status),
            action: None,
        }),
        (status, _) => Err(Failure::Unavailable {
            cause: format!("container credentials {url}: HTTP {status} without credentials"),
        }),
    }
}

/// The file is read anew each time: its token is rotated.
fn token(env: &Env) -> Result<String, Failure> {
    let file = var(env, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    let token = match file.as_str() {
        "" => var(env, "AWS_CONTAINER_AUTHORIZATION_TOKEN"),
        path => std::fs::read_to_string(path).map_err(|e| Failure::Config(format!("{path}: {e}")))?,
    };
    let token = token.trim();
    match token.contains(['\r', '\n']) {
        true => Err(Failure::Config(
            "container authorization token: more than one line".to_string(),
        )),
        false => Ok(token.to_string()),
    }
}

/// Anything by https; by http only this host and the container services, so that
/// a token doesn't travel in the clear.
fn allowed(url: &str) -> bool {
    let Ok(parts) = endpoint::split(url) else {
        return false;
    };
    let host = match parts.host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => &parts.host,
    };
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let service = ["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"].contains(&host);
    parts.https || service || host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_near_hosts() {
        for url in [
            "https://example.com/x",
            "http://localhost:1/x",
            "http://127.0.0.2/x",
            "http://[::1]:8080/x",
            "http://169.254.170.2/x",
            "http://169.254.170.23/x",
            "http://[fd00:ec2::23]/x",
        ] {
            assert!(allowed(url), "{url}");
        }
        for url in [
            "http://example.com/",
            "http://169.254.169.254/",
            "http://127.0.0.1.example/",
            "x",
        ] {
            assert!(!allowed(url), "{url}");
        }
    }
}
