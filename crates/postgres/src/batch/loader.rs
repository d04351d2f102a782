//! Look-ups by key, many callers at a time.
//!
//! Invariant: the statement changes nothing, so that it may be repeated; a row goes to the key whose position it
//! carries, or to nobody.

mod look_up;

use std::{fmt, hash::Hash, sync::Arc, time::Duration};

use tokio_postgres::{Row, types::ToSql};

pub use self::look_up::Decoded;
use self::look_up::{LookUp, LookUpRequest, LookUpResponse};
use crate::{BatchLimits, Batcher, Pool, QueueStats, Result};

/// Looks up the one row of a key; keys that are asked for while the database is busy go in one statement.
///
/// Where a key may have several rows, use [`LoaderMany`].
///
/// # The statement
///
/// It takes an array of keys, and its first column, which must be named `position` and be a `bigint`, says which of them
/// a row belongs to, counted from 1, as `unnest … WITH ORDINALITY` gives it. Rows may come in any order, and keys without
/// a row have none. It must change nothing: it may be repeated.
///
/// A statement of another shape is [`Error::WrongStatement`](crate::Error::WrongStatement) at the first look-up; so is a
/// position that none of the keys has. A second row for a key is
/// [`Error::SeveralRows`](crate::Error::SeveralRows) for those who asked for that key.
///
/// Where the planner takes a few keys to be cheaper than the ten or so that it expects of an array, PostgreSQL plans
/// the query for each batch anew, which can cost it more than running it. A condition that always holds, such as that
/// the position lies between 1 and a million, makes it expect one key: then the query is planned once.
///
/// # Reading a row
///
/// `read` makes the value of a row. What it refuses, or panics at, is an error of
/// those who asked for that key ([`Error::Decode`](crate::Error::Decode)); it is not repeated, and others in the same
/// statement do not notice.
///
/// Cloning a loader gives another handle to the same queue. A value is cloned only for those who ask for its key at the
/// same time: one that costs much to clone is best kept in an [`Arc`](std::sync::Arc).
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

/// Looks up all rows of a key, such as the orders of a customer. Otherwise as a [`Loader`].
///
/// The rows of a key come in the order in which the statement gives them.
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
            /// A loader for this statement within the [usual limits](BatchLimits::of); `read` makes the value of a row.
            pub fn new(pool: Pool, sql: impl Into<Arc<str>>, read: fn(Row) -> Decoded<V>) -> Self {
                let limits = BatchLimits::of(&pool);
                Self::with_limits(pool, sql, read, |_| size_of::<K>(), limits)
            }

            /// A loader with limits of its own. `bytes` tells about how many a key adds to a statement.
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

            /// A loader for each of the pool's [runtimes](Pool::per_runtime), see [`Batcher::per_runtime`].
            pub fn per_runtime(
                pool: &Pool,
                sql: impl Into<Arc<str>>,
                read: fn(Row) -> Decoded<V>,
                bytes: fn(&K) -> usize,
                limits: &BatchLimits,
            ) -> Vec<Self> {
                let (homes, sql) = (pool.per_runtime(), sql.into());
                homes
                    .map(|home| Self::with_limits(home, sql.clone(), read, bytes, limits.clone()))
                    .collect()
            }

            #[doc = $what]
            /// Those who ask for the same key at the same time share it.
            ///
            /// # Errors
            ///
            /// Those of [`Batcher::submit`], of the statement, and of reading the row.
            ///
            /// # Cancel safety
            ///
            /// Dropping the future harms nobody else in the same statement.
            ///
            /// # Panics
            ///
            /// Outside a tokio runtime.
            pub async fn load(&self, key: K) -> Result<$found> {
                self.0.submit(LookUpRequest::One(key)).await?.one()
            }

            /// Like [`load`](Self::load), with a bound on the wait; see [`Batcher::submit_within`].
            ///
            /// # Errors
            ///
            /// As [`load`](Self::load), and [`Error::Deadline`](crate::Error::Deadline).
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

            /// The same for many keys, in their order, all from one statement.
            ///
            /// # Errors
            ///
            /// As [`load`](Self::load), if it fails for any of them.
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

            /// Gives up the look-ups under way, see [`Batcher::abort`].
            pub fn abort(&self) {
                self.0.abort();
            }

            /// What it has done and is doing.
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
