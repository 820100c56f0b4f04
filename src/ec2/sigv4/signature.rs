//! SigV4, steps 3 and 4: the signature and the header that carries it.

use super::Scope;
use crate::core::protocol::auth::hex;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// The signature, in lower-case hex, of the string to sign of step 2.
pub fn signature(secret_key: &str, scope: &Scope, string_to_sign: &str) -> String {
    let start = format!("AWS4{secret_key}").into_bytes();
    let key = [scope.date, scope.region, scope.service, "aws4_request"]
        .iter()
        .fold(start, |key, part| hmac_sha256(&key, part.as_bytes()));
    hex(&hmac_sha256(&key, string_to_sign.as_bytes()))
}

/// The value of the `Authorization` header.
pub fn authorization(access_key: &str, scope: &Scope, signed_headers: &str, signature: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={signed_headers}, \
         Signature={signature}"
    )
}

fn hmac_sha256(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut mac =
        <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes a key of any length (RFC 2104)");
    mac.update(bytes);
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::super::tests::SECRET;
    use super::*;

    #[test]
    fn get_vanilla() {
        let scope = Scope {
            date: "20150830",
            region: "us-east-1",
            service: "service",
        };
        let text = "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/service/aws4_request\n\
             bb579772317eb040ac9ed261061d46c1f17a8133879d6129b6e1c25292927e63";
        assert_eq!(
            signature(SECRET, &scope, text),
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
        );
    }

    /// RFC 4231, test case 2.
    #[test]
    fn hmac_vector() {
        assert_eq!(
            hex(&hmac_sha256(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
