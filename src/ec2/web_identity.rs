//! Credentials for a token that somebody else vouches for, such as Kubernetes for a service account:
//! AssumeRoleWithWebIdentity, which is not signed (AWS STS API Reference 2011-06-15).

use super::endpoint::Endpoint;
use super::http::{Call, Http, Lost};
use super::retry::{self, Verdict};
use super::xml::Element;
use super::{Env, Failure, Service, query, response, var, xml};
use std::time::Duration;

const ACTION: &str = "AssumeRoleWithWebIdentity";
const TRIES: u32 = 3;

/// Which role, by which token.
pub struct WebIdentity {
    pub role: String,
    /// Read anew each time: its token is rotated.
    pub token_file: String,
    /// How CloudTrail calls the session.
    pub session: String,
}

impl WebIdentity {
    /// What the environment says; None if it says nothing.
    pub fn of_env(env: &Env) -> Result<Option<WebIdentity>, Failure> {
        let role = var(env, "AWS_ROLE_ARN");
        let token_file = var(env, "AWS_WEB_IDENTITY_TOKEN_FILE");
        match (role.is_empty(), token_file.is_empty()) {
            // Others use AWS_ROLE_ARN, too.
            (_, true) => Ok(None),
            (true, false) => Err(Failure::Config(
                "AWS_WEB_IDENTITY_TOKEN_FILE: AWS_ROLE_ARN is missing".to_string(),
            )),
            (false, false) => Ok(Some(WebIdentity {
                role,
                token_file,
                session: var(env, "AWS_ROLE_SESSION_NAME"),
            })),
        }
    }

    /// The `Credentials` that STS, at `sts`, gives for the token.
    pub fn fetch(&self, env: &Env, http: &Http, sts: &Endpoint) -> Result<Element, Failure> {
        let file = &self.token_file;
        let bad = |what: String| Failure::Config(format!("web identity token {file}: {what}"));
        let token = std::fs::read_to_string(file).map_err(|e| bad(e.to_string()))?;
        let session = match self.session.as_str() {
            "" => "autoscaler",
            name => name,
        };
        let params = [
            ("RoleArn", self.role.as_str()),
            ("RoleSessionName", session),
            ("WebIdentityToken", token.trim()),
        ]
        .map(|(name, value)| (name.to_string(), value.to_string()));
        let body = query::body(ACTION, Service::Sts.version(), &params);
        let call = Call {
            method: "POST",
            url: &sts.url,
            headers: &[("content-type", query::CONTENT_TYPE)],
            body: body.as_bytes(),
            timeout: Duration::from_secs(10),
            limit: 64 << 10,
        };
        let mut tries = 1;
        loop {
            let outcome = once(&call, env, http);
            if !matches!(outcome, Err(Failure::Unavailable { .. })) || tries == TRIES {
                return outcome;
            }
            std::thread::sleep(retry::backoff(Verdict::Transient, tries, 250));
            tries += 1;
        }
    }
}

fn once(call: &Call, env: &Env, http: &Http) -> Result<Element, Failure> {
    let unavailable = |cause: &str| Failure::Unavailable {
        cause: format!("STS {ACTION}: {cause}"),
    };
    let answer = http.by_environment(call, env).map_err(|lost| match lost {
        Lost::Hopeless(what) => Failure::Config(what),
        other => unavailable(other.text()),
    })?;
    // The document holds a secret, so no error may quote it.
    let root = xml::parse(&answer.body).unwrap_or_default();
    if answer.status == 200 {
        let found = root.find(&["AssumeRoleWithWebIdentityResult", "Credentials"]);
        return found
            .cloned()
            .ok_or_else(|| unavailable("an answer without credentials"));
    }
    let (code, message) = response::error(&root).unwrap_or_default();
    match retry::classify(answer.status, &code, 0) {
        _ if code.is_empty() => Err(unavailable(&format!("HTTP {}", answer.status))),
        Verdict::Throttled | Verdict::Transient => Err(unavailable(&format!("{code}: {message}"))),
        _ if code == "IDPCommunicationError" => Err(unavailable(&format!("{code}: {message}"))),
        _ => Err(Failure::Credentials {
            action: retry::missing_action(&code, &message, "sts", ACTION),
            code,
            message: format!("{message} (STS {ACTION})"),
        }),
    }
}
