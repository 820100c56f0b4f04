//! Credentials of a role that a profile names, for credentials of its source: AssumeRole, signed by
//! the source's (AWS SDKs and Tools Reference Guide, "Assume role credential provider").

use super::shared_files::Section;
use super::{Failure, first_set, profile};

/// How CloudTrail calls the session where nobody has named it.
pub const SESSION: &str = "autoscaler";

/// What a profile says of the role that it stands for.
pub struct Role {
    pub arn: String,
    pub source: Source,
    external_id: String,
    session: String,
    /// Seconds; none: what STS takes to be right.
    duration: Option<u32>,
}

/// Whose credentials sign for the role.
#[derive(Debug, PartialEq)]
pub enum Source {
    Profile(String),
    Environment,
    Instance,
    Container,
}

impl Role {
    /// Reads the section of the profile `name`; None where it names no role, or one by a web identity.
    pub fn of(section: &Section, name: &str) -> Result<Option<Role>, Failure> {
        let wrong = |what: String| Err(profile::wrong(name, what));
        let setting = |key| section.get(key).to_string();
        let arn = setting("role_arn");
        if arn.is_empty() || !section.get("web_identity_token_file").is_empty() {
            return Ok(None);
        }
        profile::refuse_mfa(section, name)?;
        let source = match (section.get("source_profile"), section.get("credential_source")) {
            ("", "") => return wrong("role_arn: source_profile or credential_source is missing".into()),
            (_, "") => Source::Profile(setting("source_profile")),
            ("", "Environment") => Source::Environment,
            ("", "Ec2InstanceMetadata") => Source::Instance,
            ("", "EcsContainer") => Source::Container,
            ("", other) => {
                return wrong(format!(
                    "credential_source: \"{}\" is none of Environment, Ec2InstanceMetadata, EcsContainer",
                    other.escape_debug()
                ));
            }
            _ => return wrong("source_profile and credential_source: one of them is enough".into()),
        };
        let duration = match section.get("duration_seconds") {
            "" => None,
            text => match text.parse() {
                Ok(seconds) => Some(seconds),
                Err(_) => {
                    return wrong(format!(
                        "duration_seconds: \"{}\" is no number",
                        text.escape_debug()
                    ));
                }
            },
        };
        Ok(Some(Role {
            arn,
            source,
            external_id: setting("external_id"),
            session: setting("role_session_name"),
            duration,
        }))
    }

    /// The parameters of AssumeRole.
    pub fn params(&self) -> Vec<(String, String)> {
        let duration = self.duration.map(|seconds| seconds.to_string());
        [
            ("RoleArn", self.arn.as_str()),
            ("RoleSessionName", first_set([&self.session, SESSION])),
            ("ExternalId", &self.external_id),
            ("DurationSeconds", duration.as_deref().unwrap_or_default()),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect()
    }
}
