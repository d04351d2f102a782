//! The values in PostgreSQL, as the cache's origin.
//!
//! Invariant: each load comes from a statement that was sent after the call, so it misses nothing that was committed before.

use std::sync::Arc;

use cenote_cache::{EpochRow, Origin, Value};
use cenote_postgres::{BatchLimits, Decoded, Error, Loader, Pool, tokio_postgres::Row};

use super::{size_note::value_or_note, sql::READ};
use crate::{store::SchemaName, store::cache_epoch::CacheEpoch};

/// A handle to the values.
#[derive(Clone)]
pub(crate) struct Values {
    /// Looks keys up, those of concurrent callers in one statement.
    pub(super) loader: Loader<String, Value>,
    /// In the modes that have epochs.
    epoch: Option<Arc<CacheEpoch>>,
}

impl Values {
    /// Creates a handle for each of the pool's runtimes.
    pub(in crate::store) fn per_runtime(
        pool: &Pool,
        limits: &BatchLimits,
        epoch: Option<CacheEpoch>,
        schema: &SchemaName,
    ) -> Vec<Self> {
        let epoch = epoch.map(Arc::new);
        let loaders = Loader::per_runtime(pool, schema.fill(READ), decode, String::len, limits);
        let values = |loader| Self {
            loader,
            epoch: epoch.clone(),
        };
        loaders.into_iter().map(values).collect()
    }

    /// Loads many keys in one statement.
    pub(super) async fn load_many(&self, keys: &[&str]) -> Result<Vec<Option<Value>>, Error> {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        self.loader.load_many(keys).await
    }

    /// Whether the database is a standby, or was one a moment ago. Always false in the modes without epochs.
    pub(super) fn is_standby(&self) -> bool {
        self.epoch.as_ref().is_some_and(|epoch| epoch.is_standby())
    }

    /// Closes the connection of the epoch.
    pub(super) async fn close(&self) {
        if let Some(epoch) = &self.epoch {
            epoch.close().await;
        }
    }

    /// Returns the epoch. Only the modes that have one ask for it.
    fn epoch(&self) -> Result<&CacheEpoch, Error> {
        self.epoch.as_deref().ok_or(Error::RowCount(0))
    }
}

impl Origin for Values {
    type Error = Error;

    async fn load(&self, keys: &[&str]) -> Result<Vec<Option<Value>>, Error> {
        match keys {
            [key] => Ok(vec![self.loader.load((*key).to_owned()).await?]),
            _ => self.load_many(keys).await,
        }
    }

    async fn epoch_row(&self) -> Result<EpochRow, Error> {
        self.epoch()?.read().await
    }

    /// A missing table or privilege, for example: waiting does not cure it.
    fn is_permanent(&self, error: &Error) -> bool {
        match error {
            Error::Database(refused) => !error.is_retryable() && refused.code().code().starts_with("42"),
            Error::Acquire(refused) => !refused.is_retryable(),
            _ => false,
        }
    }

    async fn advance(&self, successor: EpochRow) -> Result<(), Error> {
        self.epoch()?.advance(successor).await
    }
}

/// Decodes a row of `position, value, version, size`.
fn decode(row: Row) -> Decoded<Value> {
    let text: Option<&str> = row.try_get(1)?;
    let size: Option<i32> = row.try_get(3)?;
    Ok(value_or_note(text, row.try_get(2)?, || size.unwrap_or_default()))
}
