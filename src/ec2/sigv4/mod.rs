//! AWS Signature Version 4, one file per stage: the canonical request, the
//! string to sign, the signature. In scope: signing by the `Authorization`
//! header, any method, path, query, headers and body. Out of scope: S3's path
//! rules, chunked and presigned requests.
//!
//! Nothing here reads a clock, a file or the network: the time is an argument.

mod canonical;
mod signature;
mod string_to_sign;

use super::clock;
use crate::core::protocol::auth::hex;
use sha2::{Digest, Sha256};

pub use canonical::{canonical_request, encode, signed_headers};
pub use signature::{authorization, signature};
pub use string_to_sign::{Scope, string_to_sign};

/// What is to be signed.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Upper case.
    pub method: &'a str,
    /// As it goes over the wire, from the first `/`, without the query.
    pub path: &'a str,
    /// Names and values before encoding.
    pub query: &'a [(&'a str, &'a str)],
    /// Every header that is to be signed; must hold `host`.
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
}

/// Signs `request` at `now` (unix seconds). Returns the headers to add to it:
/// `x-amz-date`, `x-amz-security-token` unless `token` is empty, `authorization`.
pub fn sign(
    request: &Request,
    access_key: &str,
    secret_key: &str,
    token: &str,
    (region, service): (&str, &str),
    now: u64,
) -> Vec<(&'static str, String)> {
    let amz_date = clock::amz_date(now);
    let mut headers = request.headers.to_vec();
    headers.push(("x-amz-date", &amz_date));
    if !token.is_empty() {
        headers.push(("x-amz-security-token", token));
    }
    let whole = Request {
        headers: &headers,
        ..*request
    };
    let scope = Scope {
        date: &amz_date[..8],
        region,
        service,
    };
    let text = string_to_sign(&amz_date, &scope, &canonical_request(&whole));
    let value = authorization(
        access_key,
        &scope,
        &signed_headers(&headers),
        &signature(secret_key, &scope, &text),
    );
    let mut added = vec![("x-amz-date", amz_date), ("authorization", value)];
    if !token.is_empty() {
        added.push(("x-amz-security-token", token.to_string()));
    }
    added
}

/// SHA-256 of `bytes` in lower-case hex.
fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub const KEY: &str = "AKIDEXAMPLE";
    pub const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const TOKEN: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";
    const NOW: u64 = 1_440_938_160; // 2015-08-30T12:36:00Z

    fn signed(
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        extra: &[(&str, &str)],
        body: &str,
        token: &str,
    ) -> String {
        let mut headers = vec![("Host", "example.amazonaws.com")];
        headers.extend(extra);
        let request = Request {
            method,
            path,
            query,
            headers: &headers,
            body: body.as_bytes(),
        };
        let added = sign(&request, KEY, SECRET, token, ("us-east-1", "service"), NOW);
        let value = &added.iter().find(|h| h.0 == "authorization").unwrap().1;
        value.rsplit_once("Signature=").unwrap().1.to_string()
    }

    /// Names and signatures of aws-sig-v4-test-suite.
    #[test]
    fn published_vectors_hold() {
        let form = ("Content-Type", "application/x-www-form-urlencoded");
        let cases: [(&str, String); 11] = [
            (
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31", // get-vanilla
                signed("GET", "/", &[], &[], "", ""),
            ),
            (
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500", // get-vanilla-query-order-key-case
                signed(
                    "GET",
                    "/",
                    &[("Param2", "value2"), ("Param1", "value1")],
                    &[],
                    "",
                    "",
                ),
            ),
            (
                "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04", // get-vanilla-utf8-query
                signed("GET", "/", &[("ሴ", "bar")], &[], "", ""),
            ),
            (
                "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85", // get-utf8
                signed("GET", "/ሴ", &[], &[], "", ""),
            ),
            (
                "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741", // get-space
                signed("GET", "/example space/", &[], &[], "", ""),
            ),
            (
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31", // get-relative-relative
                signed("GET", "/example1/example2/../..", &[], &[], "", ""),
            ),
            (
                "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84", // get-slashes
                signed("GET", "//example//", &[], &[], "", ""),
            ),
            (
                "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736", // get-header-value-trim
                signed(
                    "GET",
                    "/",
                    &[],
                    &[("My-Header1", " value1"), ("My-Header2", " \"a   b   c\"")],
                    "",
                    "",
                ),
            ),
            (
                "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea", // get-header-key-duplicate
                signed(
                    "GET",
                    "/",
                    &[],
                    &[
                        ("My-Header1", "value2"),
                        ("My-Header1", "value2"),
                        ("My-Header1", "value1"),
                    ],
                    "",
                    "",
                ),
            ),
            (
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a", // post-x-www-form-urlencoded
                signed("POST", "/", &[], &[form], "Param1=value1", ""),
            ),
            (
                "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead", // post-sts-header-before
                signed("POST", "/", &[], &[], "", TOKEN),
            ),
        ];
        for (index, (expected, got)) in cases.iter().enumerate() {
            assert_eq!(expected, got, "case {index}");
        }
    }

    /// post-sts-header-after: a token that is added later isn't signed.
    #[test]
    fn token_added_after_signing_changes_nothing() {
        assert_eq!(
            signed("POST", "/", &[], &[], "", ""),
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
        );
    }

    #[test]
    fn headers_to_add_are_complete() {
        let request = Request {
            method: "GET",
            path: "/",
            query: &[],
            headers: &[("host", "h")],
            body: b"",
        };
        let added = sign(&request, KEY, SECRET, "T", ("r", "s"), NOW);
        assert_eq!(added[0], ("x-amz-date", "20150830T123600Z".to_string()));
        assert!(added[1].1.starts_with(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/r/s/aws4_request, \
             SignedHeaders=host;x-amz-date;x-amz-security-token, Signature="
        ));
        assert_eq!(added[2], ("x-amz-security-token", "T".to_string()));
    }
}
