//! A histogram that many threads record to. Invariant: recording takes two uncontended additions if threads have one each.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::{
    Histogram,
    histogram::{BUCKETS, bucket},
};

/// Like [`Histogram`], but recorded to through a shared reference.
///
/// A [snapshot](Self::snapshot) beside which somebody records may miss the newest durations, or have one in its sum and not
/// yet in its count.
#[derive(Debug)]
pub struct AtomicHistogram {
    counts: Box<[AtomicU64; BUCKETS]>,
    nanoseconds: AtomicU64,
}

impl Default for AtomicHistogram {
    fn default() -> Self {
        Self {
            counts: Box::new([const { AtomicU64::new(0) }; BUCKETS]),
            nanoseconds: AtomicU64::new(0),
        }
    }
}

// Relaxed throughout: the counts order nothing.
impl AtomicHistogram {
    /// Counts a duration.
    #[inline]
    pub fn record(&self, duration: Duration) {
        // The sum starts over after 584 years of durations.
        let nanoseconds = duration.as_secs().saturating_mul(1_000_000_000);
        let nanoseconds = nanoseconds.saturating_add(duration.subsec_nanos().into());
        self.counts[bucket(duration)].fetch_add(1, Relaxed);
        self.nanoseconds.fetch_add(nanoseconds, Relaxed);
    }

    /// Returns what was recorded. The longest duration is that of its bucket: up to 25 % too long.
    #[must_use]
    pub fn snapshot(&self) -> Histogram {
        let counts = self.counts.iter().map(|count| count.load(Relaxed));
        Histogram::of_counts(counts, Duration::from_nanos(self.nanoseconds.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn durations_of_all_threads_are_counted() {
        let histogram = AtomicHistogram::default();
        thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| {
                    histogram.record(Duration::from_micros(20));
                    histogram.record(Duration::from_secs(2));
                });
            }
        });
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.count(), 20);
        assert_eq!(snapshot.sum(), Duration::from_micros(20_000_200));
        assert!(snapshot.quantile(0.5) < Duration::from_micros(25), "{snapshot:?}");
        let longest = snapshot.max();
        assert!(
            longest >= Duration::from_secs(2) && longest <= Duration::from_millis(2500),
            "{longest:?}"
        );
    }
}
