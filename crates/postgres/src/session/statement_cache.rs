//! Prepared statements of one connection, bounded. Invariant: a statement in the cache was prepared
//! on this connection.

use std::sync::{Mutex, MutexGuard, PoisonError};

use quick_cache::unsync::Cache;
use tokio_postgres::Statement;

use crate::session::side_effects::SideEffects;

/// A prepared statement, and what its text told.
#[derive(Clone)]
pub(crate) struct Prepared {
    pub(crate) statement: Statement,
    pub(crate) effects: SideEffects,
}

/// Prepared statements by their text.
pub(crate) struct StatementCache {
    /// Held for a look-up or an insert, never across an await.
    cache: Mutex<Cache<Box<str>, Prepared>>,
}

impl StatementCache {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            cache: Mutex::new(Cache::new(capacity)),
        }
    }

    pub(crate) fn get(&self, sql: &str) -> Option<Prepared> {
        self.lock().get(sql).cloned()
    }

    /// Keeps a statement, and tells the server to forget the one that has to go for it.
    pub(crate) fn insert(&self, sql: &str, prepared: Prepared) {
        self.lock().insert(sql.into(), prepared);
    }

    pub(crate) fn remove(&self, sql: &str) {
        self.lock().remove(sql);
    }

    /// Forgets them all, because the server may have.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Cache<Box<str>, Prepared>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
