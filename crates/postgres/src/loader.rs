//! Look-ups by key, many callers at a time.
//!
//! Invariant: the statement changes nothing, so that it may be repeated.

use tokio_postgres::{Row, types::ToSql};

use crate::{Batch, Batcher, Pool, Result};

/// Looks rows up by key; keys that are asked for while the database is busy go in one statement.
///
/// Cloning it gives another handle to the same queue.
pub struct Loader<K, V>(Batcher<LookUp<K, V>>)
where
    K: ToSql + Send + Sync + 'static,
    V: Send + 'static;

struct LookUp<K, V> {
    pool: Pool,
    sql: &'static str,
    read: fn(&Row) -> V,
    keys: std::marker::PhantomData<fn(K)>,
}

impl<K, V> Loader<K, V>
where
    K: ToSql + Send + Sync + 'static,
    V: Send + 'static,
{
    /// A loader for a query that takes an array of keys, and whose rows begin with the position of their key in
    /// it, from 1, as `unnest … WITH ORDINALITY` gives it. Keys without a row have none. `read` makes the value of
    /// a row.
    ///
    /// The query must change nothing: it may be repeated.
    pub fn new(pool: Pool, sql: &'static str, read: fn(&Row) -> V) -> Self {
        let most_waiting = pool.config().pool.max_waiters as usize;
        let look_up = LookUp {
            pool,
            sql,
            read,
            keys: std::marker::PhantomData,
        };
        Self(Batcher::new(look_up, most_waiting))
    }

    /// The value of a key, if it has one.
    ///
    /// # Errors
    ///
    /// [`Error::QueueFull`](crate::Error::QueueFull) if as many callers wait as the pool's `max_waiters` allows;
    /// otherwise those of the statement.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future harms nobody else in the same statement.
    pub async fn load(&self, key: K) -> Result<Option<V>> {
        self.0.submit(key).await
    }

    /// Gives up the look-ups under way, see [`Batcher::abort`].
    pub fn abort(&self) {
        self.0.abort();
    }
}

impl<K, V> Clone for Loader<K, V>
where
    K: ToSql + Send + Sync + 'static,
    V: Send + 'static,
{
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, V> Batch for LookUp<K, V>
where
    K: ToSql + Send + Sync + 'static,
    V: Send + 'static,
{
    type Request = K;
    type Response = Option<V>;

    /// Keys are small: what bounds a batch of them is their number.
    fn weight(&self, _: &K) -> usize {
        0
    }

    async fn run(&self, keys: Vec<K>) -> Vec<Result<Option<V>>> {
        let (pool, sql, wanted) = (&self.pool, self.sql, &keys);
        let rows = pool
            .retry_idempotent(|| async move { pool.get().await?.query(sql, &[wanted]).await })
            .await;
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) => return keys.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut found: Vec<Option<V>> = keys.iter().map(|_| None).collect();
        for row in &rows {
            let position = row.try_get::<_, i64>(0).unwrap_or(0);
            let index = usize::try_from(position - 1).unwrap_or(usize::MAX);
            if let Some(slot) = found.get_mut(index) {
                *slot = Some((self.read)(row));
            }
        }
        found.into_iter().map(Ok).collect()
    }
}
