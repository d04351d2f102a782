//! What is kept in PostgreSQL. Invariant: all SQL of the service is in here, and each statement has one place.

mod keys;
pub(crate) mod schema;
mod users;

use cenote_postgres::{Batcher, Loader, Pool};

pub(crate) use self::{keys::Value, users::User};

/// Keys and users. Their methods are in `keys` and `users`.
#[derive(Clone)]
pub(crate) struct Store {
    pool: Pool,
    values: Loader<String, Value>,
    writes: Batcher<keys::Writes>,
    users: Loader<i64, User>,
}

impl Store {
    pub(crate) fn new(pool: Pool) -> Self {
        Self {
            values: keys::loader(pool.clone()),
            writes: keys::writes(pool.clone()),
            users: users::loader(pool.clone()),
            pool,
        }
    }

    /// Gives up what is under way for callers that have gone: their statements are cancelled.
    pub(crate) fn abort(&self) {
        self.values.abort();
        self.users.abort();
        self.writes.abort();
    }
}
