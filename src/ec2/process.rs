//! Credentials that a program of the user's prints, `credential_process` of a profile (AWS SDKs and
//! Tools Reference Guide, "Process credential provider").

use super::credentials::{Keys, keys};
use super::{Failure, clock, response};
use crate::core::text::json;
use crate::core::text::value::Value;
use crate::core::text::words;
use crate::system::child;
use std::process::Command;
use std::time::Duration;

const TIME: Duration = Duration::from_secs(60);

/// Runs `command`, without a shell, with `variables` added to the environment. `place` names it.
pub fn fetch(command: &str, variables: &[(String, String)], place: &str, now: u64) -> Result<Keys, Failure> {
    let wrong = |what: &str| Failure::Config(format!("{place}: {what}"));
    let words = words::quoted(command).map_err(|what| wrong(&what))?;
    let (program, arguments) = words.split_first().ok_or_else(|| wrong("is empty"))?;
    let mut process = Command::new(program);
    process
        .args(arguments)
        .envs(variables.iter().map(|(name, value)| (name, value)));
    let done = child::run(&mut process, TIME).map_err(|what| wrong(&what))?;
    let said = response::one_line(&done.stderr);
    let refused = |what: &str| {
        let said = if said.is_empty() {
            String::new()
        } else {
            format!(": {said}")
        };
        Failure::Credentials {
            code: "CredentialProcess".to_string(),
            message: format!("{place}: {program} {what}{said}"),
            action: None,
        }
    };
    if !done.status.success() {
        return Err(refused(&format!("ended with {}", done.status)));
    }
    // What it prints is a secret, so no error may quote it.
    let document = json::parse(&done.stdout).map_err(|_| refused("did not print JSON"))?;
    let Value::Map(map) = &document else {
        return Err(refused("did not print a JSON object"));
    };
    if map.get("Version") != Some(&Value::Number("1".to_string())) {
        return Err(refused("did not print \"Version\": 1"));
    }
    let mut keys = keys(
        document.text("AccessKeyId"),
        document.text("SecretAccessKey"),
        document.text("SessionToken"),
        place,
    )?;
    if let Some(expiration) = map.get("Expiration").filter(|value| **value != Value::Null) {
        let Value::Text(text) = expiration else {
            return Err(refused("printed an Expiration that is no date"));
        };
        let at = clock::iso_date(text).ok_or_else(|| refused("printed an Expiration that is no date"))?;
        if at <= now {
            return Err(refused("printed credentials that have expired"));
        }
        keys.expires = Some(at);
    }
    Ok(keys)
}
