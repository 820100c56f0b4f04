//! One call: signed, sent, judged and, where that is safe, sent again.

use super::credentials::{Keys, Provider};
use super::http::Lost;
use super::query::{self, Signer};
use super::retry::{self, Budget, SKEW_THAT_MATTERS, Verdict};
use super::settings::Resolved;
use super::xml::Element;
use super::{Failure, Service};
use super::{clock, response, xml};
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// For one try, from connecting to the end of the answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// What came of one try.
struct Outcome {
    verdict: Verdict,
    code: String,
    message: String,
}

/// Takes one line per event.
pub type Hook = Box<dyn Fn(&str) + Send + Sync>;

/// What calls share: credentials, Region, connections, and EC2's clock.
pub struct Exchange {
    pub provider: Provider,
    resolved: Mutex<Option<Arc<Resolved>>>,
    /// Seconds to add to this machine's clock to get EC2's.
    skew: AtomicI64,
    pub hook: Option<Hook>,
}

impl Exchange {
    /// Opens nothing.
    pub fn new(provider: Provider) -> Exchange {
        Exchange {
            provider,
            resolved: Mutex::new(None),
            skew: AtomicI64::new(0),
            hook: None,
        }
    }

    /// EC2's time in unix seconds.
    pub fn now(&self) -> u64 {
        (unix_millis() / 1000).saturating_add_signed(self.skew())
    }

    /// Seconds to add to this machine's clock to get EC2's.
    pub fn skew(&self) -> i64 {
        self.skew.load(Ordering::Relaxed)
    }

    /// Region, endpoints and connections, found by the first call that succeeds in it.
    pub fn resolved(&self) -> Result<Arc<Resolved>, Failure> {
        let mut resolved = self
            .resolved
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        match &*resolved {
            Some(known) => Ok(known.clone()),
            None => {
                let found = Resolved::find(&self.provider)?;
                Ok(resolved.insert(Arc::new(found)).clone())
            }
        }
    }

    /// Sends until `read` accepts an answer, the verdict is final, or the budget is spent. What `read`
    /// made of the answer.
    pub fn execute<T>(
        &self,
        service: Service,
        action: &str,
        params: &[(String, String)],
        deadline: Instant,
        read: impl Fn(Element) -> Result<T, String>,
    ) -> Result<T, Failure> {
        let resolved = self.resolved()?;
        let body = query::body(action, service.version(), params);
        let mut budget = Budget::default();
        let (mut resigned, mut renewed) = (false, false);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::Unavailable {
                    cause: format!("{action}: the deadline has passed"),
                });
            }
            let keys = self.provider.keys(self.now(), &resolved.target(Service::Sts))?;
            let sent = self.send(&resolved, service, action, &body, &keys, left.min(CALL_TIMEOUT));
            let Outcome {
                verdict,
                code,
                message,
            } = match sent.and_then(|root| read(root).map_err(|what| unread(&what))) {
                Ok(found) => return Ok(found),
                Err(outcome) => outcome,
            };
            match verdict {
                Verdict::ClockSkew if !resigned => {
                    resigned = true;
                    continue;
                }
                Verdict::Expired if !renewed => {
                    renewed = true;
                    self.event(&format!("{code}, fetching new credentials"));
                    self.provider.forget();
                    continue;
                }
                Verdict::Throttled | Verdict::Transient => {}
                Verdict::NotFound if action == "TerminateInstances" => {}
                Verdict::Fatal if code == "Config" => return Err(Failure::Config(message)),
                _ => {
                    let action = retry::missing_action(&code, &message, service.name(), action);
                    return Err(Failure::of(verdict, &code, &message, action));
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(wait) = budget.spend(verdict, random(), left) else {
                let tries = budget.tries;
                let message = format!("{message} ({action}, tried {tries} times)");
                return Err(Failure::of(verdict, &code, &message, None));
            };
            let seconds = wait.as_secs_f64();
            self.event(&format!("{code}, trying again in {seconds:.1} s"));
            std::thread::sleep(wait);
        }
    }

    /// One try.
    fn send(
        &self,
        resolved: &Resolved,
        service: Service,
        action: &str,
        body: &str,
        keys: &Keys,
        timeout: Duration,
    ) -> Result<Element, Outcome> {
        let target = resolved.target(service);
        let used = self.skew();
        let sent = unix_millis();
        let signer = Some(Signer {
            keys,
            now: self.now(),
        });
        let answer = target.post(&self.provider.env, body, signer, timeout, xml::MAX_SIZE);
        let answer = answer.map_err(|lost| match lost {
            Lost::Hopeless(message) => outcome(Verdict::Fatal, "Config", message),
            Lost::Timeout(message) => outcome(Verdict::Transient, "Timeout", message),
            Lost::Broken(message) => outcome(Verdict::Transient, "NoAnswer", message),
        })?;
        self.learn_time(answer.date.as_deref(), sent);
        let root = xml::parse(&answer.body);
        if (200..300).contains(&answer.status) {
            let root = root.map_err(|what| unread(&what))?;
            // Anything else is the page of a proxy or portal in between.
            return match root.name.strip_suffix("Response") == Some(action) {
                true => Ok(root),
                false => Err(unread(&format!(
                    "{action} answered by <{}>",
                    response::one_line(&root.name)
                ))),
            };
        }
        let (code, message) = root
            .ok()
            .and_then(|root| response::error(&root))
            .unwrap_or_default();
        let verdict = retry::classify(answer.status, &code, self.skew() - used);
        Err(match code.is_empty() {
            true => outcome(
                verdict,
                &format!("HTTP {}", answer.status),
                format!("no error of EC2 from {}", target.at.host),
            ),
            false => outcome(verdict, &code, message),
        })
    }

    /// Takes over the server's clock from an answer's `Date`.
    fn learn_time(&self, date: Option<&str>, sent: u64) {
        let Some(skew) = date
            .and_then(clock::http_date)
            .and_then(|date| clock::skew(date, sent, unix_millis()))
        else {
            return;
        };
        let before = self.skew.swap(skew, Ordering::Relaxed);
        let matters = |skew: i64| skew.unsigned_abs() > SKEW_THAT_MATTERS;
        if matters(skew) && !matters(before) {
            let seconds = skew.unsigned_abs();
            self.event(&format!("this clock is {seconds} s off; signing by EC2's"));
        }
    }

    fn event(&self, line: &str) {
        if let Some(hook) = &self.hook {
            hook(&format!("ec2: {line}"));
        }
    }
}

fn outcome(verdict: Verdict, code: &str, message: String) -> Outcome {
    Outcome {
        verdict,
        code: code.to_string(),
        message,
    }
}

/// A success that can't be read: whatever it said, it may have been done.
fn unread(what: &str) -> Outcome {
    outcome(Verdict::Transient, "UnreadableAnswer", what.to_string())
}

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Good enough to spread retries: std seeds its hashers from the system's entropy.
fn random() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}
