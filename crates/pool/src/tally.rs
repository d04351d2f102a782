//! What happened since the pool was built. Invariant: nothing is ever taken off.

use crate::{Histogram, stats::Retired};

/// Counts and times.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) counts: Counts,
    pub(crate) waiting_times: Histogram,
    pub(crate) connecting_times: Histogram,
    pub(crate) connect_times: Histogram,
}

/// How often something happened.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) acquired_at_once: u64,
    pub(crate) timeouts: u64,
    pub(crate) refused: u64,
    pub(crate) shed: u64,
    pub(crate) nested_waits: u64,
    pub(crate) connect_failures: u64,
    pub(crate) cleaned: u64,
    pub(crate) retired: [u64; Retired::ALL.len()],
}

impl Tally {
    /// Becomes a copy of `other` without allocating, so that a lock may be held.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.counts = other.counts;
        self.waiting_times.clone_from(&other.waiting_times);
        self.connecting_times.clone_from(&other.connecting_times);
        self.connect_times.clone_from(&other.connect_times);
    }
}
