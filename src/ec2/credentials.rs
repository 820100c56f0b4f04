//! Where credentials come from: settings, environment, a web identity, shared files,
//! container, instance role, in this order; and how long they are kept.

use super::endpoint::Endpoint;
use super::http::Http;
use super::imds::Imds;
use super::profile::{Profile, path};
use super::shared_files::Section;
use super::web_identity::WebIdentity;
use super::{Env, Failure, Settings, clock, container, var};
use crate::core::value::Value;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Fetch new ones this long before the old ones run out (seconds).
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
    settings: Arc<Settings>,
    env: Env,
    imds: Arc<Imds>,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    keys: Option<Keys>,
    tried: Vec<String>,
    not_before: Option<Instant>,
}

impl Provider {
    /// Opens nothing.
    pub fn new(settings: Arc<Settings>, env: Env, imds: Arc<Imds>) -> Provider {
        Provider {
            settings,
            env,
            imds,
            cache: Mutex::default(),
        }
    }

    /// Credentials that are good at `now` (unix seconds), from the cache if they last. `sts` is
    /// where STS answers.
    pub fn keys(&self, now: u64, http: &Http, sts: &Endpoint) -> Result<Keys, Failure> {
        let mut cache = self.lock();
        let pausing = cache.not_before.is_some_and(|at| Instant::now() < at);
        let lasts = |keys: &Keys, margin| keys.expires.is_none_or(|at| now + margin < at);
        if let Some(keys) = &cache.keys
            && (lasts(keys, REFRESH_BEFORE) || pausing)
        {
            return Ok(keys.clone());
        }
        let mut tried = Vec::new();
        let found = self.find(&mut tried, http, sts);
        cache.tried = tried;
        cache.not_before = None;
        match found {
            Ok(keys) => {
                // Ours may be the clock that is wrong, so they are used all the same.
                if !lasts(&keys, REFRESH_BEFORE) {
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

    fn find(&self, tried: &mut Vec<String>, http: &Http, sts: &Endpoint) -> Result<Keys, Failure> {
        let set = &self.settings;
        if !set.access_key.is_empty() {
            return keys(
                &set.access_key,
                &set.secret_key,
                &set.session_token,
                "[aws] of the configuration",
            );
        }
        tried.push("[aws] of the configuration: empty".to_string());
        let access = var(&self.env, "AWS_ACCESS_KEY_ID");
        if set.profile.is_some() {
            tried.push("AWS_ACCESS_KEY_ID: passed over for the profile".to_string());
        } else if !access.is_empty() {
            let secret = var(&self.env, "AWS_SECRET_ACCESS_KEY");
            let token = var(&self.env, "AWS_SESSION_TOKEN");
            return keys(&access, &secret, &token, "AWS_ACCESS_KEY_ID");
        } else {
            tried.push("AWS_ACCESS_KEY_ID: unset".to_string());
            if let Some(identity) = WebIdentity::of_env(&self.env)? {
                return self.assume(&identity, http, sts);
            }
            tried.push("AWS_WEB_IDENTITY_TOKEN_FILE: unset".to_string());
        }
        if let Some(keys) = self.in_files(tried, http, sts)? {
            return Ok(keys);
        }
        if let Some((url, document)) = container::fetch(&self.env, http)? {
            return temporary(&document, &format!("container credentials {url}"));
        }
        tried.push("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, _FULL_URI: unset".to_string());
        match self.imds.role() {
            Ok(Some((role, document))) => {
                return temporary(&document, &format!("instance role {role}"));
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

    /// The credentials of a role, for a token.
    fn assume(&self, identity: &WebIdentity, http: &Http, sts: &Endpoint) -> Result<Keys, Failure> {
        let document = identity.fetch(&self.env, http, sts)?;
        let text = |name| document.text_at(&[name]);
        let source = format!("web identity {}", identity.role);
        let mut keys = keys(
            text("AccessKeyId"),
            text("SecretAccessKey"),
            text("SessionToken"),
            &source,
        )?;
        keys.expires = clock::iso_date(text("Expiration"));
        Ok(keys)
    }

    fn in_files(
        &self,
        tried: &mut Vec<String>,
        http: &Http,
        sts: &Endpoint,
    ) -> Result<Option<Keys>, Failure> {
        let profile = Profile::load(&self.settings, &self.env)?;
        let files = [
            (
                "AWS_SHARED_CREDENTIALS_FILE",
                "~/.aws/credentials",
                &profile.credentials,
            ),
            ("AWS_CONFIG_FILE", "~/.aws/config", &profile.config),
        ];
        if profile.missing {
            return Err(Failure::Config(format!(
                "profile {} is in neither {} nor {}",
                profile.name,
                path(&self.env, files[0].0, files[0].1),
                path(&self.env, files[1].0, files[1].1)
            )));
        }
        for ((variable, default, section), note) in files.into_iter().zip(&profile.notes) {
            let place = format!("{} [{}]", path(&self.env, variable, default), profile.name);
            if let Some(keys) = from_section(section, &place)? {
                return Ok(Some(keys));
            }
            let setting = |key| section.get(key).to_string();
            let identity = WebIdentity {
                role: setting("role_arn"),
                token_file: setting("web_identity_token_file"),
                session: setting("role_session_name"),
            };
            if !identity.role.is_empty() && !identity.token_file.is_empty() {
                return self.assume(&identity, http, sts).map(Some);
            }
            let other = ["role_arn", "sso_session", "sso_start_url", "credential_process"]
                .into_iter()
                .find(|key| !section.get(key).is_empty());
            tried.push(match other {
                Some(key) => format!("{place}: {key} isn't supported"),
                None => format!("{place}: {note}"),
            });
        }
        Ok(None)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn from_section(section: &Section, place: &str) -> Result<Option<Keys>, Failure> {
    match section.get("aws_access_key_id") {
        "" => Ok(None),
        access => keys(
            access,
            section.get("aws_secret_access_key"),
            section.get("aws_session_token"),
            place,
        )
        .map(Some),
    }
}

/// Keys from a credential service's document, which says when they run out.
fn temporary(document: &Value, source: &str) -> Result<Keys, Failure> {
    let mut keys = keys(
        document.text("AccessKeyId"),
        document.text("SecretAccessKey"),
        document.text("Token"),
        source,
    )?;
    keys.expires = clock::iso_date(document.text("Expiration"));
    Ok(keys)
}

fn keys(access: &str, secret: &str, token: &str, source: &str) -> Result<Keys, Failure> {
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
