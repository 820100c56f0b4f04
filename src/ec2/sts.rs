//! A call of STS, which gives credentials for others (AWS STS API Reference 2011-06-15).

use super::http::Lost;
use super::query::{self, Signer, Target};
use super::retry::{self, Verdict};
use super::xml::Element;
use super::{Env, Failure, clock, response, xml};
use std::time::Duration;

const TRIES: u32 = 3;
const TRY_TIME: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 64 << 10;

/// The `Credentials` that `action` with `params` gives at `sts`; unsigned without a `signer`.
pub fn credentials(
    sts: &Target,
    env: &Env,
    action: &str,
    params: &[(String, String)],
    mut signer: Option<Signer>,
) -> Result<Element, Failure> {
    let body = query::body(action, sts.service.version(), params);
    let mut tries = 1;
    loop {
        let outcome = match once(sts, env, action, &body, signer) {
            Ok(found) => return Ok(found),
            Err(outcome) => outcome,
        };
        match (outcome, &mut signer) {
            // This clock is wrong: once more by that of STS.
            (Outcome::Skewed(now, _), Some(signer)) if signer.now != now && tries == 1 => signer.now = now,
            (Outcome::Skewed(_, failure), _) | (Outcome::Final(failure), _) => return Err(failure),
            (Outcome::Passing(failure), _) if tries == TRIES => return Err(failure),
            (Outcome::Passing(_), _) => {
                std::thread::sleep(retry::backoff(Verdict::Transient, tries, 250));
            }
        }
        tries += 1;
    }
}

fn once(
    sts: &Target,
    env: &Env,
    action: &str,
    body: &str,
    signer: Option<Signer>,
) -> Result<Element, Outcome> {
    let unavailable = |cause: &str| {
        Outcome::Passing(Failure::Unavailable {
            cause: format!("STS {action}: {cause}"),
        })
    };
    let answer = sts.post(env, body, signer, TRY_TIME, MAX_ANSWER);
    let answer = answer.map_err(|lost| match lost {
        Lost::Hopeless(what) => Outcome::Final(Failure::Config(what)),
        other => unavailable(other.text()),
    })?;
    // The document holds a secret, so no error may quote it.
    let root = xml::parse(&answer.body).unwrap_or_default();
    if answer.status == 200 {
        let found = root.find(&[&format!("{action}Result"), "Credentials"]);
        return found
            .cloned()
            .ok_or_else(|| unavailable("an answer without credentials"));
    }
    let (code, message) = response::error(&root).unwrap_or_default();
    let theirs = answer.date.as_deref().and_then(clock::http_date);
    let skew = signer.zip(theirs).map_or(0, |(signer, date)| {
        i64::try_from(date).unwrap_or(0) - i64::try_from(signer.now).unwrap_or(0)
    });
    let refused = || Failure::Credentials {
        action: retry::missing_action(&code, &message, "sts", action),
        code: code.clone(),
        message: format!("{message} (STS {action})"),
    };
    Err(match retry::classify(answer.status, &code, skew) {
        _ if code.is_empty() => unavailable(&format!("HTTP {}", answer.status)),
        Verdict::Throttled | Verdict::Transient => unavailable(&format!("{code}: {message}")),
        _ if code == "IDPCommunicationError" => unavailable(&format!("{code}: {message}")),
        Verdict::ClockSkew => Outcome::Skewed(theirs.unwrap_or(0), refused()),
        _ => Outcome::Final(refused()),
    })
}

/// Why there are no credentials.
enum Outcome {
    Final(Failure),
    /// It may be better next time.
    Passing(Failure),
    /// The signature's time is far from this one, of STS.
    Skewed(u64, Failure),
}
