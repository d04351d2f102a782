//! Reads and prints spans of time.
//!
//! Invariant: a span is finite, not negative and short enough to be added to any clock; what is shown reads back
//! the same.

use std::time::Duration;

use super::parse::Kind;

/// Longer spans are mistakes, and adding them to a clock may overflow.
const LONGEST: Duration = Duration::from_secs(3650 * 24 * 3600);

/// Reads a span of time; a bare number counts `unit`s.
fn duration(text: &str, unit: Duration) -> Result<Duration, String> {
    let text = text.trim();
    let suffixes = [
        ("ms", Duration::from_millis(1)),
        ("s", Duration::from_secs(1)),
        ("m", Duration::from_secs(60)),
        ("h", Duration::from_secs(3600)),
    ];
    let (number, unit) = suffixes
        .iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?.trim_end(), *unit)))
        .unwrap_or((text, unit));
    let number: f64 = number
        .parse()
        .map_err(|_| "is not a duration such as 5, 0.5, 500ms, 5s, 2m or 1h")?;
    if !number.is_finite() {
        return Err("is not finite".into());
    }
    if number < 0.0 {
        return Err("is negative".into());
    }
    let span = Duration::try_from_secs_f64(number * unit.as_secs_f64()).map_err(|_| "is longer than ten years")?;
    if span > LONGEST {
        return Err("is longer than ten years".into());
    }
    if span.is_zero() && number > 0.0 {
        return Err("is shorter than a nanosecond".into());
    }
    Ok(span)
}

fn show_duration(span: Duration) -> String {
    if span.subsec_nanos() == 0 {
        format!("{}s", span.as_secs())
    } else if span.subsec_nanos().is_multiple_of(1_000_000) && span.as_secs() < 10 {
        format!("{}ms", span.as_millis())
    } else {
        format!("{}s", span.as_secs_f64())
    }
}

/// What zero means where a span of time is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Zero {
    /// It is an error.
    Refused,
    /// It is a span like any other: do not wait.
    Plain,
}

/// A span of time in seconds.
pub(crate) struct Seconds(pub(crate) Zero);

impl Kind for Seconds {
    type Value = Duration;
    const PLACEHOLDER: &'static str = "SECONDS";

    fn parse(&self, text: &str) -> Result<Duration, String> {
        let span = duration(text, Duration::from_secs(1))?;
        if span.is_zero() && self.0 == Zero::Refused {
            return Err("must be more than 0".into());
        }
        Ok(span)
    }

    fn show(&self, value: &Duration) -> String {
        show_duration(*value)
    }

    fn describe(&self) -> String {
        match self.0 {
            Zero::Refused => "seconds, more than 0".into(),
            Zero::Plain => "seconds".into(),
        }
    }
}

/// A span of time in seconds, of which 0 is "no limit" or "off".
pub(crate) struct SecondsOrOff;

impl Kind for SecondsOrOff {
    type Value = Option<Duration>;
    const PLACEHOLDER: &'static str = "SECONDS";

    fn parse(&self, text: &str) -> Result<Self::Value, String> {
        let span = duration(text, Duration::from_secs(1))?;
        Ok((!span.is_zero()).then_some(span))
    }

    fn show(&self, value: &Self::Value) -> String {
        value.map_or_else(|| "0".into(), show_duration)
    }

    fn describe(&self) -> String {
        "seconds".into()
    }
}

/// A span of time in milliseconds, more than zero.
pub(crate) struct Milliseconds;

impl Kind for Milliseconds {
    type Value = Duration;
    const PLACEHOLDER: &'static str = "MILLISECONDS";

    fn parse(&self, text: &str) -> Result<Duration, String> {
        let span = duration(text, Duration::from_millis(1))?;
        if span.is_zero() {
            return Err("must be more than 0".into());
        }
        Ok(span)
    }

    fn show(&self, value: &Duration) -> String {
        show_duration(*value)
    }

    fn describe(&self) -> String {
        "milliseconds, more than 0".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_duration_is_seconds_unless_it_names_its_unit() {
        let seconds = Seconds(Zero::Plain);
        for (text, millis) in [
            ("5", 5_000),
            ("0", 0),
            ("0.5", 500),
            (" 5 ", 5_000),
            ("500ms", 500),
            ("5s", 5_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("1.5h", 5_400_000),
            ("1e2", 100_000),
        ] {
            assert_eq!(seconds.parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(Milliseconds.parse("250"), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn a_duration_that_is_not_a_finite_positive_number_is_refused() {
        for text in [
            "", "s", "ten", "NaN", "inf", "-1", "-0.1s", "1d", "5 5", "1e300", "11y", "1e-30", "0x10",
        ] {
            assert!(Seconds(Zero::Plain).parse(text).is_err(), "{text}");
        }
        assert!(Seconds(Zero::Refused).parse("0").is_err());
        assert!(Seconds(Zero::Refused).parse("0ms").is_err());
        assert!(Milliseconds.parse("0").is_err());
        assert_eq!(SecondsOrOff.parse("0"), Ok(None));
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "\\PC{0,12}|[-+0-9.eE]{0,12}(ms|s|m|h)?") {
            let _ = Seconds(Zero::Plain).parse(&text);
            let _ = Seconds(Zero::Refused).parse(&text);
            let _ = SecondsOrOff.parse(&text);
            let _ = Milliseconds.parse(&text);
        }

        #[test]
        fn what_a_duration_shows_reads_back_the_same(millis in 0u64..400_000_000_000) {
            if let Ok(span) = Seconds(Zero::Plain).parse(&format!("{millis}ms")) {
                prop_assert_eq!(Seconds(Zero::Plain).parse(&show_duration(span)), Ok(span));
            }
        }
    }
}
