//! The result of a read. Invariant: it says where the row was found and how far behind it may be.

use std::{sync::Arc, time::Duration};

use cenote_cache::Source;

/// The result of [`Table::read`](crate::Table::read).
#[derive(Debug)]
pub struct Read<V> {
    /// What was read of the row; `None` if there is no row.
    pub value: Option<Arc<V>>,
    /// The version of the row; `None` without a row. 0 in a table without versions.
    pub version: Option<i64>,
    /// Where it was found.
    pub source: Source,
    /// How far behind it may be: the read saw every write that was acknowledged this long before it began. Zero in the modes
    /// `local`, `strong` and `off`; `None` if nothing bounds it, as in `ttl` or for a stale value.
    pub age: Option<Duration>,
    /// Whether the database failed and this was known before.
    pub stale: bool,
}

impl<V> Clone for Read<V> {
    fn clone(&self) -> Self {
        Self {
            value: self.value.clone(),
            ..*self
        }
    }
}
