//! What the cache needs of a database besides rows. Invariant: a driver has to do one thing.

use std::{error::Error, time::Duration};

use cenote_postgres::{InvalidConfig, Pool};
use futures_util::future::BoxFuture;

/// The error of a database: all reads that share a look-up get a clone.
pub trait DatabaseError: Error + Clone + Send + Sync + 'static {}

impl<E: Error + Clone + Send + Sync + 'static> DatabaseError for E {}

/// Runs the few statements about the epoch: see `docs/coherence.md`.
///
/// It must reach the primary, and should have a connection for this alone: an exhausted pool must not stop the cache.
///
/// # Cancel safety
///
/// The cache may drop the future.
pub trait Database: Send + Sync + 'static {
    /// Why the database did not answer.
    type Error: DatabaseError;

    /// Runs a statement without parameters as a transaction by itself. Returns the first column, a text, of its first row;
    /// `None` if there is no row. It must answer or fail within half a second.
    fn run(&self, sql: &str) -> impl Future<Output = Result<Option<String>, Self::Error>> + Send;

    /// Whether this error lasts until someone changes something, such as a missing table. Writes are then refused without
    /// waiting.
    fn is_permanent(&self, error: &Self::Error) -> bool {
        let _ = error;
        false
    }

    /// Closes what it has open. [`Cached::close`](crate::Cached::close) asks.
    fn close(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// A [`Database`] whose type is not known.
pub(crate) trait AnyDatabase<E>: Send + Sync {
    fn run<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Result<Option<String>, E>>;
    fn is_permanent(&self, error: &E) -> bool;
    fn close(&self) -> BoxFuture<'_, ()>;
}

impl<D: Database> AnyDatabase<D::Error> for D {
    fn run<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Result<Option<String>, D::Error>> {
        Box::pin(Database::run(self, sql))
    }

    fn is_permanent(&self, error: &D::Error) -> bool {
        Database::is_permanent(self, error)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(Database::close(self))
    }
}

/// One connection beside a pool.
pub(crate) struct BesidePool(Pool);

impl BesidePool {
    /// Opens it with the configuration of `pool`. A statement waits for at most `timeout` for the connection, and as long
    /// again for its result.
    pub(crate) fn new(pool: &Pool, timeout: Duration) -> Result<Self, InvalidConfig> {
        Ok(Self(pool.beside("epoch", timeout)?))
    }
}

impl Database for BesidePool {
    type Error = cenote_postgres::Error;

    async fn run(&self, sql: &str) -> cenote_postgres::Result<Option<String>> {
        let row = self.0.get().await?.query_opt(sql, &[]).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// A missing table or privilege, for example.
    fn is_permanent(&self, error: &cenote_postgres::Error) -> bool {
        match error {
            cenote_postgres::Error::Database(refused) => {
                !error.is_retryable() && refused.code().code().starts_with("42")
            }
            cenote_postgres::Error::Acquire(refused) => !refused.is_retryable(),
            _ => false,
        }
    }

    async fn close(&self) {
        self.0.close().await;
    }
}
