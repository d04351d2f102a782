//! Look-ups by key, many callers at a time.
//!
//! Invariant: the statement changes nothing, so that it may be repeated.

use std::{collections::HashMap, hash::Hash, ops::Range, slice, sync::Arc, time::Duration};

use tokio_postgres::{Row, types::ToSql};

use crate::{Batch, Batcher, Calls, Error, Limits, Pool, Pooled, QueueStats, Result, Weight};

/// Looks rows up by key; keys that are asked for while the database is busy go in one statement.
///
/// Cloning it gives another handle to the same queue. A value is cloned only for those who ask for its key at the same
/// time: one that costs much to clone is best kept in an [`Arc`].
///
/// ```no_run
/// use cenote_postgres::{Loader, Pool};
///
/// # async fn example(pool: Pool) -> cenote_postgres::Result<()> {
/// let names: Loader<i64, String> = Loader::new(
///     pool,
///     "SELECT wanted.position, item.name
///      FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (id, position)
///      JOIN item USING (id)
///      WHERE wanted.position BETWEEN 1 AND 1000000", // so that it is planned once: see `Loader::new`
///     |row| row.get(1),
/// );
/// // Called from many tasks at once, these share statements.
/// match names.load(7).await? {
///     Some(name) => println!("7 is {name}"),
///     None => println!("there is no 7"),
/// }
/// let many = names.load_many(vec![1, 2, 3]).await?; // in one round trip, with others' keys or alone
/// assert_eq!(many.len(), 3);
/// # Ok(())
/// # }
/// ```
pub struct Loader<K, V>(Batcher<LookUp<K, V>>)
where
    K: ToSql + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static;

struct LookUp<K, V> {
    pool: Pool,
    sql: &'static str,
    read: fn(Row) -> V,
    bytes: fn(&K) -> usize,
}

/// What one caller asks for.
enum Wanted<K> {
    One(K),
    Many(Vec<K>),
}

/// What there is for it.
enum Found<V> {
    One(Option<V>),
    Many(Vec<Option<V>>),
}

impl<K, V> Loader<K, V>
where
    K: ToSql + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// A loader for a query that takes an array of keys, and whose rows begin with the position of their key in
    /// it, from 1, as `unnest … WITH ORDINALITY` gives it. Keys without a row have none. `read` makes the value of
    /// a row.
    ///
    /// The query must change nothing: it may be repeated.
    ///
    /// Where the planner takes a few keys to be cheaper than the ten or so that it expects of an array, PostgreSQL plans
    /// the query for each batch anew, which can cost it more than running it. A condition that always holds, such as that
    /// the position lies between 1 and a million, makes it expect one key: then the query is planned once.
    pub fn new(pool: Pool, sql: &'static str, read: fn(Row) -> V) -> Self {
        let limits = Limits::of(&pool);
        Self::with_limits(pool, sql, read, |_| size_of::<K>(), limits)
    }

    /// A loader with limits of its own. `bytes` tells about how many a key adds to a statement.
    pub fn with_limits(
        pool: Pool,
        sql: &'static str,
        read: fn(Row) -> V,
        bytes: fn(&K) -> usize,
        limits: Limits,
    ) -> Self {
        let look_up = LookUp {
            pool: pool.clone(),
            sql,
            read,
            bytes,
        };
        Self(Batcher::with_limits(look_up, &pool, limits))
    }

    /// A loader for each of the pool's [homes](Pool::homes), see [`Batcher::per_home`].
    pub fn per_home(
        pool: &Pool,
        sql: &'static str,
        read: fn(Row) -> V,
        bytes: fn(&K) -> usize,
        limits: &Limits,
    ) -> Vec<Self> {
        let homes = pool.homes();
        homes
            .map(|home| Self::with_limits(home, sql, read, bytes, limits.clone()))
            .collect()
    }

    /// The value of a key, if it has one. Those who ask for the same key at the same time share it.
    ///
    /// # Errors
    ///
    /// Those of [`Batcher::submit`], and of the statement.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future harms nobody else in the same statement.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn load(&self, key: K) -> Result<Option<V>> {
        let found = self.0.submit(Wanted::One(key)).await?;
        Ok(found.one())
    }

    /// As [`load`](Self::load), for a caller that waits for so long at most; see [`Batcher::submit_within`].
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load), and [`Error::Deadline`].
    ///
    /// # Cancel safety
    ///
    /// As [`load`](Self::load).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn load_within(&self, key: K, limit: Duration) -> Result<Option<V>> {
        let found = self.0.submit_within(Wanted::One(key), limit).await?;
        Ok(found.one())
    }

    /// The values of many keys, in their order, all from one statement.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    ///
    /// # Cancel safety
    ///
    /// As [`load`](Self::load).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn load_many(&self, keys: Vec<K>) -> Result<Vec<Option<V>>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        match self.0.submit(Wanted::Many(keys)).await? {
            Found::Many(values) => Ok(values),
            Found::One(value) => Ok(vec![value]),
        }
    }

    /// Gives up the look-ups under way, see [`Batcher::abort`].
    pub fn abort(&self) {
        self.0.abort();
    }

    /// What it has done and is doing.
    pub fn stats(&self) -> QueueStats {
        self.0.stats()
    }
}

impl<K, V> Clone for Loader<K, V>
where
    K: ToSql + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> Wanted<K> {
    fn keys(&self) -> &[K] {
        match self {
            Self::One(key) => slice::from_ref(key),
            Self::Many(keys) => keys,
        }
    }
}

impl<V> Found<V> {
    fn one(self) -> Option<V> {
        match self {
            Self::One(value) => value,
            Self::Many(values) => values.into_iter().next().flatten(),
        }
    }
}

impl<K, V> Batch for LookUp<K, V>
where
    K: ToSql + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    type Request = Wanted<K>;
    type Response = Found<V>;

    fn weight(&self, wanted: &Wanted<K>) -> Weight {
        let keys = wanted.keys();
        Weight {
            rows: keys.len(),
            bytes: keys.iter().map(self.bytes).sum(),
        }
    }

    fn key(&self, _: &Wanted<K>) -> Option<u64> {
        None
    }

    async fn run(&self, connection: Pooled<'_>, calls: &Calls<Self>) {
        let mut connection = Some(connection);
        // What is still to be looked up; the part that comes first is on top.
        let mut parts = Vec::new();
        parts.push(0..calls.requests().len());
        while let Some(part) = parts.pop() {
            let wanted = &calls.requests()[part.clone()];
            match self.look_up(&mut connection, wanted).await {
                Ok(found) => answer(calls, part, found),
                // One key is to blame: the others need not suffer.
                Err(error) if part.len() > 1 && error.is_about_data() => {
                    let middle = part.start + part.len() / 2;
                    parts.extend([middle..part.end, part.start..middle]);
                }
                Err(error) => calls.answer_each(part, |_| Err(error.clone())),
            }
        }
    }
}

/// Answers each call of a part with as many of the values as it has keys.
fn answer<K, V>(calls: &Calls<LookUp<K, V>>, part: Range<usize>, found: Vec<Option<V>>)
where
    K: ToSql + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    let mut found = found.into_iter();
    calls.answer_each(part, |call| {
        Ok(match &calls.requests()[call] {
            Wanted::One(_) => Found::One(found.next().flatten()),
            Wanted::Many(keys) => Found::Many(found.by_ref().take(keys.len()).collect()),
        })
    });
}

impl<K, V> LookUp<K, V>
where
    K: ToSql + Eq + Hash + Send + Sync + 'static,
    V: Clone,
{
    /// What there is for each key, in their order. A key that is wanted more than once is asked for once.
    async fn look_up<'p>(
        &'p self,
        connection: &mut Option<Pooled<'p>>,
        wanted: &[Wanted<K>],
    ) -> Result<Vec<Option<V>>> {
        let mut keys = Vec::with_capacity(wanted.len());
        let mut places = HashMap::with_capacity(wanted.len());
        let place = |key| {
            *places.entry(key).or_insert_with(|| {
                keys.push(key);
                keys.len() - 1
            })
        };
        let all = wanted.iter().flat_map(Wanted::keys);
        let order: Vec<usize> = all.map(place).collect();
        let rows = self.ask(connection, &keys).await?;
        let mut found: Vec<Option<V>> = keys.iter().map(|_| None).collect();
        for row in rows {
            let position: i64 = row
                .try_get(0)
                .map_err(|error| Error::NotUnderstood(Arc::new(error)))?;
            let index = usize::try_from(position - 1).unwrap_or(usize::MAX);
            if let Some(slot) = found.get_mut(index) {
                *slot = Some((self.read)(row));
            }
        }
        if keys.len() == order.len() {
            return Ok(found);
        }
        let values = order.into_iter().map(|place| found[place].clone());
        Ok(values.collect())
    }

    /// On this connection, or if it was lost on another.
    async fn ask<'p>(
        &'p self,
        connection: &mut Option<Pooled<'p>>,
        keys: &[&K],
    ) -> Result<Vec<Row>> {
        let mut tries = self.pool.config().retry.tries();
        loop {
            let asked = match connection.take() {
                Some(connection) => connection,
                None => self.pool.get().await?,
            };
            match asked.query(self.sql, &[&keys]).await {
                Err(error) if error.is_retryable() => {
                    drop(asked);
                    if !tries.again(&error).await {
                        return Err(error);
                    }
                }
                answer => {
                    *connection = Some(asked);
                    return answer;
                }
            }
        }
    }
}
