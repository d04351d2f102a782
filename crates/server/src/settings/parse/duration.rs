//! Parses and prints spans of time.
//!
//! Invariant: a span is finite, not negative and short enough to be added to any clock; what is shown parses to the
//! same span.

use std::time::Duration;

use super::kinds;

/// Longer spans are mistakes, and adding them to a clock may overflow.
const LONGEST: Duration = Duration::from_secs(3650 * 24 * 3600);

const UNITS: [(&str, f64); 4] = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

/// Parses a span of time. A bare number counts units of this many seconds.
fn duration(text: &str, unit: f64) -> Result<Duration, String> {
    let text = text.trim();
    let with_unit = UNITS
        .iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?.trim_end(), *unit)));
    let (number, unit) = with_unit.unwrap_or((text, unit));
    let number: f64 = number
        .parse()
        .map_err(|_| "is not a duration such as 5, 0.5, 500ms, 5s, 2m or 1h")?;
    if !number.is_finite() {
        return Err("is not finite".into());
    }
    if number < 0.0 {
        return Err("is negative".into());
    }
    let span = Duration::try_from_secs_f64(number * unit)
        .ok()
        .filter(|span| *span <= LONGEST);
    let span = span.ok_or("is longer than ten years")?;
    match span.is_zero() && number > 0.0 {
        true => Err("is shorter than a nanosecond".into()),
        false => Ok(span),
    }
}

/// The same, where zero means nothing.
fn above_zero(text: &str, unit: f64) -> Result<Duration, String> {
    let span = duration(text, unit)?;
    match span.is_zero() {
        true => Err("must be more than 0".into()),
        false => Ok(span),
    }
}

fn show_duration(span: &Duration) -> String {
    if span.subsec_nanos() == 0 {
        format!("{}s", span.as_secs())
    } else if span.subsec_nanos().is_multiple_of(1_000_000) && span.as_secs() < 10 {
        format!("{}ms", span.as_millis())
    } else {
        format!("{}s", span.as_secs_f64())
    }
}

kinds! {
    /// A span of time in seconds. Zero is a span like any other.
    Seconds: Duration, "SECONDS", "seconds", |text| duration(text, 1.0), show_duration;

    /// A span of time in seconds, more than zero.
    PositiveSeconds: Duration, "SECONDS", "seconds, more than 0", |text| above_zero(text, 1.0), show_duration;

    /// A span of time in seconds, of which 0 is "no limit" or "off".
    SecondsOrOff: Option<Duration>, "SECONDS", "seconds",
        |text| Ok(Some(duration(text, 1.0)?).filter(|span| !span.is_zero())),
        |span: &Option<Duration>| span.as_ref().map_or_else(|| "0".to_owned(), show_duration);

    /// A span of time in milliseconds, more than zero.
    Milliseconds: Duration, "MILLISECONDS", "milliseconds, more than 0", |text| above_zero(text, 0.001), show_duration;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::parse::Kind;
    use proptest::prelude::*;

    #[test]
    fn a_duration_is_seconds_unless_it_names_its_unit() {
        let seconds = Seconds;
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
            assert!(Seconds.parse(text).is_err(), "{text}");
        }
        assert!(PositiveSeconds.parse("0").is_err());
        assert!(PositiveSeconds.parse("0ms").is_err());
        assert!(Milliseconds.parse("0").is_err());
        assert_eq!(SecondsOrOff.parse("0"), Ok(None));
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "\\PC{0,12}|[-+0-9.eE]{0,12}(ms|s|m|h)?") {
            let _ = Seconds.parse(&text);
            let _ = PositiveSeconds.parse(&text);
            let _ = SecondsOrOff.parse(&text);
            let _ = Milliseconds.parse(&text);
        }

        #[test]
        fn what_a_duration_shows_reads_back_the_same(millis in 0u64..400_000_000_000) {
            if let Ok(span) = Seconds.parse(&format!("{millis}ms")) {
                prop_assert_eq!(Seconds.parse(&show_duration(&span)), Ok(span));
            }
        }
    }
}
