//! How often each timeout of a request was reached. Invariant: a connection is counted once, when a timeout ends it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::activity::Timeout;

/// The names, in the order of the counters. `body` ends a request, the others a connection.
const NAMES: [&str; 5] = ["body", "opening", "first_byte", "head", "stall"];

/// The number of times that each timeout of a request was reached.
#[derive(Debug, Default)]
pub(in crate::http) struct TimeoutCounts([AtomicU64; NAMES.len()]);

impl TimeoutCounts {
    /// Counts a request whose body did not arrive in time.
    pub(in crate::http) fn count_body(&self) {
        self.0[0].fetch_add(1, Relaxed);
    }

    /// Counts a connection that this timeout ends.
    pub(super) fn count(&self, timeout: Timeout) {
        let at = match timeout {
            Timeout::Opening => 1,
            Timeout::FirstByte => 2,
            Timeout::Head => 3,
            Timeout::Stall => 4,
            // No request was under way, or the response was sent.
            Timeout::Idle | Timeout::Linger | Timeout::HalfClosed => return,
        };
        self.0[at].fetch_add(1, Relaxed);
    }

    /// Iterates over the timeouts: the name, and how often it was reached.
    pub(in crate::http) fn each(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        NAMES.into_iter().zip(self.0.iter().map(|count| count.load(Relaxed)))
    }
}
