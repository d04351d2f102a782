//! Users. Invariant: no two users have the same e-mail address, as [`email_key`] compares them. An index ensures it.

pub(super) mod email_key;
mod listing;
mod user;

use std::sync::Arc;

use cenote_postgres::{
    BatchLimits, Error, Loader, Pool, QueueStats, Result,
    tokio_postgres::{error::SqlState, types::ToSql},
};

use self::listing::Listing;
pub(crate) use self::user::{User, UserRow};
use crate::store::SchemaName;

/// Reads many users. `$1`: their ids. The clauses are those of the statement that reads keys, see `keys/sql.rs`.
const GET: &str = "/* user.get */ SELECT wanted.position, users.id::bigint, users.name, users.email \
     FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (id, position) \
     JOIN {schema}.users ON users.id = wanted.id \
     WHERE wanted.position BETWEEN 1 AND 1000000000";

/// Adds a user. `$1`: the name, `$2`: the address, `$3`: its key, or null for an ASCII address.
const ADD: &str = "/* user.add */ INSERT INTO {schema}.users (name, email, email_key) VALUES ($1, $2, $3) \
     RETURNING id::bigint, name, email";

/// The users, on one core. Clones share everything.
#[derive(Clone)]
pub(crate) struct Users {
    pool: Pool,
    /// Looks users up, those of concurrent callers in one statement.
    loader: Loader<i64, Arc<UserRow>>,
    add: Arc<str>,
    pub(crate) listing: Listing,
}

impl Users {
    /// Creates a handle for each of the pool's runtimes.
    pub(super) fn per_runtime(pool: &Pool, limits: &BatchLimits, schema: &SchemaName) -> Vec<Self> {
        let decode = |row| Ok(Arc::new(UserRow(row)));
        let loaders = Loader::per_runtime(pool, schema.fill(GET), decode, |_| size_of::<i64>(), limits);
        let add: Arc<str> = schema.fill(ADD).into();
        let listings = Listing::per_runtime(pool, schema);
        let users = |((pool, loader), listing)| Self {
            pool,
            loader,
            add: add.clone(),
            listing,
        };
        pool.per_runtime().zip(loaders).zip(listings).map(users).collect()
    }

    /// Reads the user with this id.
    pub(crate) async fn get(&self, id: i64) -> Result<Option<Arc<UserRow>>> {
        self.loader.load(id).await
    }

    /// Adds a user. Returns `None` if another user has the address.
    pub(crate) async fn add(&self, name: &str, email: &str) -> Result<Option<UserRow>> {
        let (pool, key) = (&self.pool, email_key::key(email));
        let (add, parameters): (_, [&(dyn ToSql + Sync); 3]) = (&self.add, [&name, &email, &key]);
        let added = pool
            .retry(|| async { pool.get().await?.query_one(add, &parameters).await })
            .await;
        match added {
            Ok(row) => Ok(Some(UserRow(row))),
            Err(error) if is_email_taken(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the statistics of the queue of reads.
    pub(super) fn queue(&self) -> QueueStats {
        self.loader.stats()
    }

    /// Cancels the statements in progress whose callers have gone.
    pub(super) fn abort(&self) {
        self.loader.abort();
    }
}

/// Whether the address is taken. An adopted table may have another unique constraint on it than ours. A violation that names
/// the id is another matter: the sequence is behind the table.
fn is_email_taken(error: &Error) -> bool {
    let Error::Database(refused) = error else {
        return false;
    };
    let is_of_id = |detail: &str| detail.contains("(id)=");
    refused.code() == &SqlState::UNIQUE_VIOLATION && !refused.detail().is_some_and(is_of_id)
}
