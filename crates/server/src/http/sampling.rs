//! Which requests begin a trace. Invariant: a caller that has a trace decides on it alone.

use std::{fmt, str::FromStr};

/// The share of the requests without a caller's trace that begin one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling(f64);

impl Sampling {
    /// Whether this request begins a trace.
    pub(super) fn decide(self) -> bool {
        fastrand::f64() < self.0
    }
}

impl FromStr for Sampling {
    /// The complaint continues a sentence that starts with the text.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(Self(ratio)),
            _ => Err("is not a share from 0 to 1, such as 0.01".into()),
        }
    }
}

impl Default for Sampling {
    /// One in a hundred.
    fn default() -> Self {
        Self(0.01)
    }
}

impl fmt::Display for Sampling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_none_or_about_the_share_of_requests_begin_a_trace() {
        let sampled = |text: &str| {
            let sampling: Sampling = text.parse().unwrap();
            (0..10_000).filter(|_| sampling.decide()).count()
        };
        assert_eq!((sampled("0"), sampled("1")), (0, 10_000));
        // Twelve standard deviations of a share of a quarter.
        assert!((2_000..3_000).contains(&sampled("0.25")));
        for wrong in ["", "-0.1", "1.1", "NaN", "inf", "1%"] {
            assert!(wrong.parse::<Sampling>().is_err(), "{wrong}");
        }
    }
}
