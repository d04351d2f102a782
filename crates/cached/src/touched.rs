//! The keys that a transaction changes. Invariant: each is listed once, in the order of their texts, so that all writers fence
//! in the same order.

use std::collections::BTreeSet;

use crate::{database::DatabaseError, key::Key, table::Table};

/// The keys that a transaction changes, of any number of tables of one [`Cached`](crate::Cached).
///
/// Add a key before or after the statement that changes its row: what is listed at the commit counts. A row whose key changes
/// has two.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched(BTreeSet<String>);

impl Touched {
    /// Creates an empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key.
    pub fn add<K: Key, V: Send + Sync + 'static, E: DatabaseError>(&mut self, table: &Table<K, V, E>, key: &K) {
        self.0.insert(table.text(key));
    }

    /// Adds several keys.
    pub fn add_many<'a, K: Key, V: Send + Sync + 'static, E: DatabaseError>(
        &mut self,
        table: &Table<K, V, E>,
        keys: impl IntoIterator<Item = &'a K>,
    ) {
        self.0.extend(keys.into_iter().map(|key| table.text(key)));
    }

    /// Whether no key was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The texts of the keys in the cache.
    pub(crate) fn texts(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }
}
