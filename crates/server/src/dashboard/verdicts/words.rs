//! Durations and numbers as people say them. Invariant: two significant digits, so that a text does not change all the time.

use std::time::Duration;

/// `34 ms`, `1.2 s`, `73 s`, `4 min`, `2 h`, `12 days`.
pub(super) fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        _ if seconds < 0.001 => "less than 1 ms".to_owned(),
        _ if seconds < 0.9995 => format!("{} ms", rounded(seconds * 1e3)),
        _ if seconds < 9.95 => format!("{seconds:.1} s"),
        _ if seconds < 119.5 => format!("{seconds:.0} s"),
        _ if seconds < 7170.0 => format!("{:.0} min", seconds / 60.0),
        _ if seconds < 48.0 * 3600.0 => format!("{:.0} h", seconds / 3600.0),
        _ => format!("{:.0} days", (seconds / 86_400.0).floor()),
    }
}

/// The number with two significant digits.
fn rounded(number: f64) -> f64 {
    match number {
        _ if number < 100.0 => number.round(),
        _ => (number / 10.0).round() * 10.0,
    }
}

/// `1 request`, `7 requests`.
pub(super) fn count(number: u64, one: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        number => format!("{number} {one}s"),
    }
}

/// `7.2 %`.
pub(super) fn share(part: u64, of: u64) -> String {
    let percent = part as f64 * 100.0 / of.max(1) as f64;
    match percent {
        _ if percent < 9.95 => format!("{percent:.1} %"),
        _ => format!("{percent:.0} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_the_unit_that_people_would_choose() {
        for (milliseconds, words) in [
            (0.2, "less than 1 ms"),
            (34.4, "34 ms"),
            (412.0, "410 ms"),
            (999.6, "1.0 s"),
            (1_234.0, "1.2 s"),
            (73_400.0, "73 s"),
            (119_900.0, "2 min"),
            (7_200_000.0, "2 h"),
            (1_123_200_000.0, "13 days"),
        ] {
            assert_eq!(time(Duration::from_secs_f64(milliseconds / 1e3)), words);
        }
    }

    #[test]
    fn a_number_and_a_share_are_in_words() {
        assert_eq!(
            (count(1, "request"), count(0, "request")),
            ("1 request".into(), "0 requests".into())
        );
        assert_eq!(
            (share(72, 1000), share(1, 2), share(0, 0)),
            ("7.2 %".into(), "50 %".into(), "0.0 %".into())
        );
    }
}
