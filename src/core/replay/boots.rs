//! How long machines take from their launch until they serve.

use std::fmt;
use std::time::Duration;

use crate::core::text::duration;

/// Boots of `least` to `most`, each length as likely, the same ones in every run with the same seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boots {
    pub least: Duration,
    pub most: Duration,
    pub seed: u64,
}

impl Boots {
    /// Reads `1m`, or `45s-90s`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Boots, String> {
        let (least, most) = text.split_once('-').unwrap_or((text, text));
        let [least, most] = [least, most].map(duration::parse);
        let (least, most) = (least?, most?);
        if most < least {
            return Err(format!("`{text}` ends before it begins"));
        }
        Ok(Boots { least, most, seed: 1 })
    }

    /// How long the machine of this number, from 1, takes.
    pub fn time(&self, number: u64) -> Duration {
        let range = (self.most - self.least).as_millis() as u64 + 1;
        self.least + Duration::from_millis(scatter(self.seed, number) % range)
    }
}

impl fmt::Display for Boots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Boots { least, most, .. } = self;
        if least < most {
            write!(f, "{} to ", least.as_secs_f64())?;
        }
        write!(f, "{} s", most.as_secs_f64())
    }
}

/// A number that looks like chance, from two others (SplitMix64's steps).
fn scatter(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_time_or_a_range() {
        let one = Boots::parse("1m").unwrap();
        assert_eq!(one.to_string(), "60 s");
        assert!((1..50).all(|number| one.time(number) == Duration::from_secs(60)));
        let range = Boots::parse("45s-90s").unwrap();
        assert_eq!(range.to_string(), "45 to 90 s");
        for wrong in ["", "-", "45s-", "-45s", "90s-45s", "1m-2m-3m", "long"] {
            assert!(Boots::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_range_is_used_evenly_and_alike_in_each_run() {
        let range = Boots::parse("45s-90s").unwrap();
        let times: Vec<f64> = (1..=1000)
            .map(|number| range.time(number).as_secs_f64())
            .collect();
        assert!(times.iter().all(|time| (45.0..=90.0).contains(time)));
        let mean = times.iter().sum::<f64>() / 1000.0;
        assert!((66.0..69.0).contains(&mean), "{mean}");
        assert!(times.iter().any(|time| *time < 46.0) && times.iter().any(|time| *time > 89.0));
        assert_eq!(range.time(7), range.time(7));
        assert_ne!(range.time(7), Boots { seed: 2, ..range }.time(7));
    }
}
