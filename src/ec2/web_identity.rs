//! Credentials for a token that somebody else vouches for, such as Kubernetes for a service account:
//! AssumeRoleWithWebIdentity, which is not signed.

use super::query::Target;
use super::role::SESSION;
use super::xml::Element;
use super::{Env, Failure, first_set, sts, var};

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

    /// The `Credentials` that STS gives for the token.
    pub fn fetch(&self, env: &Env, sts: &Target) -> Result<Element, Failure> {
        let file = &self.token_file;
        let bad = |what: String| Failure::Config(format!("web identity token {file}: {what}"));
        let token = std::fs::read_to_string(file).map_err(|e| bad(e.to_string()))?;
        let params = [
            ("RoleArn", self.role.as_str()),
            ("RoleSessionName", first_set([&self.session, SESSION])),
            ("WebIdentityToken", token.trim()),
        ]
        .map(|(name, value)| (name.to_string(), value.to_string()));
        sts::credentials(sts, env, "AssumeRoleWithWebIdentity", &params, None)
    }
}
