//! Finds rows by key. Invariant: each answer comes from a statement that was sent after the call.

use cenote_postgres::{Loader, tokio_postgres::types::ToSql};
use futures_util::future::BoxFuture;

use crate::{database::DatabaseError, key::Key};

/// A row, with its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<V> {
    /// Grows with every change of the row, and never starts again; 0 in a table without versions.
    pub version: i64,
    /// What was read of the row.
    pub value: V,
}

/// Finds the rows of a table by key. [`Sql`](crate::Sql) is one, and so is a [`Loader`].
///
/// # Cancel safety
///
/// The cache may drop the futures.
pub trait Load<K, V>: Send + Sync + 'static {
    /// Why the database did not answer.
    type Error: DatabaseError;

    /// Returns the rows of these keys, in their order; `None` for a key without a row. It must see everything that was
    /// committed before the call: read from the primary, and not in a snapshot that was taken earlier.
    fn load(&self, keys: Vec<K>) -> impl Future<Output = Result<Vec<Option<Versioned<V>>>, Self::Error>> + Send;

    /// Tries whether the table and its columns are there. [`Cached::check`](crate::Cached::check) asks.
    fn check(&self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        async { Ok(()) }
    }
}

impl<K, V> Load<K, V> for Loader<K, Versioned<V>>
where
    K: Key + ToSql,
    V: Clone + Send + Sync + 'static,
{
    type Error = cenote_postgres::Error;

    async fn load(&self, keys: Vec<K>) -> cenote_postgres::Result<Vec<Option<Versioned<V>>>> {
        self.load_many(keys).await
    }
}

type Rows<V> = Vec<Option<Versioned<V>>>;

/// A [`Load`] whose type is not known.
pub(crate) trait AnyLoad<K, V, E>: Send + Sync {
    fn load(&self, keys: Vec<K>) -> BoxFuture<'_, Result<Rows<V>, E>>;
    fn check(&self) -> BoxFuture<'_, Result<(), E>>;
}

impl<K: 'static, V: 'static, L: Load<K, V>> AnyLoad<K, V, L::Error> for L {
    fn load(&self, keys: Vec<K>) -> BoxFuture<'_, Result<Rows<V>, L::Error>> {
        Box::pin(Load::load(self, keys))
    }

    fn check(&self) -> BoxFuture<'_, Result<(), L::Error>> {
        Box::pin(Load::check(self))
    }
}
