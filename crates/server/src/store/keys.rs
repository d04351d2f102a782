//! Keys and their values. Invariant: a key's version grows by one with every write and every delete, whoever
//! makes it, and never starts again: a deleted key keeps its row.

use cenote_postgres::{Pool, Result, tokio_postgres::Row};

const READ: &str = "SELECT value, version FROM kv WHERE key = $1 AND value IS NOT NULL";
const READ_MANY: &str =
    "SELECT value, version, key FROM kv WHERE key = ANY($1) AND value IS NOT NULL";
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

impl Value {
    /// From a row of `value, version`.
    fn from_row(row: &Row) -> Self {
        Self {
            value: row.get(0),
            version: row.get(1),
        }
    }
}

/// The value of a key.
pub(crate) async fn read(pool: &Pool, key: &str) -> Result<Option<Value>> {
    let row = pool
        .retry_idempotent(|| async { pool.get().await?.query_opt(READ, &[&key]).await })
        .await?;
    Ok(row.as_ref().map(Value::from_row))
}

/// The values of those keys that have one, in no particular order.
pub(crate) async fn read_many(pool: &Pool, keys: &[String]) -> Result<Vec<(String, Value)>> {
    let rows = pool
        .retry_idempotent(|| async { pool.get().await?.query(READ_MANY, &[&keys]).await })
        .await?;
    let found = rows.iter().map(|row| (row.get(2), Value::from_row(row)));
    Ok(found.collect())
}

/// Writes a value, durably once this returns, and tells the write's own version.
pub(crate) async fn write(pool: &Pool, key: &str, value: &str) -> Result<i64> {
    let row = pool
        .retry(|| async { pool.get().await?.query_one(WRITE, &[&key, &value]).await })
        .await?;
    Ok(row.get(0))
}

/// Deletes a key; false if it had no value.
pub(crate) async fn delete(pool: &Pool, key: &str) -> Result<bool> {
    let deleted = pool
        .retry(|| async { pool.get().await?.execute(DELETE, &[&key]).await })
        .await?;
    Ok(deleted > 0)
}
