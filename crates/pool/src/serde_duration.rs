//! Times in configuration files: `"30s"`, `"250ms"`, or a number of seconds; `"none"` where a time may be absent.
//!
//! For `#[serde(with = "cenote_pool::serde_duration")]`, and `…::optional` for an `Option<Duration>`.
//!
//! Invariant: what is written is read back as the same time.

use std::{fmt, time::Duration};

use serde::{Deserializer, Serializer, de};

const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Writes a time with the largest of ns, us, ms and s that divides it.
///
/// # Errors
///
/// Those of the format.
pub fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Spelled(*time))
}

/// Reads a time.
///
/// # Errors
///
/// It is not a number from 0 on, with or without one of the units ns, us, ms, s, m, h and d.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let time = deserializer.deserialize_any(Reader { optional: false })?;
    time.ok_or_else(|| de::Error::custom("a time must be given"))
}

/// The same for a time that may be absent.
pub mod optional {
    use super::{Deserializer, Duration, Reader, Serializer};

    /// Writes a time like [`serialize`](super::serialize), and `none` for `None`.
    ///
    /// # Errors
    ///
    /// Those of the format.
    #[allow(clippy::ref_option, reason = "serde calls it so")]
    pub fn serialize<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => super::serialize(time, serializer),
            None => serializer.serialize_str("none"),
        }
    }

    /// Reads a time like [`deserialize`](super::deserialize). `none`, or the format's own null, is `None`.
    ///
    /// # Errors
    ///
    /// Those of [`deserialize`](super::deserialize).
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        deserializer.deserialize_any(Reader { optional: true })
    }
}

struct Spelled(Duration);

impl fmt::Display for Spelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let unit = UNITS[..4]
            .iter()
            .rev()
            .find(|(_, size)| nanos.is_multiple_of(u128::from(*size)));
        let (unit, size) = unit.unwrap_or(&UNITS[0]);
        write!(f, "{}{unit}", nanos / u128::from(*size))
    }
}

struct Reader {
    optional: bool,
}

impl de::Visitor<'_> for Reader {
    type Value = Option<Duration>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time such as \"30s\" or \"250ms\", or a number of seconds")?;
        match self.optional {
            true => f.write_str(", or \"none\""),
            false => Ok(()),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        match text {
            "none" if self.optional => Ok(None),
            text => match read(text) {
                Some(time) => Ok(Some(time)),
                None => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
            },
        }
    }

    fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Self::Value, E> {
        Ok(Some(Duration::from_secs(seconds)))
    }

    fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Self::Value, E> {
        match u64::try_from(seconds) {
            Ok(seconds) => self.visit_u64(seconds),
            Err(_) => Err(E::invalid_value(de::Unexpected::Signed(seconds), &self)),
        }
    }

    fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Self::Value, E> {
        let time = Duration::try_from_secs_f64(seconds);
        time.map(Some)
            .map_err(|_| E::invalid_value(de::Unexpected::Float(seconds), &self))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        match self.optional {
            true => Ok(None),
            false => Err(E::invalid_type(de::Unexpected::Unit, &self)),
        }
    }
}

fn read(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim_start() {
        "" => "s",
        unit => unit,
    };
    let (_, size) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let nanos = number.parse::<u128>().ok()?.checked_mul(u128::from(*size))?;
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    let rest = u32::try_from(nanos % 1_000_000_000).ok()?;
    Some(Duration::new(seconds, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_in_any_unit() {
        for (text, time) in [
            ("30s", Duration::from_secs(30)),
            ("250ms", Duration::from_millis(250)),
            ("5 m", Duration::from_secs(300)),
            ("2h", Duration::from_secs(7200)),
            ("1d", Duration::from_secs(86_400)),
            ("7", Duration::from_secs(7)),
            ("0s", Duration::ZERO),
        ] {
            assert_eq!(read(text), Some(time), "{text}");
        }
        for text in [
            "",
            "s",
            "-1s",
            "1.5s",
            "1 week",
            "99999999999999999999999999999999999999d",
            "none",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(seconds in any::<u64>(), nanos in 0..1_000_000_000_u32) {
            let time = Duration::new(seconds, nanos);
            prop_assert_eq!(read(&Spelled(time).to_string()), Some(time));
        }
    }
}
