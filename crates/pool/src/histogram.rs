//! Durations counted in logarithmic buckets, from 1 µs to over an hour.
//!
//! Invariant: recording is a few instructions on a fixed array, without allocation, because it happens under the pool's
//! lock.

use std::time::Duration;

/// Buckets per doubling. With four, a quantile is at most 25 % above the true value.
const STEPS: usize = 4;
/// Doublings of a microsecond. 2^32 µs are 71 minutes; longer durations go into the last bucket.
const DOUBLINGS: usize = 32;
const BUCKETS: usize = DOUBLINGS * STEPS;

/// Counts of durations, in logarithmic buckets that are 25 % wide.
#[derive(Debug, PartialEq, Eq)]
pub struct Histogram {
    counts: Box<[u64; BUCKETS]>,
    count: u64,
    sum: Duration,
    max: Duration,
}

impl Clone for Histogram {
    fn clone(&self) -> Self {
        Self {
            counts: self.counts.clone(),
            ..*self
        }
    }

    /// Allocates nothing.
    fn clone_from(&mut self, other: &Self) {
        *self.counts = *other.counts;
        (self.count, self.sum, self.max) = (other.count, other.sum, other.max);
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: Box::new([0; BUCKETS]),
            count: 0,
            sum: Duration::ZERO,
            max: Duration::ZERO,
        }
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, duration: Duration) {
        self.record_many(duration, 1);
    }

    pub(crate) fn record_many(&mut self, duration: Duration, times: u64) {
        self.counts[bucket(duration)] += times;
        self.count += times;
        self.sum += duration.saturating_mul(times.try_into().unwrap_or(u32::MAX));
        if times > 0 {
            self.max = self.max.max(duration);
        }
    }

    /// The number of recorded durations.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The sum of all recorded durations.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// The longest recorded duration, exactly.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// Returns the duration that a fraction `q` (0 to 1) of the recorded ones does not exceed. The result is at most 25
    /// % too high. Zero if nothing was recorded.
    pub fn quantile(&self, q: f64) -> Duration {
        let rank = (q.clamp(0.0, 1.0) * self.count as f64).ceil().max(1.0) as u64;
        self.cumulative()
            .find(|&(_, up_to_here)| up_to_here >= rank)
            .map_or(Duration::ZERO, |(bound, _)| bound.min(self.max))
    }

    /// Iterates over the buckets in rising order: the upper bound, and the number of durations up to it.
    pub fn cumulative(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        self.counts.iter().enumerate().scan(0, |total, (index, count)| {
            *total += count;
            Some((upper_bound(index), *total))
        })
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts.iter()) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }
}

/// The first four buckets are 1 µs wide each. From 4 µs on, each doubling has four buckets of equal width.
fn bucket(duration: Duration) -> usize {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    if micros < STEPS as u64 {
        return micros as usize;
    }
    let doubling = micros.ilog2() as usize;
    let step = (micros >> (doubling - 2)) as usize & (STEPS - 1);
    ((doubling - 1) * STEPS + step).min(BUCKETS - 1)
}

fn upper_bound(bucket: usize) -> Duration {
    if bucket < STEPS {
        return Duration::from_micros(bucket as u64 + 1);
    }
    let (doubling, step) = (bucket / STEPS + 1, bucket % STEPS);
    Duration::from_micros((1u64 << doubling) + ((step as u64 + 1) << (doubling - 2)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_duration_lies_below_its_bucket_bound_and_above_the_previous(micros in 0u64..1 << 32) {
            let bucket = bucket(Duration::from_micros(micros));
            prop_assert!(Duration::from_micros(micros) < upper_bound(bucket));
            if bucket > 0 {
                prop_assert!(Duration::from_micros(micros) >= upper_bound(bucket - 1));
            }
        }

        #[test]
        fn a_quantile_is_never_below_the_true_one_and_at_most_a_quarter_above(
            mut values in prop::collection::vec(4u64..10_000_000, 1..200),
            q in 0.0f64..=1.0,
        ) {
            let mut histogram = Histogram::default();
            for &micros in &values {
                histogram.record(Duration::from_micros(micros));
            }
            values.sort_unstable();
            let rank = ((q * values.len() as f64).ceil() as usize).max(1);
            let exact = values[rank - 1] as f64;
            let estimate = histogram.quantile(q).as_micros() as f64;
            prop_assert!(estimate >= exact && estimate <= exact * 1.25 + 1.0, "{estimate} {exact}");
        }
    }

    #[test]
    fn an_empty_histogram_answers_zero() {
        assert_eq!(Histogram::default().quantile(0.99), Duration::ZERO);
    }

    #[test]
    fn a_duration_beyond_the_last_bucket_is_still_counted() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::from_secs(1_000_000));
        assert_eq!(
            (histogram.count(), histogram.max()),
            (1, Duration::from_secs(1_000_000))
        );
    }
}
