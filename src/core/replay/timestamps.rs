//! The times of a trace, as they are written and as they are shown.

use std::time::Duration;

use time::{Date, Month, OffsetDateTime};

const DAY: i64 = 24 * 3600 * 1000;
/// From here on a bare number is a date in seconds since 1970, and not a time since the start.
const DATES: f64 = 1e8;
/// From here on it counts milliseconds.
const MILLISECONDS: f64 = 1e11;

/// Reads the times of one trace, in their order. A time of day that goes back by more than half
/// a day is one of the next day.
#[derive(Debug, Default)]
pub struct Clock {
    dated: bool,
    midnight: i64,
    last: i64,
}

impl Clock {
    /// Milliseconds of `12:30`, `12:30:05`, `01:30:05 PM`, `2026-11-24 12:30:05 UTC`,
    /// `2026-11-24T12:30:05+01:00`, or of a number of seconds, since 1970 or since any start.
    pub fn read(&mut self, text: &str) -> Option<i64> {
        let text = text.trim();
        let time = if let Ok(number) = text.parse::<f64>() {
            self.dated = number >= DATES;
            let scale = if number >= MILLISECONDS { 1.0 } else { 1000.0 };
            let number = (number * scale).round();
            (number.abs() < 1e15).then_some(number as i64)?
        } else if text.get(4..5) == Some("-") {
            self.dated = true;
            let (date, time) = text.split_once([' ', 'T'])?;
            midnight_of(date)? + time_of_day(time)?
        } else {
            let time = time_of_day(text)?;
            if self.midnight + time < self.last - DAY / 2 {
                self.midnight += DAY;
            }
            self.midnight + time
        };
        self.last = time;
        Some(time)
    }

    /// How the times of this trace are shown, the first of them at `origin`.
    pub fn face(&self, origin: i64) -> Face {
        Face {
            origin,
            dated: self.dated,
        }
    }
}

fn midnight_of(date: &str) -> Option<i64> {
    let mut parts = date.split('-');
    let year = parts.next()?.parse().ok()?;
    let month = Month::try_from(parts.next()?.parse::<u8>().ok()?).ok()?;
    let date = Date::from_calendar_date(year, month, parts.next()?.parse().ok()?).ok()?;
    let midnight = date.midnight().assume_utc().unix_timestamp() * 1000;
    parts.next().is_none().then_some(midnight)
}

fn time_of_day(text: &str) -> Option<i64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != ':' && c != '.')
        .unwrap_or(text.len());
    let (time, rest) = text.split_at(end);
    let mut parts = time.split(':');
    let mut hours: i64 = parts.next()?.parse().ok()?;
    let minutes: i64 = parts.next()?.parse().ok()?;
    let seconds: f64 = parts.next().unwrap_or("0").parse().ok()?;
    let mut zone = 0;
    match rest.trim() {
        "" | "Z" | "UTC" | "GMT" => {}
        half @ ("AM" | "PM" | "am" | "pm") => {
            hours = hours % 12 + if half.eq_ignore_ascii_case("pm") { 12 } else { 0 }
        }
        offset => {
            let sign = if offset.starts_with('-') { -1 } else { 1 };
            let digits = offset.strip_prefix(['+', '-'])?.replace(':', "");
            let number: i64 = digits.parse().ok().filter(|_| digits.len() == 4)?;
            zone = sign * (number / 100 * 60 + number % 100);
        }
    }
    let valid = hours <= 24 && minutes < 60 && seconds < 61.0 && parts.next().is_none();
    valid.then(|| (hours * 60 + minutes - zone) * 60_000 + (seconds * 1000.0).round() as i64)
}

/// Shows the times of a trace as the trace writes them.
#[derive(Debug, Clone)]
pub struct Face {
    origin: i64,
    dated: bool,
}

impl Face {
    /// Milliseconds since 1970, or since the midnight or the zero of the trace, of what comes
    /// `offset` after its beginning.
    pub fn at(&self, offset: Duration) -> i64 {
        self.origin + offset.as_millis() as i64
    }

    /// `2026-11-24 06:31:35`, or `06:31:35` where no date is known.
    pub fn text(&self, offset: Duration) -> String {
        let at = self.at(offset);
        match self.dated {
            true => format!("{} {}", date(at), time(at.rem_euclid(DAY))),
            false => time(at),
        }
    }

    /// For an axis whose marks are `step` milliseconds apart: as short as may be.
    pub fn label(&self, at: i64, step: i64) -> String {
        if self.dated && (at.rem_euclid(DAY) == 0 || step >= DAY) {
            return date(at);
        }
        let mut text = time(if self.dated { at.rem_euclid(DAY) } else { at });
        if step % 60_000 == 0 {
            text.truncate(text.len() - 3);
        }
        text
    }
}

fn date(at: i64) -> String {
    let date = OffsetDateTime::from_unix_timestamp(at / 1000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    format!("{}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
}

fn time(at: i64) -> String {
    let sign = if at < 0 { "-" } else { "" };
    let seconds = at.abs() / 1000;
    format!(
        "{sign}{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 12 * 3600 * 1000;

    fn read(text: &str) -> Option<i64> {
        Clock::default().read(text)
    }

    #[test]
    fn every_way_to_write_a_time() {
        assert_eq!(read("12:00"), Some(NOON));
        assert_eq!(read("12:00:00 PM"), Some(NOON));
        assert_eq!(read("12:00:01 AM"), Some(1000));
        assert_eq!(read("0.5"), Some(500));
        assert_eq!(read("1970-01-02 12:00:00 UTC"), Some(DAY + NOON));
        assert_eq!(read("1970-01-02T13:00:00.250+01:00"), Some(DAY + NOON + 250));
        assert_eq!(read("1795501895"), read("2026-11-24 06:31:35"));
        assert_eq!(read("1795501895000"), read("2026-11-24 06:31:35"));
        for text in [
            "",
            "noon",
            "12",
            "12:60",
            "25:00",
            "12:00:00:00",
            "2026-02-30 12:00",
            "2026-11-24",
            "12:00 XM",
            "nan",
            "1e300",
        ] {
            assert_eq!(read(text).filter(|_| text != "12"), None, "{text:?}");
        }
    }

    #[test]
    fn the_day_after_midnight() {
        let mut clock = Clock::default();
        assert_eq!(clock.read("23:59:00"), Some(DAY - 60_000));
        assert_eq!(clock.read("00:01:00"), Some(DAY + 60_000));
        assert_eq!(
            clock.read("00:00:30"),
            Some(DAY + 30_000),
            "but not for a step back"
        );
        assert_eq!(clock.face(DAY).text(Duration::from_secs(60)), "24:01:00");
    }

    #[test]
    fn shown_as_written() {
        let mut clock = Clock::default();
        let at = clock.read("2026-11-24 23:59:30").unwrap();
        let face = clock.face(at);
        assert_eq!(face.text(Duration::from_secs(30)), "2026-11-25 00:00:00");
        assert_eq!(face.label(at + 30_000, 60_000), "2026-11-25");
        assert_eq!(face.label(at - 30_000, 60_000), "23:59");
        assert_eq!(face.label(at, 30_000), "23:59:30");
    }
}
