//! Counters that many threads add to. Invariant: counting on one core does not slow another down.

use std::{
    array,
    cell::Cell,
    fmt,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

/// Threads beyond this number share stripes.
const STRIPES: usize = 16;

/// Aligned to two cache lines, which processors fetch together, so that threads do not share one.
#[repr(align(128))]
struct Stripe<const N: usize>([AtomicU64; N]);

/// `N` counters, with one set for each thread, of 16 at most. A total may miss the newest events.
pub struct StripedCounters<const N: usize>(Box<[Stripe<N>]>);

static NEXT_STRIPE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static STRIPE: Cell<usize> = Cell::new(NEXT_STRIPE.fetch_add(1, Relaxed) % STRIPES);
}

// Relaxed throughout: the counts order nothing.
impl<const N: usize> StripedCounters<N> {
    /// Adds to a counter.
    ///
    /// # Panics
    ///
    /// `at` is not below `N`.
    pub fn add(&self, at: usize, count: u64) {
        // A thread that is ending no longer has a stripe.
        let stripe = STRIPE.try_with(Cell::get).unwrap_or(0);
        self.0[stripe].0[at].fetch_add(count, Relaxed);
    }

    /// Returns what all threads added to a counter.
    ///
    /// # Panics
    ///
    /// `at` is not below `N`.
    #[must_use]
    pub fn total(&self, at: usize) -> u64 {
        self.0.iter().map(|stripe| stripe.0[at].load(Relaxed)).sum()
    }
}

impl<const N: usize> Default for StripedCounters<N> {
    fn default() -> Self {
        let stripe = |_| Stripe(array::from_fn(|_| AtomicU64::new(0)));
        Self((0..STRIPES).map(stripe).collect())
    }
}

impl<const N: usize> fmt::Debug for StripedCounters<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((0..N).map(|at| self.total(at))).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn counts_of_all_threads_add_up() {
        let counters = StripedCounters::<2>::default();
        thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| counters.add(1, 3));
            }
        });
        assert_eq!((counters.total(0), counters.total(1)), (0, 120));
        assert_eq!(format!("{counters:?}"), "[0, 120]");
    }
}
