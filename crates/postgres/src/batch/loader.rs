//! Looks rows up by key for many callers at a time.
//!
//! Invariant: the statement changes nothing, so it may be repeated. A row goes to the key whose position it has, or to
//! no caller.

mod look_up;

use std::{fmt, hash::Hash, sync::Arc, time::Duration};

use tokio_postgres::{Row, types::ToSql};

pub use self::look_up::Decoded;
use self::look_up::{LookUp, LookUpRequest, LookUpResponse};
use crate::{BatchLimits, Batcher, Pool, QueueStats, Result};

/// Looks up the row of a key. Keys that are asked for while the database is busy share one statement.
///
/// Use [`LoaderMany`] where a key may have several rows.
///
/// # The statement
///
/// Its only parameter is an array of keys. Its first column must be named `position`, be a `bigint`, and tell which key
/// a row belongs to, counted from 1, as `unnest … WITH ORDINALITY` does. Rows may come in any order; keys without a row
/// have none. The statement must change nothing, because it may be repeated.
///
/// A statement of another shape fails at the first look-up with
/// [`Error::WrongStatement`](crate::Error::WrongStatement); so does a position that no key has. If a key has a second
/// row, the callers that asked for it get [`Error::SeveralRows`](crate::Error::SeveralRows).
///
/// Add a condition that always holds, such as a position between 1 and a million. The planner then expects one key
/// instead of about ten and plans the query once. Without it PostgreSQL may plan the query again for each batch, which
/// can cost more than running it.
///
/// # Reading a row
///
/// `read` makes the value of a row. If it returns an error or panics, the callers that asked for the key get
/// [`Error::Decode`](crate::Error::Decode), and the statement is not repeated. Other keys of the statement are not
/// affected.
///
/// A clone is another handle to the same queue. Values are cloned only for callers that ask for the same key at the
/// same time; keep a value that is costly to clone in an [`Arc`](std::sync::Arc).
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
///      WHERE wanted.position BETWEEN 1 AND 1000000", // so that it is planned once
///     |row| Ok(row.try_get(1)?),
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
pub struct Loader<K, V>(Batcher<LookUp<K, V, Option<V>>>)
where
    K: ToSql + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static;

/// Looks up all rows of a key, such as the orders of a customer. Otherwise like [`Loader`].
///
/// The values of a key are in the order of the rows.
///
/// ```no_run
/// use cenote_postgres::{LoaderMany, Pool};
///
/// # async fn example(pool: Pool) -> cenote_postgres::Result<()> {
/// let orders: LoaderMany<i64, i64> = LoaderMany::new(
///     pool,
///     "SELECT wanted.position, purchase.id
///      FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (customer, position)
///      JOIN purchase USING (customer)
///      ORDER BY purchase.id",
///     |row| Ok(row.try_get(1)?),
/// );
/// println!("customer 7 has the orders {:?}", orders.load(7).await?); // empty if there are none
/// # Ok(())
/// # }
/// ```
pub struct LoaderMany<K, V>(Batcher<LookUp<K, V, Vec<V>>>)
where
    K: ToSql + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static;

macro_rules! loader {
    ($name:ident, $found:ty, $what:literal) => {
        impl<K, V> $name<K, V>
        where
            K: ToSql + Eq + Hash + Send + Sync + 'static,
            V: Clone + Send + Sync + 'static,
        {
            /// Creates a loader for this statement with the [default limits](BatchLimits::of). `read` makes the value
            /// of a row.
            pub fn new(pool: Pool, sql: impl Into<Arc<str>>, read: fn(Row) -> Decoded<V>) -> Self {
                let limits = BatchLimits::of(&pool);
                Self::with_limits(pool, sql, read, |_| size_of::<K>(), limits)
            }

            /// Creates a loader with these limits. `bytes` returns the approximate number of bytes that a key adds to a
            /// statement.
            pub fn with_limits(
                pool: Pool,
                sql: impl Into<Arc<str>>,
                read: fn(Row) -> Decoded<V>,
                bytes: fn(&K) -> usize,
                limits: BatchLimits,
            ) -> Self {
                let look_up = LookUp::new(pool.clone(), sql.into(), read, bytes);
                Self(Batcher::with_limits(look_up, &pool, limits))
            }

            /// Creates a loader for each of the pool's [runtimes](Pool::per_runtime). See [`Batcher::per_runtime`].
            pub fn per_runtime(
                pool: &Pool,
                sql: impl Into<Arc<str>>,
                read: fn(Row) -> Decoded<V>,
                bytes: fn(&K) -> usize,
                limits: &BatchLimits,
            ) -> Vec<Self> {
                let (runtimes, sql) = (pool.per_runtime(), sql.into());
                runtimes
                    .map(|pool| Self::with_limits(pool, sql.clone(), read, bytes, limits.clone()))
                    .collect()
            }

            #[doc = $what]
            /// Callers that ask for the same key at the same time share one look-up.
            ///
            /// # Errors
            ///
            /// Those of [`Batcher::submit`], of the statement, and of reading the row.
            ///
            /// # Cancel safety
            ///
            /// Safe: other callers of the same statement are not affected.
            ///
            /// # Panics
            ///
            /// Outside a tokio runtime.
            pub async fn load(&self, key: K) -> Result<$found> {
                self.0.submit(LookUpRequest::One(key)).await?.one()
            }

            /// Like [`load`](Self::load), with a deadline. See [`Batcher::submit_within`].
            ///
            /// # Errors
            ///
            /// Those of [`load`](Self::load), and [`Error::Deadline`](crate::Error::Deadline).
            ///
            /// # Cancel safety
            ///
            /// As [`load`](Self::load).
            ///
            /// # Panics
            ///
            /// Outside a tokio runtime.
            pub async fn load_within(&self, key: K, limit: Duration) -> Result<$found> {
                let found = self.0.submit_within(LookUpRequest::One(key), limit).await?;
                found.one()
            }

            /// Looks up many keys with one statement and returns the results in the order of the keys.
            ///
            /// # Errors
            ///
            /// Those of [`load`](Self::load), if it fails for any of the keys.
            ///
            /// # Cancel safety
            ///
            /// As [`load`](Self::load).
            ///
            /// # Panics
            ///
            /// Outside a tokio runtime.
            pub async fn load_many(&self, keys: Vec<K>) -> Result<Vec<$found>> {
                if keys.is_empty() {
                    return Ok(Vec::new());
                }
                match self.0.submit(LookUpRequest::Many(keys)).await? {
                    LookUpResponse::Many(found) => found.into_iter().collect(),
                    LookUpResponse::One(found) => Ok(vec![found?]),
                }
            }

            /// Drops the batches that run. See [`Batcher::abort`].
            pub fn abort(&self) {
                self.0.abort();
            }

            /// Returns statistics.
            pub fn stats(&self) -> QueueStats {
                self.0.stats()
            }
        }

        impl<K, V> Clone for $name<K, V>
        where
            K: ToSql + Eq + Hash + Send + Sync + 'static,
            V: Clone + Send + Sync + 'static,
        {
            fn clone(&self) -> Self {
                Self(self.0.clone())
            }
        }

        impl<K, V> fmt::Debug for $name<K, V>
        where
            K: ToSql + Eq + Hash + Send + Sync + 'static,
            V: Clone + Send + Sync + 'static,
        {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.stats()).finish()
            }
        }
    };
}

loader!(Loader, Option<V>, "Returns the value of a key, if it has one.");
loader!(LoaderMany, Vec<V>, "Returns the values of a key; empty if it has none.");
