//! The outcomes of one measurement. Invariant: only answers with the expected status have a latency; every other outcome is
//! counted by its kind.

use std::{collections::BTreeMap, fmt, io, time::Duration};

use hdrhistogram::Histogram;

/// The longest latency that is recorded; longer ones count as this.
const LONGEST: Duration = Duration::from_secs(60);

/// The outcomes of requests.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// Latencies of good answers, in microseconds.
    latencies: Histogram<u64>,
    failures: BTreeMap<Failure, u64>,
}

/// How a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failure {
    /// An answer with another status than the expected one.
    Status(u16),
    /// No answer, or a malformed one.
    Io(io::ErrorKind),
    /// The client gave up.
    TooLate,
    /// No connection was free to send it on.
    NotSent,
}

impl Default for Tally {
    fn default() -> Self {
        let longest = LONGEST.as_micros() as u64;
        let Ok(latencies) = Histogram::new_with_bounds(1, longest, 3) else {
            unreachable!("the bounds are right")
        };
        Self {
            latencies,
            failures: BTreeMap::new(),
        }
    }
}

impl Tally {
    /// A good answer.
    pub(super) fn good(&mut self, latency: Duration) {
        self.latencies.saturating_record(latency.as_micros() as u64);
    }

    /// Anything else.
    pub(super) fn failed(&mut self, failure: Failure) {
        *self.failures.entry(failure).or_default() += 1;
    }

    /// Adds all outcomes of another tally.
    pub(super) fn merge(&mut self, other: &Self) {
        // Cannot fail: both histograms have the same bounds.
        let _ = self.latencies.add(&other.latencies);
        for (failure, count) in &other.failures {
            *self.failures.entry(*failure).or_default() += count;
        }
    }

    /// The number of good answers.
    #[must_use]
    pub(super) fn answered(&self) -> u64 {
        self.latencies.len()
    }

    /// The latency that this share of the good answers did not exceed, accurate to a thousandth.
    #[must_use]
    pub(super) fn latency(&self, share: f64) -> Duration {
        Duration::from_micros(self.latencies.value_at_quantile(share))
    }

    /// The number of failures of each kind.
    #[must_use]
    pub(super) fn failures(&self) -> &BTreeMap<Failure, u64> {
        &self.failures
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status}"),
            Self::Io(kind) => write!(f, "{kind}"),
            Self::TooLate => f.write_str("too late"),
            Self::NotSent => f.write_str("not sent"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_add_up() {
        let mut all = Tally::default();
        for part in 0..4 {
            let mut tally = Tally::default();
            for latency in 1..=25 {
                tally.good(Duration::from_millis(part * 25 + latency));
            }
            tally.failed(Failure::Status(503));
            all.merge(&tally);
        }
        assert_eq!(all.answered(), 100);
        assert_eq!(all.failures().get(&Failure::Status(503)), Some(&4));
        for (share, expected) in [(0.5, 50.0), (0.99, 99.0)] {
            let found = all.latency(share).as_secs_f64() * 1e3;
            assert!((found - expected).abs() < expected / 500.0, "{share}: {found}");
        }
    }
}
