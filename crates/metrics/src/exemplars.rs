//! Examples of what a histogram counted: for each bucket of metrics the newest duration whose trace is recorded.
//!
//! Invariant: the memory is fixed, and nobody waits: an example that comes while another is written or read is left out.

use std::{
    sync::{Mutex, PoisonError, TryLockError},
    time::{Duration, SystemTime},
};

use crate::{EDGES, histogram::edge_bucket};

/// One more than there are edges: the last bucket has none.
const BUCKETS: usize = EDGES.len() + 1;

/// A duration, and the trace in which it was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exemplar {
    /// The bytes of the trace's id, in the order of its text.
    pub trace_id: [u8; 16],
    /// The duration.
    pub duration: Duration,
    /// When it ended.
    pub at: SystemTime,
}

/// The newest [`Exemplar`] of each bucket. It has no memory before the first.
#[derive(Debug, Default)]
pub struct Exemplars(Mutex<Option<Box<[Option<Exemplar>; BUCKETS]>>>);

impl Exemplars {
    /// Keeps an example instead of the one before in its bucket. For the few requests whose trace is recorded: it takes an
    /// uncontended lock.
    pub fn record(&self, exemplar: Exemplar) {
        let mut buckets = match self.0.try_lock() {
            Ok(buckets) => buckets,
            // Each example is whole.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let buckets = buckets.get_or_insert_with(|| Box::new([None; BUCKETS]));
        buckets[edge_bucket(exemplar.duration)] = Some(exemplar);
    }

    /// Adds what was kept to `newest`, which has one place for each bucket, or none before the first example.
    pub fn merge_into(&self, newest: &mut Vec<Option<Exemplar>>) {
        let buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(buckets) = &*buckets else { return };
        newest.resize(BUCKETS, None);
        for (newest, kept) in newest.iter_mut().zip(buckets.iter()) {
            let at = |exemplar: &Option<Exemplar>| exemplar.map(|it| it.at);
            if at(kept) > at(newest) {
                *newest = *kept;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exemplar(trace: u8, micros: u64, at: u64) -> Exemplar {
        Exemplar {
            trace_id: [trace; 16],
            duration: Duration::from_micros(micros),
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(at),
        }
    }

    #[test]
    fn each_bucket_has_its_newest_example_of_all_cores() {
        let (one, other) = (Exemplars::default(), Exemplars::default());
        let mut newest = Vec::new();
        one.merge_into(&mut newest);
        assert!(newest.is_empty());
        one.record(exemplar(1, 20, 7));
        one.record(exemplar(2, 1_000_000_000, 7));
        other.record(exemplar(3, 31, 8));
        other.record(exemplar(4, 15, 1));
        other.record(exemplar(5, 3, 2));
        for exemplars in [&one, &other] {
            exemplars.merge_into(&mut newest);
        }
        let kept: Vec<_> = newest.iter().map(|it| it.map_or(0, |it| it.trace_id[0])).collect();
        assert_eq!(
            (kept.len(), &kept[..3], kept[BUCKETS - 1]),
            (BUCKETS, &[5, 3, 0][..], 2)
        );
        assert_eq!(kept.iter().filter(|trace| **trace > 0).count(), 3);
    }

    #[test]
    fn an_example_beside_a_reading_is_left_out() {
        let exemplars = Exemplars::default();
        let reading = exemplars.0.lock().unwrap();
        exemplars.record(exemplar(1, 20, 7));
        assert!(reading.is_none());
    }
}
