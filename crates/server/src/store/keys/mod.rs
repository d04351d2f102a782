//! Keys and their values.
//!
//! Invariant: a key's version grows with every write and every delete of every instance, and never starts again: a deleted
//! key keeps its row.

mod change;
mod change_batch;
mod condition;
mod fenced_commit;
mod size_note;
mod sql;
mod values;

use std::{sync::Arc, time::Duration};

use cenote_cache::{Cache, NotFenced, Read, Source, Value};
use cenote_postgres::{BatchLimits, Combiner, Error, Pool, QueueStats, tokio_postgres::error::SqlState};
use futures_util::future::try_join_all;
use tokio::time::Instant;

pub(crate) use self::{
    change::{Change, ChangeOutcome, Committed, WriteError},
    condition::{ABSENT, Condition},
    size_note::{is_size_note, noted_size},
    values::Values,
};
use self::{
    change_batch::{KeyChanges, RowOutcome},
    fenced_commit::FencedCommit,
    size_note::value_or_note,
};
use crate::store::SchemaName;

/// The keys, on one core. Clones share everything.
#[derive(Clone)]
pub(crate) struct Keys {
    pool: Pool,
    values: Values,
    /// `None` where nothing is cached.
    cache: Option<Cache<Values>>,
    changes: Combiner<KeyChanges>,
    read_large: Arc<str>,
    forget: Arc<str>,
    /// How long a write waits until its key can be fenced.
    write_timeout: Duration,
}

/// How long writes may take.
pub(super) struct WriteTimeouts {
    /// Waiting until the key can be fenced.
    pub(super) fence: Duration,
    /// After this time the server itself ends a statement (`statement_timeout`).
    pub(super) statement: Duration,
}

impl Keys {
    /// Creates a handle for each of the pool's runtimes, in the order of `values`.
    pub(super) fn per_runtime(
        pool: &Pool,
        values: Vec<Values>,
        cache: Option<&Cache<Values>>,
        timeouts: &WriteTimeouts,
        limits: &BatchLimits,
        schema: &SchemaName,
    ) -> Vec<Self> {
        let commit = FencedCommit {
            cache: cache.cloned(),
            statement_timeout: timeouts.statement,
        };
        let changes = change_batch::combiners(&commit, pool, limits, schema);
        let [read_large, forget] = [sql::READ_LARGE, sql::FORGET].map(|sql| Arc::<str>::from(schema.fill(sql)));
        let keys = |((pool, values), changes): ((Pool, Values), _)| Self {
            cache: cache.map(|cache| cache.with_origin(values.clone())),
            pool,
            values,
            changes,
            read_large: read_large.clone(),
            forget: forget.clone(),
            write_timeout: timeouts.fence,
        };
        pool.per_runtime().zip(values).zip(changes).map(keys).collect()
    }

    /// Returns the cache, if there is one.
    pub(super) fn cache(&self) -> Option<&Cache<Values>> {
        self.cache.as_ref()
    }

    /// Returns the statistics of the queues of reads and of changes.
    pub(super) fn queues(&self) -> (QueueStats, QueueStats) {
        (self.values.loader.stats(), self.changes.stats())
    }

    /// Cancels the statements in progress whose callers have gone.
    pub(super) fn abort(&self) {
        self.values.loader.abort();
        self.changes.abort();
    }

    /// Closes the connection that the keys have besides the pool.
    pub(super) async fn close(&self) {
        self.values.close().await;
    }

    /// Reads the value of a key, from the cache if there is one.
    pub(crate) async fn read(&self, key: &str) -> Result<Read, Error> {
        let read = match &self.cache {
            Some(cache) => cache.read(key).await,
            None => self.values.loader.load(key.to_owned()).await.map(uncached),
        };
        match read {
            // The encoding of the database lacks a character of the key, so the key cannot exist.
            Err(error) if is_unrepresentable(&error) => Ok(uncached(None)),
            read => read,
        }
    }

    /// Reads the values of many keys, in their order.
    pub(crate) async fn read_many(&self, keys: &[&str]) -> Result<Vec<Read>, Error> {
        let read = match &self.cache {
            Some(cache) => cache.read_many(keys).await,
            None => {
                let values = self.values.load_many(keys).await;
                values.map(|values| values.into_iter().map(uncached).collect())
            }
        };
        match read {
            // One key that cannot exist fails the whole statement: read one by one, so that the others are found.
            Err(error) if is_unrepresentable(&error) => try_join_all(keys.iter().map(|key| self.read(key))).await,
            read => read,
        }
    }

    /// Reads large values from the database. `wanted` has each key with the number of bytes that there is memory for; of a
    /// value that has grown beyond it, only a size note is returned.
    pub(crate) async fn read_large(&self, wanted: &[(&str, usize)]) -> Result<Vec<Read>, Error> {
        let (keys, sizes): (Vec<&str>, Vec<i64>) = wanted
            .iter()
            .map(|(key, size)| (*key, i64::try_from(*size).unwrap_or(i64::MAX)))
            .unzip();
        let (pool, sql) = (&self.pool, &*self.read_large);
        let rows = pool
            .retry_idempotent(|| async { pool.get().await?.query(sql, &[&keys, &sizes]).await })
            .await?;
        let mut values = vec![None; wanted.len()];
        for row in rows {
            let position: i64 = row.get(0);
            let index = usize::try_from(position - 1).ok();
            if let Some(value) = index.and_then(|index| values.get_mut(index)) {
                *value = Some(value_or_note(row.get(1), row.get(2), || row.get(3)));
            }
        }
        Ok(values.into_iter().map(uncached).collect())
    }

    /// Writes a value. It is durable when this returns.
    pub(crate) async fn write(&self, key: String, value: String) -> Result<Committed, WriteError> {
        match self.change(Change::write(key, value)).await? {
            ChangeOutcome::Committed(committed) => Ok(committed),
            // A write without a condition always makes a version.
            ChangeOutcome::NothingToDelete | ChangeOutcome::ConditionFailed { .. } => Err(Error::RowCount(0).into()),
        }
    }

    /// Deletes a key; returns `None` if it had no value. The delete is durable when this returns.
    pub(crate) async fn delete(&self, key: &str) -> Result<Option<Committed>, WriteError> {
        match self.change(Change::delete(key.to_owned())).await? {
            ChangeOutcome::Committed(committed) => Ok(Some(committed)),
            ChangeOutcome::NothingToDelete | ChangeOutcome::ConditionFailed { .. } => Ok(None),
        }
    }

    /// Removes a key with its row, and with it the key's versions. Only for keys that no client has written.
    pub(crate) async fn forget(&self, key: &str) -> Result<(), Error> {
        let connection = self.pool.get().await?;
        connection.execute(&self.forget, &[&key]).await?;
        Ok(())
    }

    /// Makes a change if its condition holds. The change is durable when this returns.
    ///
    /// It waits for at most `write_timeout` until the key can be fenced in the cache. It holds no connection while it
    /// waits.
    pub(crate) async fn change(&self, change: Change) -> Result<ChangeOutcome, WriteError> {
        if self.values.is_standby() {
            return Err(WriteError::Standby);
        }
        let change = Arc::new(change);
        let start = Instant::now();
        let deadline = start + self.write_timeout;
        loop {
            if let Some(cache) = &self.cache {
                cache.unobstructed(deadline).await?;
            }
            match self.changes.submit(change.clone()).await {
                Ok(RowOutcome::NothingToDelete) => return Ok(ChangeOutcome::NothingToDelete),
                Ok(RowOutcome::ConditionFailed { version }) => return Ok(ChangeOutcome::ConditionFailed { version }),
                Ok(RowOutcome::Committed { version, release }) => {
                    let coherence = release.coherence().await;
                    return Ok(ChangeOutcome::Committed(Committed { version, coherence }));
                }
                Ok(RowOutcome::RowAppeared) if Instant::now() >= deadline => {
                    return Err(Error::RowCount(0).into());
                }
                // Now there is a row that can be judged.
                Ok(RowOutcome::RowAppeared) => {}
                Err(WriteError::NotFenced(error)) if Instant::now() >= deadline => {
                    let waited = start.elapsed();
                    return Err(NotFenced { waited, ..error }.into());
                }
                // Redis was lost after the wait above, and nothing was written.
                Err(WriteError::NotFenced(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether the database refused a value because its encoding lacks a character of it.
pub(crate) fn is_unrepresentable(error: &Error) -> bool {
    error.code() == Some(&SqlState::UNTRANSLATABLE_CHARACTER)
}

/// Returns a value that was read from the database just now.
fn uncached(value: Option<Value>) -> Read {
    Read {
        value,
        source: Source::Database,
        age: Some(Duration::ZERO),
        stale: false,
    }
}
