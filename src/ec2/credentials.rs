//! Where credentials come from: settings, environment, a web identity, shared files,
//! container, instance role, in this order; and how long they are kept.

use super::imds::Imds;
use super::profile::{self, Files, Profile};
use super::query::{Signer, Target};
use super::role::{Role, Source};
use super::shared_files::Section;
use super::web_identity::WebIdentity;
use super::xml::Element;
use super::{Env, Failure, Settings, clock, container, first_set, process, sts, var};
use crate::core::text::value::Value;
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Fetch new ones this long before the old ones run out (seconds), or after half of their time if
/// they are good for less than twice as long.
const REFRESH_BEFORE: u64 = 15 * 60;
/// Between two fetches when the first failed, or brought what has run out.
const PAUSE: Duration = Duration::from_secs(60);

/// What to sign with. `Debug` shows no secret.
#[derive(Clone)]
pub struct Keys {
    pub access_key: String,
    pub secret_key: String,
    /// Empty for long-term credentials.
    pub token: String,
    /// Unix seconds.
    pub expires: Option<u64>,
    /// Where they come from, for people.
    pub source: String,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Keys")
            .field("access_key", &self.access_key)
            .field("expires", &self.expires)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// The chain, with what it found last.
pub struct Provider {
    pub settings: Settings,
    pub env: Env,
    pub imds: Imds,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    keys: Option<Keys>,
    /// Seconds before `keys` run out at which new ones are fetched.
    margin: u64,
    tried: Vec<String>,
    not_before: Option<Instant>,
}

impl Provider {
    /// Opens nothing.
    pub fn new(settings: Settings, env: Env, imds: Imds) -> Provider {
        Provider {
            settings,
            env,
            imds,
            cache: Mutex::default(),
        }
    }

    /// Credentials that are good at `now` (unix seconds), from the cache if they last.
    pub fn keys(&self, now: u64, sts: &Target) -> Result<Keys, Failure> {
        let mut cache = self.lock();
        let pausing = cache.not_before.is_some_and(|at| Instant::now() < at);
        let lasts = |keys: &Keys, margin| keys.expires.is_none_or(|at| now + margin < at);
        if let Some(keys) = &cache.keys
            && (lasts(keys, cache.margin) || pausing)
        {
            return Ok(keys.clone());
        }
        let mut tried = Vec::new();
        let found = self.find(&mut tried, sts, now);
        cache.tried = tried;
        cache.not_before = None;
        match found {
            Ok(keys) => {
                let left = keys.expires.map_or(u64::MAX, |at| at.saturating_sub(now));
                cache.margin = REFRESH_BEFORE.min(left / 2);
                // Ours may be the clock that is wrong, so they are used all the same.
                if left == 0 {
                    cache.not_before = Some(Instant::now() + PAUSE);
                }
                cache.keys = Some(keys.clone());
                Ok(keys)
            }
            Err(failure) => match &cache.keys {
                Some(old) if lasts(old, 0) => {
                    let old = old.clone();
                    cache.not_before = Some(Instant::now() + PAUSE);
                    Ok(old)
                }
                _ => Err(failure),
            },
        }
    }

    /// Drops what EC2 has called expired, so that the next call fetches anew.
    pub fn forget(&self) {
        *self.lock() = Cache::default();
    }

    /// The places that the last search passed by, in order, each with the reason.
    pub fn tried(&self) -> Vec<String> {
        self.lock().tried.clone()
    }

    fn find(&self, tried: &mut Vec<String>, sts: &Target, now: u64) -> Result<Keys, Failure> {
        let set = &self.settings;
        if !set.access_key.is_empty() {
            let place = "[aws] of the configuration";
            return keys(&set.access_key, &set.secret_key, &set.session_token, place);
        }
        tried.push("[aws] of the configuration: empty".to_string());
        if set.profile.is_some() {
            tried.push("AWS_ACCESS_KEY_ID: passed over for the profile".to_string());
        } else if let Some(keys) = self.in_environment()? {
            return Ok(keys);
        } else {
            tried.push("AWS_ACCESS_KEY_ID: unset".to_string());
            if let Some(identity) = WebIdentity::of_env(&self.env)? {
                return self.of_web_identity(&identity, sts);
            }
            tried.push("AWS_WEB_IDENTITY_TOKEN_FILE: unset".to_string());
        }
        let profile = Profile::load(set, &self.env)?;
        if profile.named && profile.files.profile(&profile.name).is_none() {
            return Err(profile.files.missing(&profile.name));
        }
        let mut names = Vec::new();
        if let Some(keys) = self.of_profile(&profile.files, &profile.name, &mut names, sts, now)? {
            return Ok(keys);
        }
        tried.extend(profile.files.passed_over(&profile.name));
        if let Some(keys) = self.of_container(sts)? {
            return Ok(keys);
        }
        tried.push("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, _FULL_URI: unset".to_string());
        match self.imds.role() {
            Ok(Some((role, document))) => {
                return served(&document, &format!("instance role {role}"));
            }
            Ok(None) => tried.push("instance role: this instance has none".to_string()),
            Err(none) if none.is_trouble() => return Err(none.into()),
            Err(none) => tried.push(none.cause),
        }
        Err(Failure::Credentials {
            code: "NoCredentials".to_string(),
            message: tried.join(", "),
            action: None,
        })
    }

    fn in_environment(&self) -> Result<Option<Keys>, Failure> {
        let of = |name| var(&self.env, name);
        let access = of("AWS_ACCESS_KEY_ID");
        if access.is_empty() {
            return Ok(None);
        }
        // The second name is of the older tools, and goes first in the AWS CLI.
        let (older, token) = (of("AWS_SECURITY_TOKEN"), of("AWS_SESSION_TOKEN"));
        let (secret, token) = (of("AWS_SECRET_ACCESS_KEY"), first_set([&older, &token]));
        let mut keys = keys(&access, &secret, token, "AWS_ACCESS_KEY_ID")?;
        keys.expires = clock::iso_date(&of("AWS_CREDENTIAL_EXPIRATION"));
        Ok(Some(keys))
    }

    fn of_container(&self, sts: &Target) -> Result<Option<Keys>, Failure> {
        let found = container::fetch(&self.env, sts.http)?;
        let found = found.map(|(url, document)| served(&document, &format!("container credentials {url}")));
        found.transpose()
    }

    /// The credentials of a role, for a token.
    fn of_web_identity(&self, identity: &WebIdentity, sts: &Target) -> Result<Keys, Failure> {
        let document = identity.fetch(&self.env, sts)?;
        assumed(&document, &format!("web identity {}", identity.role))
    }

    /// The credentials that the profile `name` stands for; None if it says nothing of any. `above`:
    /// the profiles whose source it is.
    fn of_profile(
        &self,
        files: &Files,
        name: &str,
        above: &mut Vec<String>,
        sts: &Target,
        now: u64,
    ) -> Result<Option<Keys>, Failure> {
        let section = files.profile(name).ok_or(()).or_else(|()| match above.last() {
            None => Ok(Section::default()),
            Some(_) => Err(files.missing(name)),
        })?;
        // Keys of its own, when it is a source: it may be the source of itself.
        let has_keys = ["aws_access_key_id", "aws_secret_access_key"]
            .iter()
            .any(|key| !section.get(key).is_empty());
        if above.is_empty() || !has_keys {
            if above.iter().any(|known| known == name) {
                return Err(profile::wrong(name, "source_profile: goes in a circle"));
            }
            if let Some(role) = Role::of(&section, name)? {
                above.push(name.to_string());
                return self.of_role(&role, files, above, sts, now).map(Some);
            }
        }
        let setting = |key| section.get(key).to_string();
        if !section.get("role_arn").is_empty() && !section.get("web_identity_token_file").is_empty() {
            let identity = WebIdentity {
                role: setting("role_arn"),
                token_file: setting("web_identity_token_file"),
                session: setting("role_session_name"),
            };
            return self.of_web_identity(&identity, sts).map(Some);
        }
        profile::refuse_login(&section, name)?;
        let [in_credentials, in_config] = files.sections(name);
        if let Some(keys) = from_section(&in_credentials)? {
            return Ok(Some(keys));
        }
        let command = section.get("credential_process");
        if !command.is_empty() {
            let place = format!("credential_process of profile {name}");
            return process::fetch(command, &self.settings.variables, &place, now).map(Some);
        }
        from_section(&in_config)
    }

    /// The credentials of a role, for those of its source.
    fn of_role(
        &self,
        role: &Role,
        files: &Files,
        above: &mut Vec<String>,
        sts: &Target,
        now: u64,
    ) -> Result<Keys, Failure> {
        let name = above.last().cloned().unwrap_or_default();
        let (what, found) = match &role.source {
            Source::Profile(source) => (
                format!("source_profile {source}"),
                self.of_profile(files, source, above, sts, now)?,
            ),
            Source::Environment => ("credential_source Environment".into(), self.in_environment()?),
            Source::Container => ("credential_source EcsContainer".into(), self.of_container(sts)?),
            Source::Instance => {
                let found = self.imds.role()?;
                let keys = found.map(|(role, document)| served(&document, &format!("instance role {role}")));
                ("credential_source Ec2InstanceMetadata".into(), keys.transpose()?)
            }
        };
        let source = found.ok_or_else(|| profile::wrong(&name, format!("{what} has no credentials")))?;
        let signer = Signer { keys: &source, now };
        let document = sts::credentials(sts, &self.env, "AssumeRole", &role.params(), Some(signer))?;
        assumed(
            &document,
            &format!("role {} of profile {name}, by {}", role.arn, source.source),
        )
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn from_section((place, section): &(String, Option<&Section>)) -> Result<Option<Keys>, Failure> {
    let setting = |key| section.map_or("", |section| section.get(key));
    let token = first_set(["aws_security_token", "aws_session_token"].map(setting));
    match setting("aws_access_key_id") {
        "" => Ok(None),
        access => keys(access, setting("aws_secret_access_key"), token, place).map(Some),
    }
}

/// Keys from what `text` says under each name; `token` is that of the session's token. They say when
/// they run out.
fn temporary<'a>(
    text: impl Fn(&'static str) -> &'a str,
    token: &'static str,
    source: &str,
) -> Result<Keys, Failure> {
    let mut keys = keys(text("AccessKeyId"), text("SecretAccessKey"), text(token), source)?;
    keys.expires = clock::iso_date(text("Expiration"));
    Ok(keys)
}

/// Keys from the `Credentials` of STS.
fn assumed(document: &Element, source: &str) -> Result<Keys, Failure> {
    temporary(|name| document.text_at(&[name]), "SessionToken", source)
}

/// Keys from a credential service's document.
fn served(document: &Value, source: &str) -> Result<Keys, Failure> {
    temporary(|name| document.text(name), "Token", source)
}

/// Keys that can be sent. `source` names where they come from.
pub fn keys(access: &str, secret: &str, token: &str, source: &str) -> Result<Keys, Failure> {
    if access.is_empty() || secret.is_empty() {
        let half = if access.is_empty() {
            "access key"
        } else {
            "secret key"
        };
        return Err(Failure::Config(format!("{source}: the {half} is missing")));
    }
    // They go into headers; a stray blank or line end is a copying mistake.
    let plain = [access, secret, token]
        .iter()
        .all(|text| text.bytes().all(|b| b.is_ascii_graphic()));
    if !plain {
        return Err(Failure::Config(format!(
            "{source}: a key holds a blank or control character"
        )));
    }
    Ok(Keys {
        access_key: access.to_string(),
        secret_key: secret.to_string(),
        token: token.to_string(),
        expires: None,
        source: source.to_string(),
    })
}
