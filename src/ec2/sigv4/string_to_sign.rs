//! SigV4, step 2: the string to sign.

use super::sha256_hex;

/// What a signing key is good for: a day, a Region and a service.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// `YYYYMMDD`, the day of `x-amz-date`.
    pub date: &'a str,
    pub region: &'a str,
    pub service: &'a str,
}

impl std::fmt::Display for Scope<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Scope {
            date,
            region,
            service,
        } = self;
        write!(f, "{date}/{region}/{service}/aws4_request")
    }
}

/// The string to sign, from `amz_date` (`YYYYMMDDTHHMMSSZ`) and the canonical
/// request of step 1.
pub fn string_to_sign(amz_date: &str, scope: &Scope, canonical_request: &str) -> String {
    let hash = sha256_hex(canonical_request.as_bytes());
    format!("AWS4-HMAC-SHA256\n{amz_date}\n{scope}\n{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn get_vanilla() {
        let scope = Scope {
            date: "20150830",
            region: "us-east-1",
            service: "service",
        };
        let canonical = "GET\n/\n\nhost:example.amazonaws.com\nx-amz-date:20150830T123600Z\n\n\
             host;x-amz-date\ne3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(
            string_to_sign("20150830T123600Z", &scope, canonical),
            "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/service/aws4_request\n\
             bb579772317eb040ac9ed261061d46c1f17a8133879d6129b6e1c25292927e63"
        );
    }
}
