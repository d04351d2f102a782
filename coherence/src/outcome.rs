//! What a trial found. Invariant: a trial with an empty list of reasons kept every promise of its mode.

use std::time::Duration;

use cenote_cache::history::Violation;

use crate::{fault::Fault, mode::Mode, record::Tally};

/// What a trial found.
#[derive(Debug)]
pub struct Outcome {
    /// The mode of the cache.
    pub mode: Mode,
    /// What went wrong.
    pub fault: Fault,
    /// Operations that were noted: all but reads that failed and writes that were refused.
    pub operations: usize,
    /// Reads among them.
    pub reads: usize,
    /// Reads that a cache answered.
    pub hits: usize,
    /// What cannot be explained.
    pub violations: Vec<Violation>,
    /// The longest time in which an instance acknowledged no write.
    pub stall: Duration,
    /// The slowest answer, where it took more than half a second.
    pub slowest: Duration,
    /// From the end of the fault until all was well; `None` if that was never seen.
    pub recovery: Option<Duration>,
    /// Why the trial failed; empty if it did not. For the plain cache-aside violations are no reason.
    pub reasons: Vec<String>,
    pub(crate) tally: Tally,
}
