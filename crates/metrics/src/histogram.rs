//! Durations counted in logarithmic buckets, from 1 µs to over an hour.
//!
//! Invariant: recording is a few instructions on a fixed array, without allocation, because a pool does so under its lock.

use std::time::Duration;

/// Buckets per doubling. With four, a quantile is at most 25 % above the true value.
const STEPS: usize = 4;
/// Doublings of a microsecond. 2^32 µs are 71 minutes; longer durations go into the last bucket.
const DOUBLINGS: usize = 32;
pub(crate) const BUCKETS: usize = DOUBLINGS * STEPS;

/// The first edge that metrics have, as a power of two of a microsecond: 16 µs.
const FIRST_EDGE: usize = 4;

/// The edges of the buckets that metrics have, in seconds: 16 µs to 33.6 s, each twice the one before. They are edges of
/// [`Histogram`], so no count is an estimate.
pub const EDGES: [f64; 22] = edges();

const fn edges() -> [f64; 22] {
    let mut edges = [0.0; 22];
    let mut at = 0;
    while at < edges.len() {
        edges[at] = (1u64 << (FIRST_EDGE + at)) as f64 / 1e6;
        at += 1;
    }
    edges
}

/// Counts in buckets, as metrics have them.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets {
    /// The upper edge of each bucket, and the number of values up to it. Without the last bucket, which has no edge.
    pub cumulative: Vec<(f64, u64)>,
    /// The number of values.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
}

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
    /// Counts a duration.
    pub fn record(&mut self, duration: Duration) {
        self.record_many(duration, 1);
    }

    /// Counts a duration several times.
    pub fn record_many(&mut self, duration: Duration, times: u64) {
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

    /// Returns the counts at the [edges](EDGES) that metrics have, and the sum in seconds.
    #[must_use]
    pub fn buckets(&self) -> Buckets {
        let doublings = self
            .cumulative()
            .enumerate()
            .filter(|(index, _)| index % STEPS == STEPS - 1);
        // They are 4 µs, 8 µs and so on.
        let from_first = doublings.skip(FIRST_EDGE - 2);
        Buckets {
            cumulative: EDGES.into_iter().zip(from_first.map(|(_, (_, count))| count)).collect(),
            count: self.count,
            sum: self.sum.as_secs_f64(),
        }
    }

    /// A histogram with these counts of its buckets.
    pub(crate) fn of_counts(counts: impl Iterator<Item = u64>, sum: Duration) -> Self {
        let mut histogram = Self::default();
        for (index, count) in counts.enumerate().take(BUCKETS) {
            histogram.counts[index] = count;
            histogram.count += count;
            if count > 0 {
                histogram.max = upper_bound(index);
            }
        }
        histogram.sum = sum;
        histogram
    }

    /// Returns what was recorded since `earlier`, an older state of this histogram. The longest duration is that of its
    /// bucket: up to 25 % too long.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let counts = self.counts.iter().zip(earlier.counts.iter());
        let sum = self.sum.saturating_sub(earlier.sum);
        let mut later = Self::of_counts(counts.map(|(now, before)| now.saturating_sub(*before)), sum);
        later.max = later.max.min(self.max);
        later
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
pub(crate) fn bucket(duration: Duration) -> usize {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    if micros < STEPS as u64 {
        return micros as usize;
    }
    let doubling = micros.ilog2() as usize;
    let step = (micros >> (doubling - 2)) as usize & (STEPS - 1);
    ((doubling - 1) * STEPS + step).min(BUCKETS - 1)
}

/// The position of the first of the [`EDGES`] that lies above a duration; their number if none does.
pub(crate) fn edge_bucket(duration: Duration) -> usize {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let doubling = micros.max(1).ilog2() as usize;
    (doubling + 1).saturating_sub(FIRST_EDGE).min(EDGES.len())
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

    proptest! {
        #[test]
        fn the_buckets_of_metrics_count_exactly_what_lies_below_their_edges(
            micros in prop::collection::vec(0u64..60_000_000, 0..50),
        ) {
            let mut histogram = Histogram::default();
            for micros in &micros {
                histogram.record(Duration::from_micros(*micros));
            }
            let buckets = histogram.buckets();
            prop_assert_eq!(buckets.cumulative.len(), EDGES.len());
            for (edge, count) in buckets.cumulative {
                let below = micros.iter().filter(|micros| **micros < (edge * 1e6).round() as u64);
                prop_assert_eq!(count as usize, below.count(), "{}", edge);
            }
            prop_assert_eq!(buckets.count as usize, micros.len());
        }
    }

    proptest! {
        #[test]
        fn the_edge_of_a_duration_is_the_first_above_it(micros in 0u64..1 << 30) {
            let at = edge_bucket(Duration::from_micros(micros));
            let below = |edge: f64| micros < (edge * 1e6).round() as u64;
            prop_assert!(EDGES.get(at).is_none_or(|edge| below(*edge)));
            prop_assert!(at == 0 || !below(EDGES[at - 1]));
        }
    }

    #[test]
    fn the_edges_are_powers_of_two_of_a_microsecond() {
        assert_eq!((EDGES[0], EDGES[6], EDGES[21]), (16e-6, 1024e-6, 33.554_432));
    }

    #[test]
    fn the_difference_of_two_states_has_what_was_recorded_between_them() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::from_secs(9));
        let before = histogram.clone();
        assert_eq!(histogram.since(&before), Histogram::default());
        histogram.record_many(Duration::from_millis(3), 99);
        histogram.record(Duration::from_millis(50));
        let between = histogram.since(&before);
        assert_eq!((between.count(), between.sum()), (100, Duration::from_millis(347)));
        let longest = between.max();
        assert!(
            longest >= Duration::from_millis(50) && longest <= Duration::from_millis(63),
            "{longest:?}"
        );
        assert!(between.quantile(0.99) < Duration::from_millis(4), "{between:?}");
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
