//! Look-ups by key, many callers at a time.
//!
//! Invariant: the statement changes nothing, so that it may be repeated.

use std::{collections::HashMap, hash::Hash, marker::PhantomData, sync::Arc, time::Duration};

use tokio_postgres::{Row, types::ToSql};

use crate::{Batch, Batcher, Error, Pool, Result};

/// Looks rows up by key; keys that are asked for while the database is busy go in one statement.
///
/// Cloning it gives another handle to the same queue.
///
/// ```no_run
/// use cenote_postgres::{Loader, Pool};
///
/// # async fn example(pool: Pool) -> cenote_postgres::Result<()> {
/// let names: Loader<i64, String> = Loader::new(
///     pool,
///     "SELECT wanted.position, item.name
///      FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (id, position)
///      JOIN item USING (id)",
///     |row| row.get(1),
/// );
/// // Called from many tasks at once, these share statements.
/// match names.load(7).await? {
///     Some(name) => println!("7 is {name}"),
///     None => println!("there is no 7"),
/// }
/// # Ok(())
/// # }
/// ```
pub struct Loader<K, V>(Batcher<LookUp<K, V>>)
where
    K: ToSql + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static;

struct LookUp<K, V> {
    pool: Pool,
    sql: &'static str,
    read: fn(&Row) -> V,
    keys: PhantomData<fn(K)>,
}

impl<K, V> Loader<K, V>
where
    K: ToSql + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// A loader for a query that takes an array of keys, and whose rows begin with the position of their key in
    /// it, from 1, as `unnest … WITH ORDINALITY` gives it. Keys without a row have none. `read` makes the value of
    /// a row.
    ///
    /// The query must change nothing: it may be repeated.
    pub fn new(pool: Pool, sql: &'static str, read: fn(&Row) -> V) -> Self {
        let look_up = LookUp::new(pool.clone(), sql, read);
        Self(Batcher::new(look_up, &pool))
    }

    /// A loader for each of the pool's [homes](Pool::homes), see [`Batcher::per_home`].
    pub fn per_home(pool: &Pool, sql: &'static str, read: fn(&Row) -> V) -> Vec<Self> {
        let batchers = Batcher::per_home(pool, |home| LookUp::new(home, sql, read));
        batchers.into_iter().map(Self).collect()
    }

    /// The value of a key, if it has one. Those who ask for the same key at the same time share it.
    ///
    /// # Errors
    ///
    /// [`Error::QueueFull`](crate::Error::QueueFull) if as many callers wait as the pool's `max_waiters` allows;
    /// otherwise those of the statement.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future harms nobody else in the same statement.
    pub async fn load(&self, key: K) -> Result<Option<Arc<V>>> {
        self.0.submit(key).await
    }

    /// Gives up the look-ups under way, see [`Batcher::abort`].
    pub fn abort(&self) {
        self.0.abort();
    }
}

impl<K, V> Clone for Loader<K, V>
where
    K: ToSql + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, V> Batch for LookUp<K, V>
where
    K: ToSql + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    type Request = K;
    type Response = Option<Arc<V>>;

    /// Keys are small: what bounds a batch of them is their number.
    fn weight(&self, _: &K) -> usize {
        0
    }

    async fn run(&self, keys: Vec<K>, waited: Duration) -> Vec<Result<Option<Arc<V>>>> {
        match self.look_up(&keys, waited).await {
            Ok(found) => found.into_iter().map(Ok).collect(),
            Err(error) => keys.iter().map(|_| Err(error.clone())).collect(),
        }
    }
}

impl<K, V> LookUp<K, V>
where
    K: ToSql + Eq + Hash + Send + Sync + 'static,
{
    fn new(pool: Pool, sql: &'static str, read: fn(&Row) -> V) -> Self {
        Self {
            pool,
            sql,
            read,
            keys: PhantomData,
        }
    }

    /// What there is for each key, in their order. A key that is wanted more than once is asked for once.
    async fn look_up(&self, keys: &[K], waited: Duration) -> Result<Vec<Option<Arc<V>>>> {
        let mut wanted = Vec::with_capacity(keys.len());
        let mut places = HashMap::with_capacity(keys.len());
        let place = |key| {
            *places.entry(key).or_insert_with(|| {
                wanted.push(key);
                wanted.len() - 1
            })
        };
        let order: Vec<usize> = keys.iter().map(place).collect();
        let (pool, sql, wanted) = (&self.pool, self.sql, &wanted);
        let rows = pool
            .retry_idempotent(|| async move {
                let connection = pool.get_after(waited).await?;
                connection.query(sql, &[wanted]).await
            })
            .await?;
        let mut found: Vec<Option<Arc<V>>> = wanted.iter().map(|_| None).collect();
        for row in rows {
            let position: i64 = row
                .try_get(0)
                .map_err(|error| Error::NotUnderstood(Arc::new(error)))?;
            let index = usize::try_from(position - 1).unwrap_or(usize::MAX);
            if let Some(slot) = found.get_mut(index) {
                *slot = Some(Arc::new((self.read)(&row)));
            }
        }
        Ok(order
            .into_iter()
            .map(|place| found[place].clone())
            .collect())
    }
}
