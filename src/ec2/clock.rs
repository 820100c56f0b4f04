//! Dates of the AWS protocols, and how far this machine's clock is off.

use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

/// An answer that took longer says too little about the time (seconds).
const LONGEST_CALL: u64 = 15 * 60;

/// SigV4's `x-amz-date`, `YYYYMMDDTHHMMSSZ`, of `unix` seconds.
pub fn amz_date(unix: u64) -> String {
    let date = i64::try_from(unix)
        .ok()
        .and_then(|unix| OffsetDateTime::from_unix_timestamp(unix).ok())
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    format!(
        "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        date.hour(),
        date.minute(),
        date.second()
    )
}

/// Unix seconds of an HTTP `Date` header (RFC 9110, 5.6.7).
pub fn http_date(text: &str) -> Option<u64> {
    let date = OffsetDateTime::parse(text, &Rfc2822).ok()?;
    u64::try_from(date.unix_timestamp()).ok()
}

/// Unix seconds of an ISO 8601 date as EC2 and the metadata service write it.
pub fn iso_date(text: &str) -> Option<u64> {
    let date = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(date.unix_timestamp()).ok()
}

/// Seconds to add to this machine's clock to get the server's: `date` (unix
/// seconds, of the answer's `Date`) against the middle of `sent` and
/// `received` (unix milliseconds). None if the call took too long to tell.
pub fn skew(date: u64, sent: u64, received: u64) -> Option<i64> {
    let took = received.checked_sub(sent)?;
    if took > LONGEST_CALL * 1000 {
        return None;
    }
    // `Date` is cut to whole seconds, so the server's time is half a second later on average.
    let server = i64::try_from(date.checked_mul(1000)?.checked_add(500)?).ok()?;
    let middle = i64::try_from(sent + took / 2).ok()?;
    Some((server - middle) / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(amz_date(1_440_938_160), "20150830T123600Z");
        assert_eq!(amz_date(u64::MAX), "19700101T000000Z");
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("yesterday"), None);
        assert_eq!(iso_date("2015-08-30T12:36:00.000Z"), Some(1_440_938_160));
        assert_eq!(iso_date("2015-08-30T12:36:00Z"), Some(1_440_938_160));
        assert_eq!(iso_date("1969-01-01T00:00:00Z"), None);
        assert_eq!(iso_date(""), None);
    }

    #[test]
    fn skew_is_taken_from_the_middle_of_the_call() {
        assert_eq!(skew(1000, 1_000_000, 1_000_000), Some(0));
        assert_eq!(skew(1312, 999_500, 1_001_500), Some(312));
        assert_eq!(skew(700, 1_000_000, 1_000_000), Some(-299));
        assert_eq!(skew(1000, 0, 901_000), None);
        assert_eq!(skew(1000, 2000, 1000), None);
        assert_eq!(skew(u64::MAX, 0, 0), None);
    }
}
