//! What an answer means for the next try, and how long to wait before it.

use std::time::Duration;

use crate::core::backoff;

/// What an outcome calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Too many calls: back off, then the same request.
    Throttled,
    /// Whether it was carried out is unknown: the same request, with the same token.
    Transient,
    /// No room there: another subnet or type, with another token.
    Capacity,
    /// The Region's limit: no other subnet helps.
    Quota,
    /// The signature's time was off: sign again by the server's clock.
    ClockSkew,
    /// The session credentials have run out: fetch new ones.
    Expired,
    /// Credentials or rights are wrong.
    Refused,
    /// Not yet, or no longer, known.
    NotFound,
    /// The token was used with other parameters.
    TokenMismatch,
    /// The token's instance has been terminated.
    TokenTerminated,
    /// A dry run that would have succeeded.
    DryRunOk,
    Fatal,
}

/// Less skew than this (seconds) can't be why a signature was refused.
pub const SKEW_THAT_MATTERS: u64 = 4 * 60;

/// Judges an answer that isn't a success. `code` is empty when there was none to
/// read; `skew` is how far off the signing clock was, in seconds.
pub fn classify(status: u16, code: &str, skew: i64) -> Verdict {
    // State reasons, and old endpoints, write "Server.InsufficientInstanceCapacity".
    let code = ["Server.", "Client."]
        .iter()
        .find_map(|side| code.strip_prefix(side))
        .unwrap_or(code);
    let skewed = skew.unsigned_abs() > SKEW_THAT_MATTERS;
    match code {
        "DryRunOperation" => Verdict::DryRunOk,
        "RequestLimitExceeded"
        | "EC2ThrottledException"
        | "SlowDown"
        | "BandwidthLimitExceeded"
        | "TooManyRequestsException"
        | "ThrottledException"
        | "PriorRequestNotComplete"
        | "LimitExceededException" => Verdict::Throttled,
        _ if code.starts_with("Throttling") || code.starts_with("RequestThrottled") => Verdict::Throttled,
        "Unsupported" | "UnfulfillableCapacity" | "SpotMaxPriceTooLow" | "MaxSpotInstanceCountExceeded" => {
            Verdict::Capacity
        }
        _ if code.starts_with("Insufficient") => Verdict::Capacity,
        _ if code.ends_with("LimitExceeded") => Verdict::Quota,
        "AuthFailure"
        | "SignatureDoesNotMatch"
        | "InvalidSignatureException"
        | "RequestTimeTooSkewed"
        | "RequestExpired"
            if skewed =>
        {
            Verdict::ClockSkew
        }
        "RequestExpired" | "ExpiredToken" | "ExpiredTokenException" => Verdict::Expired,
        "AuthFailure"
        | "SignatureDoesNotMatch"
        | "InvalidSignatureException"
        | "RequestTimeTooSkewed"
        | "UnauthorizedOperation"
        | "OptInRequired"
        | "Blocked"
        | "AccessDenied"
        | "AccessDeniedException"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "MissingAuthenticationToken"
        | "IncompleteSignature"
        | "PendingVerification"
        | "NotAuthorized" => Verdict::Refused,
        "InvalidInstanceID.NotFound" | "InvalidInstanceIDs.NotFound" => Verdict::NotFound,
        "IdempotentParameterMismatch" => Verdict::TokenMismatch,
        "IdempotentInstanceTerminated" => Verdict::TokenTerminated,
        // Auto Scaling is busy with this group.
        "ResourceContention" | "ScalingActivityInProgress" => Verdict::Throttled,
        "InternalError"
        | "InternalFailure"
        | "Unavailable"
        | "ServiceUnavailable"
        | "RequestTimeout"
        | "RequestTimeoutException" => Verdict::Transient,
        _ if status == 429 => Verdict::Throttled,
        // A success that can't be read tells nothing about the outcome.
        "" if status == 408 || status < 300 => Verdict::Transient,
        _ if status >= 500 => Verdict::Transient,
        _ => Verdict::Fatal,
    }
}

/// The wait before try number `attempt` (the first retry is 1): full jitter over
/// a doubling bound, at most 20 s. `random` is any evenly distributed number.
pub fn backoff(verdict: Verdict, attempt: u32, random: u64) -> Duration {
    let (first, longest) = match verdict {
        Verdict::Throttled => (1000, 20_000),
        Verdict::NotFound => (1000, 5000),
        _ => (500, 20_000),
    };
    let [first, longest] = [first, longest].map(Duration::from_millis);
    let bound = backoff::wait(first, attempt, longest).as_millis() as u64;
    // A wait of nothing would be no wait at all.
    Duration::from_millis(50 + random % bound)
}

/// How often a call is tried before it counts as unavailable.
const MAX_TRIES: u32 = 12;

/// What is left of a call's tries.
#[derive(Default)]
pub struct Budget {
    pub tries: u32,
}

impl Budget {
    /// Books a try that came to `verdict`. Returns the wait before the next one,
    /// or None if tries or the time `left` until the deadline don't allow another.
    pub fn spend(&mut self, verdict: Verdict, random: u64, left: Duration) -> Option<Duration> {
        self.tries += 1;
        // An instance may take minutes to become known: only the deadline ends that.
        if self.tries >= MAX_TRIES && verdict != Verdict::NotFound {
            return None;
        }
        let wait = backoff(verdict, self.tries, random);
        (wait < left).then_some(wait)
    }
}

/// The IAM action to allow, from EC2's message or else from the call's name.
pub fn missing_action(code: &str, message: &str, service: &str, action: &str) -> Option<String> {
    if !["UnauthorizedOperation", "AccessDenied", "AccessDeniedException"].contains(&code) {
        return None;
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || c == ':' || c == '-';
    let named = message.split("to perform: ").nth(1).map(|rest| {
        let end = rest.find(|c| !fits(c)).unwrap_or(rest.len());
        rest[..end].to_string()
    });
    let named = named.filter(|name| name.contains(':'));
    Some(named.unwrap_or_else(|| format!("{service}:{action}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::*;

    #[test]
    fn every_row_of_the_table() {
        for (status, code, skew, verdict) in [
            (503, "RequestLimitExceeded", 0, Throttled),
            (400, "Throttling", 0, Throttled),
            (429, "", 0, Throttled),
            (429, "SomethingNew", 0, Throttled),
            (503, "SlowDown", 0, Throttled),
            (400, "RequestThrottledException", 0, Throttled),
            (400, "TooManyRequestsException", 0, Throttled),
            (503, "EC2ThrottledException", 0, Throttled),
            (400, "ScalingActivityInProgress", 0, Throttled),
            (500, "InternalError", 0, Transient),
            (503, "Unavailable", 0, Transient),
            (502, "", 0, Transient),
            (200, "", 0, Transient),
            (400, "RequestTimeout", 0, Transient),
            (500, "SomethingNew", 0, Transient),
            (500, "InsufficientInstanceCapacity", 0, Capacity),
            (0, "Server.InsufficientInstanceCapacity", 0, Capacity),
            (400, "InsufficientFreeAddressesInSubnet", 0, Capacity),
            (400, "InsufficientHostCapacity", 0, Capacity),
            (503, "InsufficientCapacity", 0, Capacity),
            (500, "UnfulfillableCapacity", 0, Capacity),
            (400, "SpotMaxPriceTooLow", 0, Capacity),
            (400, "Unsupported", 0, Capacity),
            (400, "MaxSpotInstanceCountExceeded", 0, Capacity),
            (400, "UnsupportedOperation", 0, Fatal),
            (400, "InstanceLimitExceeded", 0, Quota),
            (400, "VcpuLimitExceeded", 0, Quota),
            (401, "AuthFailure", 0, Refused),
            (401, "AuthFailure", 241, ClockSkew),
            (403, "SignatureDoesNotMatch", -312, ClockSkew),
            (403, "SignatureDoesNotMatch", 239, Refused),
            (400, "RequestExpired", 600, ClockSkew),
            (400, "RequestExpired", 0, Expired),
            (403, "UnauthorizedOperation", 600, Refused),
            (400, "IdempotentParameterMismatch", 0, TokenMismatch),
            (400, "IdempotentInstanceTerminated", 0, TokenTerminated),
            (400, "InvalidInstanceID.NotFound", 0, NotFound),
            (400, "InvalidInstanceID.Malformed", 0, Fatal),
            (412, "DryRunOperation", 0, DryRunOk),
            (400, "InvalidParameterValue", 0, Fatal),
            (403, "", 0, Fatal),
            (302, "", 0, Fatal),
        ] {
            assert_eq!(classify(status, code, skew), verdict, "{status} {code}");
        }
    }

    #[test]
    fn waits_double_up_to_a_cap() {
        let longest = |attempt| backoff(Throttled, attempt, 19_999).as_millis();
        assert_eq!(backoff(Throttled, 1, 999), Duration::from_millis(1049));
        assert_eq!(backoff(Throttled, 1, 1000), Duration::from_millis(50));
        assert_eq!(longest(6), 20_049);
        assert_eq!(longest(u32::MAX), 20_049);
        assert!(backoff(Transient, 1, u64::MAX) < Duration::from_millis(550));
        assert!(backoff(NotFound, 40, 4999) < Duration::from_millis(5050));
    }

    #[test]
    fn a_budget_ends_by_tries_or_time() {
        let hour = Duration::from_secs(3600);
        let mut budget = Budget::default();
        assert!((1..MAX_TRIES).all(|_| budget.spend(Transient, 0, hour).is_some()));
        assert_eq!(budget.spend(Transient, 0, hour), None);
        assert!(budget.spend(NotFound, 0, hour).is_some());
        assert_eq!(
            Budget::default().spend(NotFound, 999, Duration::from_secs(1)),
            None
        );
    }

    #[test]
    fn the_action_to_allow() {
        let message = "You are not authorized to perform this operation. User: arn:aws:iam::1:user/a \
                       is not authorized to perform: ec2:CreateTags on resource: x";
        let action = |code, message| missing_action(code, message, "ec2", "RunInstances");
        assert_eq!(
            action("UnauthorizedOperation", message).as_deref(),
            Some("ec2:CreateTags")
        );
        assert_eq!(
            action("UnauthorizedOperation", "no").as_deref(),
            Some("ec2:RunInstances")
        );
        assert_eq!(action("AuthFailure", message), None);
    }
}
