//! The instance metadata service, version 2 only: a session token by PUT, then
//! GETs that carry it. Never through a proxy.

use super::http::{Answer, Call, Http, Lost};
use super::{Env, Failure, clock, endpoint, var};
use crate::core::text::json;
use crate::core::text::value::Value;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const DEFAULT_URL: &str = "http://169.254.169.254";
const IPV6_URL: &str = "http://[fd00:ec2::254]";
const TOKEN_SECONDS: u64 = 21_600;
const MAX_ANSWER: usize = 64 << 10;

/// The metadata service of the machine this runs on.
pub struct Imds {
    url: String,
    disabled: bool,
    timeout: Duration,
    attempts: u32,
    http: Http,
    token: Mutex<Option<(String, Instant)>>,
}

/// Why there is no metadata.
#[derive(Debug)]
pub struct NoMetadata {
    pub cause: String,
    pub lack: Lack,
}

/// What there is instead of metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// Switched off, or what answers is no metadata service: so it stays.
    Off,
    /// Nobody answers. This is no EC2 instance, or one whose service is slow just now.
    Silent,
    /// The service is there and may answer next time.
    Trouble,
}

impl NoMetadata {
    /// Is the service there, so that it may answer next time?
    pub fn is_trouble(&self) -> bool {
        self.lack == Lack::Trouble
    }
}

impl From<NoMetadata> for Failure {
    fn from(none: NoMetadata) -> Failure {
        Failure::Unavailable { cause: none.cause }
    }
}

/// What EC2 announces to a spot instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// It ends or stops the instance; `at`: Unix seconds, where it says.
    Interruption { at: Option<u64> },
    /// It is likely to, sooner than others.
    Rebalance,
}

impl Imds {
    /// `url` empty, or the default: AWS_EC2_METADATA_SERVICE_ENDPOINT, its _MODE
    /// (IPv6), or the default. Opens nothing.
    pub fn new(url: &str, env: &Env) -> Result<Imds, Failure> {
        let named = var(env, "AWS_EC2_METADATA_SERVICE_ENDPOINT");
        let mode = var(env, "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE");
        let url = match url.trim_end_matches('/') {
            "" | DEFAULT_URL if !named.is_empty() => named.trim_end_matches('/'),
            "" | DEFAULT_URL if mode.eq_ignore_ascii_case("ipv6") => IPV6_URL,
            "" => DEFAULT_URL,
            other => other,
        };
        endpoint::split(url).map_err(|what| Failure::Config(format!("metadata_url: {what}")))?;
        let number = |name| {
            var(env, name)
                .parse::<u32>()
                .ok()
                .filter(|n| (1..=60).contains(n))
        };
        let timeout = number("AWS_METADATA_SERVICE_TIMEOUT").unwrap_or(1);
        Ok(Imds {
            url: url.to_string(),
            disabled: var(env, "AWS_EC2_METADATA_DISABLED").eq_ignore_ascii_case("true"),
            timeout: Duration::from_secs(timeout.into()),
            attempts: number("AWS_METADATA_SERVICE_NUM_ATTEMPTS").unwrap_or(2),
            http: Http::default(),
            token: Mutex::new(None),
        })
    }

    /// What is at `path` below `/latest/`, such as `meta-data/spot/instance-action`.
    /// None if the service says that there is nothing.
    pub fn get(&self, path: &str) -> Result<Option<String>, NoMetadata> {
        let (token, was_cached) = self.session()?;
        let mut answer = self.get_with(path, &token)?;
        if answer.status == 401 && was_cached {
            *self.lock() = None;
            answer = self.get_with(path, &self.session()?.0)?;
        }
        match answer.status {
            200 => match String::from_utf8(answer.body) {
                Ok(text) => Ok(Some(text)),
                Err(_) => Err(self.none(format!("{path} is no text"), Lack::Trouble)),
            },
            404 => Ok(None),
            status => Err(self.none(format!("{path}: HTTP {status}"), of_status(status))),
        }
    }

    /// `placement/region`.
    pub fn region(&self) -> Result<Option<String>, NoMetadata> {
        self.line("meta-data/placement/region")
    }

    /// This machine's instance id.
    pub fn instance_id(&self) -> Result<Option<String>, NoMetadata> {
        self.line("meta-data/instance-id")
    }

    /// Is this a spot instance?
    pub fn is_spot(&self) -> Result<bool, NoMetadata> {
        Ok(self.line("meta-data/instance-life-cycle")?.as_deref() == Some("spot"))
    }

    /// What EC2 has announced to a spot instance, if anything (EC2 User Guide, "Spot Instance
    /// interruption notices" and "rebalance recommendations").
    pub fn notice(&self) -> Result<Option<Notice>, NoMetadata> {
        if let Some(text) = self.get("meta-data/spot/instance-action")? {
            let document = json::parse(&text).ok();
            let at = document.and_then(|document| clock::iso_date(document.text("time")));
            return Ok(Some(Notice::Interruption { at }));
        }
        let rebalance = self.get("meta-data/events/recommendations/rebalance")?;
        Ok(rebalance.map(|_| Notice::Rebalance))
    }

    /// The role's name and its credentials' document. None: the instance has no role.
    pub fn role(&self) -> Result<Option<(String, Value)>, NoMetadata> {
        const PATH: &str = "meta-data/iam/security-credentials/";
        let Some(role) = self.line(PATH)? else {
            return Ok(None);
        };
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b);
        if !role.bytes().all(fits) {
            return Err(self.none("the role's name is none".to_string(), Lack::Off));
        }
        let text = self.get(&format!("{PATH}{role}"))?.unwrap_or_default();
        // The document holds a secret, so no error may quote it.
        let Ok(document) = json::parse(&text) else {
            return Err(self.none(
                format!("the credentials of role {role} can't be read"),
                Lack::Trouble,
            ));
        };
        match document.text("Code") {
            "Success" => Ok(Some((role, document))),
            code => {
                let code: String = code
                    .chars()
                    .filter(char::is_ascii_alphanumeric)
                    .take(60)
                    .collect();
                Err(self.none(format!("role {role}: {code}"), Lack::Trouble))
            }
        }
    }

    /// The first line at `path`, trimmed; None if that is empty.
    fn line(&self, path: &str) -> Result<Option<String>, NoMetadata> {
        let text = self.get(path)?.unwrap_or_default();
        let line = text.lines().next().unwrap_or("").trim();
        Ok((!line.is_empty()).then(|| line.to_string()))
    }

    /// The session token, and whether it is one from an earlier call.
    fn session(&self) -> Result<(String, bool), NoMetadata> {
        if self.disabled {
            return Err(NoMetadata {
                cause: "instance metadata: off by AWS_EC2_METADATA_DISABLED".to_string(),
                lack: Lack::Off,
            });
        }
        let mut cached = self.lock();
        if let Some((token, until)) = &*cached
            && Instant::now() < *until
        {
            return Ok((token.clone(), true));
        }
        let ttl = TOKEN_SECONDS.to_string();
        let headers = [("x-aws-ec2-metadata-token-ttl-seconds", ttl.as_str())];
        let answer = self.send("PUT", "/latest/api/token", &headers).map_err(|lost| {
            match lost {
                // The answer may travel hop limit hops, 1 unless changed: a container
                // bridge loses it silently.
                Lost::Timeout(_) => self.none(
                    format!(
                        "no answer to the token request within {} s; in a container on EC2, raise the \
                     hop limit: aws ec2 modify-instance-metadata-options \
                     --http-put-response-hop-limit 2",
                        self.timeout.as_secs()
                    ),
                    Lack::Silent,
                ),
                other => self.none(other.text().to_string(), Lack::Silent),
            }
        })?;
        let token = String::from_utf8(answer.body).unwrap_or_default();
        match answer.status {
            200 if !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()) => {
                let until = Instant::now() + Duration::from_secs(TOKEN_SECONDS - 300);
                *cached = Some((token.clone(), until));
                Ok((token, false))
            }
            200 => Err(self.none("the token can't be read".to_string(), Lack::Trouble)),
            403 => Err(self.none(
                "switched off, or a proxy is in between (HTTP 403)".to_string(),
                Lack::Off,
            )),
            status => Err(self.none(format!("token request: HTTP {status}"), of_status(status))),
        }
    }

    fn get_with(&self, path: &str, token: &str) -> Result<Answer, NoMetadata> {
        let headers = [("x-aws-ec2-metadata-token", token)];
        self.send("GET", &format!("/latest/{path}"), &headers)
            .map_err(|lost| self.none(lost.text().to_string(), Lack::Trouble))
    }

    /// Tries again on a broken connection or a 5xx, not on a timeout.
    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Result<Answer, Lost> {
        let url = format!("{}{path}", self.url);
        let call = Call {
            method,
            url: &url,
            headers,
            body: b"",
            timeout: self.timeout,
            limit: MAX_ANSWER,
        };
        let mut attempt = 1;
        loop {
            let outcome = self.http.direct(&call);
            let again = match &outcome {
                Ok(answer) => answer.status >= 500,
                Err(lost) => matches!(lost, Lost::Broken(_)),
            };
            if !again || attempt >= self.attempts {
                return outcome;
            }
            attempt += 1;
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn none(&self, cause: String, lack: Lack) -> NoMetadata {
        NoMetadata {
            cause: format!("instance metadata {}: {cause}", self.url),
            lack,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(String, Instant)>> {
        self.token.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn of_status(status: u16) -> Lack {
    match status >= 500 {
        true => Lack::Trouble,
        false => Lack::Off,
    }
}
