//! Keys and their values. Invariant: a key's version grows by one with every write and every delete, whoever
//! makes it, and never starts again: a deleted key keeps its row.

use cenote_postgres::{Loader, Pool, Result, tokio_postgres::Row};

use super::Store;

/// Many keys at once. The inner query has a limit so that it is planned as a look-up in the index for each key,
/// whatever the planner believes about the table's size when it makes the plan.
const READ: &str = "SELECT wanted.position, found.value, found.version \
     FROM unnest($1::text[]) WITH ORDINALITY AS wanted (key, position), \
     LATERAL (SELECT value, version FROM kv WHERE kv.key = wanted.key COLLATE \"C\" LIMIT 1) AS found \
     WHERE found.value IS NOT NULL";
const WRITE: &str = "INSERT INTO kv (key, value) VALUES ($1, $2) \
     ON CONFLICT (key) DO UPDATE \
     SET value = excluded.value, version = kv.version + 1, updated_at = now() \
     RETURNING version";
const DELETE: &str = "UPDATE kv SET value = NULL, version = version + 1, updated_at = now() \
     WHERE key = $1 AND value IS NOT NULL";

/// What stands under a key.
pub(crate) struct Value {
    pub(crate) value: String,
    pub(crate) version: i64,
}

/// From a row of `position, value, version`.
fn value(row: &Row) -> Value {
    Value {
        value: row.get(1),
        version: row.get(2),
    }
}

/// Looks values up, many callers' keys at a time.
pub(super) fn loader(pool: Pool) -> Loader<String, Value> {
    Loader::new(pool, READ, value)
}

impl Store {
    /// The value of a key.
    pub(crate) async fn read(&self, key: &str) -> Result<Option<Value>> {
        self.values.load(key.to_owned()).await
    }

    /// The values of those keys that have one, each with the key's index, in no particular order.
    pub(crate) async fn read_many(&self, keys: &[String]) -> Result<Vec<(usize, Value)>> {
        let pool = &self.pool;
        let rows = pool
            .retry_idempotent(|| async { pool.get().await?.query(READ, &[&keys]).await })
            .await?;
        let found = rows.iter().map(|row| {
            let position: i64 = row.get(0);
            (
                usize::try_from(position - 1).unwrap_or_default(),
                value(row),
            )
        });
        Ok(found.collect())
    }

    /// Writes a value, durably once this returns, and tells the write's own version.
    pub(crate) async fn write(&self, key: &str, value: &str) -> Result<i64> {
        let pool = &self.pool;
        let row = pool
            .retry(|| async { pool.get().await?.query_one(WRITE, &[&key, &value]).await })
            .await?;
        Ok(row.get(0))
    }

    /// Deletes a key; false if it had no value.
    pub(crate) async fn delete(&self, key: &str) -> Result<bool> {
        let pool = &self.pool;
        let deleted = pool
            .retry(|| async { pool.get().await?.execute(DELETE, &[&key]).await })
            .await?;
        Ok(deleted > 0)
    }
}
