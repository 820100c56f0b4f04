//! The one place that uses ureq: a single bounded request, no redirects.

use super::{Env, Failure, endpoint, var};
use std::sync::OnceLock;
use std::time::Duration;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, AsSendBody, Proxy, http};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const USER_AGENT: &str = concat!("autoscaler/", env!("CARGO_PKG_VERSION"));

/// Agents that keep their connections. TLS is set up by the first https request.
#[derive(Default)]
pub struct Http {
    direct: OnceLock<Agent>,
    proxied: OnceLock<Agent>,
    roots: Vec<Certificate<'static>>,
}

/// One request.
pub struct Call<'a> {
    pub method: &'a str,
    pub url: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
    /// For the whole of it, the answer's body included.
    pub timeout: Duration,
    /// The longest body taken, in bytes.
    pub limit: usize,
}

/// An answer, whatever its status.
pub struct Answer {
    pub status: u16,
    /// The `Date` header, unless the answer came out of a cache (`Age`).
    pub date: Option<String>,
    pub body: Vec<u8>,
}

/// No (complete) answer.
pub enum Lost {
    Timeout(String),
    Broken(String),
    /// It can't get any better by trying again.
    Hopeless(String),
}

impl Lost {
    pub fn text(&self) -> &str {
        let (Lost::Timeout(text) | Lost::Broken(text) | Lost::Hopeless(text)) = self;
        text
    }
}

impl Http {
    /// `ca_bundle` is a PEM file that replaces the built-in roots; empty keeps them.
    pub fn new(ca_bundle: &str) -> Result<Http, Failure> {
        let mut roots = Vec::new();
        if !ca_bundle.is_empty() {
            let bad = |what: &str| Failure::Config(format!("CA bundle {ca_bundle}: {what}"));
            let pem = std::fs::read(ca_bundle).map_err(|e| bad(&e.to_string()))?;
            for item in parse_pem(&pem) {
                match item {
                    Ok(PemItem::Certificate(certificate)) => roots.push(certificate),
                    Ok(_) => {}
                    Err(e) => return Err(bad(&e.to_string())),
                }
            }
            if roots.is_empty() {
                return Err(bad("no certificate in it"));
            }
        }
        Ok(Http {
            roots,
            ..Http::default()
        })
    }

    /// Sends `call` past any proxy.
    pub fn direct(&self, call: &Call) -> Result<Answer, Lost> {
        self.send(self.direct.get_or_init(|| self.agent(None)), call)
    }

    /// Sends `call` through the proxy that the environment names for its scheme.
    pub fn by_environment(&self, call: &Call, env: &Env) -> Result<Answer, Lost> {
        let Some((name, url)) = proxy_for(call.url, env) else {
            return self.direct(call);
        };
        // The URL may hold a password, so errors name the variable alone.
        let proxy = Proxy::new(&url).map_err(|_| Lost::Hopeless(format!("{name}: no proxy's URL")))?;
        self.send(self.proxied.get_or_init(|| self.agent(Some(proxy))), call)
    }

    fn agent(&self, proxy: Option<Proxy>) -> Agent {
        let mut tls = TlsConfig::builder();
        if !self.roots.is_empty() {
            tls = tls.root_certs(RootCerts::new_with_certs(&self.roots));
        }
        Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(proxy)
            .tls_config(tls.build())
            .user_agent(USER_AGENT)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .input_buffer_size(16 << 10)
            .output_buffer_size(16 << 10)
            .build()
            .new_agent()
    }

    fn send(&self, agent: &Agent, call: &Call) -> Result<Answer, Lost> {
        let mut request = http::Request::builder().method(call.method).uri(call.url);
        for (name, value) in call.headers {
            request = request.header(*name, *value);
        }
        // A GET that had a body, if an empty one, would say so.
        let (mut none, mut body) = ((), call.body);
        let body = match call.method {
            "GET" => none.as_body(),
            _ => body.as_body(),
        };
        let answer = request.body(body).map_err(ureq::Error::Http).and_then(|request| {
            let request = agent.configure_request(request);
            agent.run(request.timeout_global(Some(call.timeout)).build())
        });
        let mut answer = answer.map_err(|e| lost(call, e))?;
        let header = |name| {
            let value = answer.headers().get(name)?;
            Some(value.to_str().ok()?.to_string())
        };
        let date = header("date").filter(|_| header("age").is_none());
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(call.limit as u64);
        let body = body.read_to_vec().map_err(|e| lost(call, e))?;
        Ok(Answer { status, date, body })
    }
}

fn lost(call: &Call, error: ureq::Error) -> Lost {
    let host = endpoint::split(call.url).map_or_else(|_| String::new(), |parts| parts.host);
    let text = error.to_string();
    match error {
        ureq::Error::Timeout(_) => Lost::Timeout(format!("{host}: no answer in time")),
        ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::TimedOut => {
            Lost::Timeout(format!("{host}: no answer in time"))
        }
        ureq::Error::Http(_) | ureq::Error::BadUri(_) => {
            Lost::Hopeless(format!("{host}: a URL or header that can't be sent"))
        }
        _ if text.contains("peer certificate") => {
            let step = if text.contains("NotValidYet") || text.contains("Expired") {
                "check this machine's clock"
            } else if text.contains("NotValidForName") || text.contains("not valid for name") {
                "use a name in endpoint_url that the certificate has"
            } else {
                "name the CA in ca_bundle or AWS_CA_BUNDLE"
            };
            Lost::Hopeless(format!("{host}: {text}; {step}"))
        }
        // No password or no permission, and the same next time.
        ureq::Error::ConnectProxyFailed(_) if text.contains("responded 4") => Lost::Hopeless(format!(
            "{host}: {text}; see to the user and password in HTTPS_PROXY, or name the host in NO_PROXY"
        )),
        _ => Lost::Broken(format!("{host}: {text}")),
    }
}

/// The variable and value of the proxy for `url`, if any. As in the AWS CLI: the
/// one of the URL's scheme, lower case before upper, and neither for NO_PROXY.
fn proxy_for(url: &str, env: &Env) -> Option<(&'static str, String)> {
    let target = endpoint::split(url).ok()?;
    let either = |lower, upper| {
        let found = [lower, upper].map(|name| (name, var(env, name)));
        found.into_iter().find(|(_, value)| !value.is_empty())
    };
    let (name, proxy) = match target.https {
        true => either("https_proxy", "HTTPS_PROXY")?,
        false => either("http_proxy", "HTTP_PROXY")?,
    };
    let exempt = either("no_proxy", "NO_PROXY").map_or(String::new(), |found| found.1);
    (!bypasses(&target.host, &exempt)).then_some((name, proxy))
}

/// True if `no_proxy`, a comma list, names `host` (which may have a port), one of
/// its parent domains, or `*`.
fn bypasses(host: &str, no_proxy: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let bare = match host.rsplit_once(':') {
        Some((bare, port)) if port.bytes().all(|b| b.is_ascii_digit()) => bare,
        _ => &host,
    };
    let bare = bare.trim_matches(['[', ']']);
    no_proxy.split(',').any(|entry| {
        let entry = entry.trim().to_ascii_lowercase();
        let domain = entry.trim_start_matches('*').trim_start_matches('.');
        match domain {
            "" => entry == "*",
            _ => host == domain || bare == domain || bare.ends_with(&format!(".{domain}")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_as_others_read_it() {
        for (list, bypassed) in [
            ("", false),
            ("*", true),
            ("amazonaws.com", true),
            (".amazonaws.com", true),
            ("localhost, *.amazonaws.com", true),
            ("EC2.us-east-1.amazonaws.com", true),
            ("ec2.us-east-1.amazonaws.com:443", false),
            ("naws.com", false),
            (",", false),
        ] {
            assert_eq!(bypasses("ec2.us-east-1.amazonaws.com", list), bypassed, "{list}");
        }
        assert!(bypasses("127.0.0.1:5000", "127.0.0.1"));
        assert!(bypasses("127.0.0.1:5000", "127.0.0.1:5000"));
        assert!(bypasses("[::1]:5000", "::1"));
    }

    #[test]
    fn the_scheme_picks_the_proxy() {
        let env: Env = std::sync::Arc::new(|name| match name {
            "HTTPS_PROXY" => Some("http://upper:1".to_string()),
            "https_proxy" => Some("http://lower:1".to_string()),
            "NO_PROXY" => Some("exempt".to_string()),
            _ => None,
        });
        let lower = Some(("https_proxy", "http://lower:1".to_string()));
        assert_eq!(proxy_for("https://a/", &env), lower);
        assert_eq!(proxy_for("http://a/", &env), None);
        assert_eq!(proxy_for("https://exempt:8443/", &env), None);
    }
}
