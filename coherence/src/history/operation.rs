//! The operations of a history. Invariant: a time is read before an operation is called or after it returned, never in between.

use std::sync::Arc;

use cenote_cache::protocol::time::BootTime;

/// One read or write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// The key.
    pub key: Arc<str>,
    /// The instance through which it went.
    pub instance: usize,
    /// The time before the call.
    pub invoked: BootTime,
    /// The time after its return. `None` for a write of unknown outcome and for one that is not settled: it may show up at any
    /// time.
    pub returned: Option<BootTime>,
    /// Whether it read or wrote, and what.
    pub kind: Kind,
}

/// What an operation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Found a version with this digest of its value; `None` if there was no row.
    Read(Option<(i64, u64)>),
    /// Wrote a value with this digest, or deleted the row with `None`. `version` is the returned one, if any.
    Write {
        /// The version.
        version: Option<i64>,
        /// The digest of the value.
        digest: Option<u64>,
    },
}

impl Operation {
    pub(super) fn is_read(&self) -> bool {
        matches!(self.kind, Kind::Read(_))
    }
}
