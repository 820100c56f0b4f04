//! Why a call to EC2 failed, and what to do about it.

use super::retry::Verdict;
use std::fmt;

/// A failed call. Displayed, it is one line that names EC2's code and the next
/// step; it never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No room: another subnet or instance type, with another token.
    Capacity { code: String, message: String },
    /// A limit of the account in this Region.
    Quota { code: String, message: String },
    /// No credentials, wrong ones, or too few rights.
    Credentials {
        code: String,
        message: String,
        /// The IAM action to allow, such as `ec2:RunInstances`.
        action: Option<String>,
    },
    /// The token was used before, with other parameters.
    TokenMismatch { code: String, message: String },
    /// The token's instance has been terminated: take another token.
    TokenTerminated { code: String, message: String },
    /// EC2 doesn't know the instance (yet).
    NotFound { code: String, message: String },
    /// A request that EC2 will not take, however often it is sent.
    Fatal { code: String, message: String },
    /// Tries or time ran out, and whether the request was carried out is unknown.
    Unavailable { cause: String },
    /// Settings, files or environment that can't be used.
    Config(String),
}

impl Failure {
    /// The failure that `verdict` amounts to once no retry is left.
    pub fn of(verdict: Verdict, code: &str, message: &str, action: Option<String>) -> Failure {
        let (code, message) = (code.to_string(), message.to_string());
        match verdict {
            Verdict::Capacity => Failure::Capacity { code, message },
            Verdict::Quota => Failure::Quota { code, message },
            Verdict::ClockSkew | Verdict::Expired | Verdict::Refused => Failure::Credentials {
                code,
                message,
                action,
            },
            Verdict::TokenMismatch => Failure::TokenMismatch { code, message },
            Verdict::TokenTerminated => Failure::TokenTerminated { code, message },
            Verdict::NotFound => Failure::NotFound { code, message },
            Verdict::Throttled | Verdict::Transient => Failure::Unavailable {
                cause: format!("{code}: {message}"),
            },
            Verdict::DryRunOk | Verdict::Fatal => Failure::Fatal { code, message },
        }
    }

    fn next_step(&self) -> String {
        let step = match self {
            Failure::Capacity { .. } => "try another subnet or instance type",
            Failure::Quota { .. } => "raise the quota of this Region in Service Quotas",
            Failure::Credentials {
                action: Some(action), ..
            } => {
                let place = match action.starts_with("sts:") {
                    true => "the role's trust policy",
                    false => "the IAM policy",
                };
                return format!("allow {action} in {place}");
            }
            Failure::Credentials { code, .. } => match code.as_str() {
                "NoCredentials" => "set aws_access_key and aws_secret_key, or attach an instance role",
                "CredentialProcess" => "see to credential_process",
                "RequestExpired" | "ExpiredToken" | "ExpiredTokenException" => {
                    "renew the session credentials"
                }
                "InvalidIdentityToken" | "IDPRejectedClaim" => {
                    "see to the token's file and to the identity provider in the role's trust policy"
                }
                "OptInRequired" | "Blocked" | "PendingVerification" => {
                    "see to the account in the AWS console"
                }
                _ => "check the access key, the secret key and this machine's clock",
            },
            Failure::TokenMismatch { .. } => "is the INI the same on every node?",
            Failure::TokenTerminated { .. } => "launch with a new client token",
            Failure::NotFound { .. } => "ask again later",
            Failure::Fatal { code, .. } if code == "OperationNotPermitted" => {
                "take its termination protection off"
            }
            Failure::Fatal { .. } => "correct the request",
            Failure::Unavailable { .. } => "try again later",
            Failure::Config(_) => "",
        };
        step.to_string()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Failure::Capacity { code, message }
            | Failure::Quota { code, message }
            | Failure::Credentials { code, message, .. }
            | Failure::TokenMismatch { code, message }
            | Failure::TokenTerminated { code, message }
            | Failure::NotFound { code, message }
            | Failure::Fatal { code, message } => {
                let message = message.trim_end_matches('.');
                write!(f, "{code}: {message}; {}", self.next_step())
            }
            Failure::Unavailable { cause } => {
                write!(f, "{}; {}", cause.trim_end_matches('.'), self.next_step())
            }
            Failure::Config(what) => f.write_str(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_with_code_and_next_step() {
        let shown = |verdict, code, message, action: Option<&str>| {
            Failure::of(verdict, code, message, action.map(str::to_string)).to_string()
        };
        assert_eq!(
            shown(
                Verdict::Refused,
                "UnauthorizedOperation",
                "No.",
                Some("ec2:RunInstances")
            ),
            "UnauthorizedOperation: No; allow ec2:RunInstances in the IAM policy"
        );
        assert_eq!(
            shown(Verdict::Capacity, "InsufficientInstanceCapacity", "none", None),
            "InsufficientInstanceCapacity: none; try another subnet or instance type"
        );
        assert_eq!(
            shown(Verdict::Throttled, "RequestLimitExceeded", "slow down", None),
            "RequestLimitExceeded: slow down; try again later"
        );
        assert_eq!(
            shown(Verdict::Expired, "RequestExpired", "old", None),
            "RequestExpired: old; renew the session credentials"
        );
        assert_eq!(Failure::Config("x: bad".to_string()).to_string(), "x: bad");
    }
}
