//! The prepared statements of one connection, in a bounded cache. Invariant: a statement in the cache was prepared on
//! this connection.

use std::{
    borrow::Cow,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use quick_cache::unsync::Cache;
use tokio_postgres::{Statement, types::Type};

use crate::session::side_effects::SideEffects;

/// A prepared statement, its [`key`], and the effects that its text shows.
#[derive(Clone)]
pub(crate) struct Prepared {
    pub(crate) key: Arc<str>,
    pub(crate) statement: Statement,
    pub(crate) effects: SideEffects,
}

/// The name of a statement in the cache: its text, and behind a zero byte, which no text has, the types that were asked for.
pub(super) fn key<'a>(sql: &'a str, types: &[Type]) -> Cow<'a, str> {
    if types.is_empty() {
        return Cow::Borrowed(sql);
    }
    let mut key = format!("{sql}\0");
    for kind in types {
        let _infallible = write!(key, "{},", kind.oid());
    }
    Cow::Owned(key)
}

/// Returns the text in a [`key`].
pub(super) fn text_of(key: &str) -> &str {
    key.split('\0').next().unwrap_or_default()
}

/// Prepared statements by their [`key`].
pub(crate) struct StatementCache {
    /// The lock is held for a look-up or an insert, never across an await. Dropping an evicted statement only queues
    /// its Close message.
    cache: Mutex<Cache<Arc<str>, Prepared>>,
}

impl StatementCache {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            cache: Mutex::new(Cache::new(capacity)),
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<Prepared> {
        self.lock().get(key).cloned()
    }

    /// Adds a statement under its key. An evicted one is closed on the server.
    pub(crate) fn insert(&self, prepared: Prepared) {
        self.lock().insert(prepared.key.clone(), prepared);
    }

    pub(crate) fn remove(&self, key: &str) {
        self.lock().remove(key);
    }

    /// Forgets all statements, because the server may have.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Cache<Arc<str>, Prepared>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key of the statement that was prepared last and not yet run. Calls that run at the same time on one connection may be
/// counted under one another's name.
#[derive(Debug, Default)]
pub(crate) struct Announced(Mutex<Option<Arc<str>>>);

impl Announced {
    pub(super) fn put(&self, key: Arc<str>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
    }

    pub(super) fn take(&self) -> Option<Arc<str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
