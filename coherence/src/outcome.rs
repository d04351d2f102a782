//! What a trial found. Invariant: a trial with an empty list of reasons kept every promise of its mode.

use std::time::Duration;

use crate::history::Violation;

use crate::{fault::Fault, mode::Mode, record::Tally};

/// What a trial found.
#[derive(Debug)]
pub struct Outcome {
    /// The mode of the cache.
    pub mode: Mode,
    /// The injected fault.
    pub fault: Fault,
    /// Recorded operations: all except failed reads and refused writes.
    pub operations: usize,
    /// Reads among them.
    pub reads: usize,
    /// Reads that were answered from a cache.
    pub hits: usize,
    /// Operations that break the promises of the mode.
    pub violations: Vec<Violation>,
    /// The longest time in which an instance acknowledged no write.
    pub stall: Duration,
    /// The slowest answer if it took more than half a second, else zero.
    pub slowest: Duration,
    /// From the end of the fault until all was well; `None` if that did not happen.
    pub recovery: Option<Duration>,
    /// Why the trial failed; empty if it passed. Violations of the plain cache-aside are expected and not listed.
    pub reasons: Vec<String>,
    pub(crate) tally: Tally,
}
