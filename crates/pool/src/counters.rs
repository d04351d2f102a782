//! Counts and times since the pool was built. Invariant: no counter ever decreases.

use cenote_metrics::Histogram;

use crate::retired::Retired;

/// All counts and times of a pool.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) totals: Totals,
    pub(crate) waiting_times: Histogram,
    pub(crate) connecting_times: Histogram,
    pub(crate) connect_times: Histogram,
    pub(crate) use_times: Histogram,
}

/// How often each kind of event happened.
#[derive(Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) acquired_at_once: u64,
    pub(crate) waited: u64,
    pub(crate) timeouts: u64,
    pub(crate) refused: u64,
    pub(crate) refused_unavailable: u64,
    pub(crate) refused_closed: u64,
    pub(crate) shed: u64,
    pub(crate) nested_waits: u64,
    pub(crate) connect_failures: u64,
    pub(crate) cleaned: u64,
    pub(crate) retired: [u64; Retired::ALL.len()],
}

impl Counters {
    /// Becomes a copy of `other` without allocating, because the caller holds the pool's lock.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.totals = other.totals;
        self.waiting_times.clone_from(&other.waiting_times);
        self.connecting_times.clone_from(&other.connecting_times);
        self.connect_times.clone_from(&other.connect_times);
        self.use_times.clone_from(&other.use_times);
    }
}
