//! Numbers: whole ones and sizes in bytes.
//!
//! Invariant: a value is within the range of its row.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::{Form, Kind};

/// A whole number within a range.
pub(crate) struct Whole<T>(pub(crate) RangeInclusive<T>);

impl<T: TryFrom<u64> + PartialOrd + Copy + Display + Sync> Kind for Whole<T> {
    type Value = T;

    fn parse(&self, text: &str) -> Result<T, String> {
        let text = text.trim();
        if text.starts_with("tcp://") {
            return Err("is not a whole number; Kubernetes sets such a variable for a Service, \
                 `enableServiceLinks: false` in the pod prevents it"
                .into());
        }
        if !is_digits(text.strip_prefix(['-', '+']).unwrap_or(text)) {
            return Err("is not a whole number".into());
        }
        let number = text.parse::<u64>().ok().and_then(|number| T::try_from(number).ok());
        within(&self.0, number)
    }

    fn show(&self, value: &T) -> String {
        value.to_string()
    }

    fn form(&self) -> Form {
        Form("N", format!("whole number, {} to {}", self.0.start(), self.0.end()))
    }
}

/// A size in bytes.
pub(crate) struct Bytes(pub(crate) RangeInclusive<usize>);

impl Kind for Bytes {
    type Value = usize;

    fn parse(&self, text: &str) -> Result<usize, String> {
        let text = text.trim().to_ascii_lowercase();
        let units = [('k', 1 << 10), ('m', 1 << 20)];
        let with_unit = units
            .iter()
            .find_map(|(unit, bytes)| Some((text.strip_suffix(*unit)?, *bytes)));
        let (number, unit) = with_unit.unwrap_or((&text, 1));
        let number = number.trim_end();
        if !is_digits(number) {
            return Err("is not a number of bytes such as 65536, 64k or 1m".into());
        }
        let bytes = number.parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
        within(&self.0, bytes)
    }

    fn show(&self, value: &usize) -> String {
        value.to_string()
    }

    fn form(&self) -> Form {
        Form("BYTES", format!("bytes, {} to {}", self.0.start(), self.0.end()))
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns the number, unless it is too large for its type or outside the range.
fn within<T: PartialOrd + Display>(range: &RangeInclusive<T>, number: Option<T>) -> Result<T, String> {
    number
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("is not within {} to {}", range.start(), range.end()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_whole_number_says_whether_it_is_malformed_or_out_of_range() {
        let kind = Whole::<u16>(1..=100);
        assert_eq!(kind.parse(" 7 "), Ok(7));
        for text in ["ten", "", "1.5", "0x1", "1_0", "-"] {
            assert_eq!(kind.parse(text), Err("is not a whole number".into()), "{text}");
        }
        for text in ["0", "101", "-1", "99999999999999999999999"] {
            assert_eq!(kind.parse(text), Err("is not within 1 to 100".into()), "{text}");
        }
    }

    #[test]
    fn a_size_takes_k_and_m() {
        let kind = Bytes(1..=10 << 20);
        for (text, bytes) in [("7", 7), ("64k", 65_536), ("1m", 1_048_576), ("1 M", 1_048_576)] {
            assert_eq!(kind.parse(text), Ok(bytes), "{text}");
        }
        for text in ["0", "11m", "1g", "m", "", "-1", "1.5m", "99999999999999999999m"] {
            assert!(kind.parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "\\PC{0,12}|[-+0-9.eE]{0,12}[km]?") {
            let _ = Whole::<u16>(0..=u16::MAX).parse(&text);
            let _ = Bytes(0..=usize::MAX).parse(&text);
        }
    }
}
