//! What a history records. Invariant: a time is read before an operation is called or after it returned, never in between.

use std::sync::Arc;

use cenote_cache::protocol::time::BootTime;

/// One read or write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// What was read or written.
    pub key: Arc<str>,
    /// Through which instance.
    pub instance: usize,
    /// Before it was called.
    pub invoked: BootTime,
    /// After it returned. `None` for a write of which it is not known whether it took place, and for one that is not
    /// settled: it may show up at any time.
    pub returned: Option<BootTime>,
    /// What it was.
    pub kind: Kind,
}

/// What an operation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Found a version with this digest of its value; `None` if there was no row.
    Read(Option<(i64, u64)>),
    /// Wrote a value with this digest, `None` to delete the row, and was told its version, if it was told anything.
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
