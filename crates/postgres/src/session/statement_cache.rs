//! The prepared statements of one connection, in a bounded cache. Invariant: a statement in the cache was prepared on
//! this connection.

use std::sync::{Mutex, MutexGuard, PoisonError};

use quick_cache::unsync::Cache;
use tokio_postgres::Statement;

use crate::session::side_effects::SideEffects;

/// A prepared statement, and the effects that its text shows.
#[derive(Clone)]
pub(crate) struct Prepared {
    pub(crate) statement: Statement,
    pub(crate) effects: SideEffects,
}

/// Prepared statements by their text.
pub(crate) struct StatementCache {
    /// The lock is held for a look-up or an insert, never across an await. Dropping an evicted statement only queues
    /// its Close message.
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

    /// Adds a statement. An evicted one is closed on the server.
    pub(crate) fn insert(&self, sql: &str, prepared: Prepared) {
        self.lock().insert(sql.into(), prepared);
    }

    pub(crate) fn remove(&self, sql: &str) {
        self.lock().remove(sql);
    }

    /// Forgets all statements, because the server may have.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Cache<Box<str>, Prepared>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
