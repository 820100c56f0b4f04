//! The Query protocol of AWS: a request's body, and how it is sent.

use super::Env;
use super::credentials::Keys;
use super::endpoint::{Endpoint, Service};
use super::http::{Answer, Call, Http, Lost};
use super::sigv4::{self, encode};
use std::time::Duration;

/// A service, and how it is reached.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    pub service: Service,
    pub http: &'a Http,
    pub at: &'a Endpoint,
    pub region: &'a str,
}

/// Who signs, and when in unix seconds.
#[derive(Clone, Copy)]
pub struct Signer<'a> {
    pub keys: &'a Keys,
    pub now: u64,
}

impl Target<'_> {
    /// Posts `body` once, unsigned without a `signer`. `timeout` is for the whole of it, `limit` the
    /// longest answer taken, in bytes.
    pub fn post(
        &self,
        env: &Env,
        body: &str,
        signer: Option<Signer>,
        timeout: Duration,
        limit: usize,
    ) -> Result<Answer, Lost> {
        const CONTENT_TYPE: &str = "application/x-www-form-urlencoded; charset=utf-8";
        let mut headers = vec![("host", self.at.host.as_str()), ("content-type", CONTENT_TYPE)];
        let request = sigv4::Request {
            method: "POST",
            path: &self.at.path,
            query: &[],
            headers: &headers,
            body: body.as_bytes(),
        };
        let scope = (self.region, self.service.name());
        let signature = signer.map(|Signer { keys, now }| {
            sigv4::sign(
                &request,
                &keys.access_key,
                &keys.secret_key,
                &keys.token,
                scope,
                now,
            )
        });
        let added = signature.unwrap_or_default();
        headers.extend(added.iter().map(|(name, value)| (*name, value.as_str())));
        let call = Call {
            method: "POST",
            url: &self.at.url,
            headers: &headers,
            body: body.as_bytes(),
            timeout,
            limit,
        };
        self.http.by_environment(&call, env)
    }
}

/// `text` as it stands in a body: all but RFC 3986's unreserved characters
/// percent-encoded (a space is `%20`).
pub fn form_encode(text: &str) -> String {
    encode(text, b"")
}

/// `Action=..&Version=..&..` as `application/x-www-form-urlencoded`. EC2 takes
/// parameters in any order; they are kept as given.
pub fn body(action: &str, version: &str, params: &[(String, String)]) -> String {
    let mut out = format!("Action={}&Version={}", form_encode(action), form_encode(version));
    for (name, value) in params {
        out.push('&');
        out.push_str(&form_encode(name));
        out.push('=');
        out.push_str(&form_encode(value));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_all_but_unreserved() {
        let params = [
            ("Filter.1.Name".to_string(), "tag:autoscaler:cluster".to_string()),
            ("UserData".to_string(), "a+b/c==".to_string()),
            ("X".to_string(), "é &~-._".to_string()),
        ];
        assert_eq!(
            body("DescribeInstances", "2016-11-15", &params),
            "Action=DescribeInstances&Version=2016-11-15&Filter.1.Name=tag%3Aautoscaler%3Acluster\
             &UserData=a%2Bb%2Fc%3D%3D&X=%C3%A9%20%26~-._"
        );
    }
}
