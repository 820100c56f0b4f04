//! How node and master prove to each other that they know the cluster's secret.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Which end proves itself. It is part of what is signed, so that neither end can be made
/// to produce the other's proof (reflection).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Node,
    Master,
}

/// What a proof is about.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    pub role: Role,
    /// The node's or master's own name.
    pub name: &'a str,
    pub node_nonce: &'a str,
    pub master_nonce: &'a str,
}

/// HMAC-SHA256 of the claim's text under `secret`, in lower-case hex.
pub fn prove(secret: &str, claim: Claim) -> String {
    hex(&mac(secret, claim).finalize().into_bytes())
}

/// Is `proof` the right one? Compared in constant time.
pub fn verify(secret: &str, claim: Claim, proof: &str) -> bool {
    match unhex(proof) {
        Some(bytes) => mac(secret, claim).verify_slice(&bytes).is_ok(),
        None => false,
    }
}

fn mac(secret: &str, claim: Claim) -> Hmac<Sha256> {
    let role = match claim.role {
        Role::Node => "node",
        Role::Master => "master",
    };
    let text = format!(
        "autoscaler 2 {role} {} {} {}",
        claim.name, claim.node_nonce, claim.master_nonce
    );
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(text.as_bytes());
    mac
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]])
        .map(char::from)
        .collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .bytes()
        .map(|b| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        })
        .collect();
    let digits = digits.filter(|d| d.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIM: Claim = Claim {
        role: Role::Node,
        name: "app1",
        node_nonce: "000102030405060708090a0b0c0d0e0f",
        master_nonce: "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
    };

    /// The value is Python's: `hmac.new(b"s3cret", b"autoscaler 2 node app1 0001… f0f1…", "sha256")`.
    #[test]
    fn an_independent_value() {
        assert_eq!(
            prove("s3cret", CLAIM),
            "7ddf48bc9719f26bd39cdf52f535b7328352f9fbafa5f12a18d6bb6813339a96"
        );
    }

    #[test]
    fn only_the_right_proof_verifies() {
        let proof = prove("s3cret", CLAIM);
        assert!(verify("s3cret", CLAIM, &proof));
        assert!(!verify("other", CLAIM, &proof));
        assert!(!verify(
            "s3cret",
            Claim {
                role: Role::Master,
                ..CLAIM
            },
            &proof
        ));
        assert!(!verify(
            "s3cret",
            Claim {
                name: "app2",
                ..CLAIM
            },
            &proof
        ));
        assert!(!verify(
            "s3cret",
            Claim {
                master_nonce: "00",
                ..CLAIM
            },
            &proof
        ));
        assert!(!verify("s3cret", CLAIM, &proof[2..]));
        assert!(!verify("s3cret", CLAIM, ""));
        assert!(!verify("s3cret", CLAIM, &proof.to_uppercase()));
    }
}
