//! Prepared statements of one connection, bounded. Invariant: a statement in the cache was prepared
//! on this connection.

use std::sync::{Mutex, MutexGuard, PoisonError};

use quick_cache::unsync::Cache;
use tokio_postgres::Statement;

/// Prepared statements by their text.
pub(crate) struct Statements {
    /// Held for a look-up or an insert, never across an await.
    cache: Mutex<Cache<Box<str>, Statement>>,
}

impl Statements {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            cache: Mutex::new(Cache::new(capacity)),
        }
    }

    pub(crate) fn get(&self, sql: &str) -> Option<Statement> {
        self.lock().get(sql).cloned()
    }

    /// Keeps a statement, and tells the server to forget the one that has to go for it.
    pub(crate) fn insert(&self, sql: &str, statement: Statement) {
        self.lock().insert(sql.into(), statement);
    }

    pub(crate) fn remove(&self, sql: &str) {
        self.lock().remove(sql);
    }

    fn lock(&self) -> MutexGuard<'_, Cache<Box<str>, Statement>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
