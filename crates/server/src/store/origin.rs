//! What the cache is in front of. Invariant: each answer comes from a statement of its own that was sent after the
//! question, so it misses nothing that was committed before.

use std::sync::Arc;

use cenote_cache::{
    epoch,
    origin::{Origin, Value},
};
use cenote_postgres::{Decoded, Error, Limits, Loader, Pool, QueueStats, tokio_postgres::Row};

use super::{epoch::Epoch, large::value_or_note};
use crate::settings::SchemaName;

/// Many keys at once; of a value above [`SMALL`](crate::memory::SMALL) only its size, see [`large`](super::large). Every position lies within these bounds; that they are told makes the planner expect one key, so
/// that it looks each up in the index and makes one plan for batches of any size.
const READ: &str = "SELECT wanted.position, CASE WHEN octet_length(kv.value) <= 32768 THEN kv.value END, kv.version, \
     CASE WHEN octet_length(kv.value) > 32768 THEN octet_length(kv.value) END \
     FROM unnest($1::text[]) WITH ORDINALITY AS wanted (key, position) \
     JOIN {schema}.kv ON kv.key = wanted.key COLLATE \"C\" \
     WHERE wanted.position BETWEEN 1 AND 1000000000 AND kv.value IS NOT NULL";

/// From a row of `position, value, version, size`.
fn value(row: Row) -> Decoded<Value> {
    let text: Option<&str> = row.try_get(1)?;
    let size: Option<i32> = row.try_get(3)?;
    Ok(value_or_note(text, row.try_get(2)?, || size.unwrap_or_default()))
}

/// The values in PostgreSQL. Cloning it gives another handle.
#[derive(Clone)]
pub(crate) struct Values {
    /// Looks values up, many callers' keys at a time.
    loader: Loader<String, Value>,
    /// In the modes that know epochs.
    epoch: Option<Arc<Epoch>>,
}

impl Values {
    /// One for each of the pool's homes.
    pub(super) fn per_home(pool: &Pool, limits: &Limits, epoch: Option<Epoch>, schema: &SchemaName) -> Vec<Self> {
        let epoch = epoch.map(Arc::new);
        let loaders = Loader::per_home(pool, schema.fill(READ), value, String::len, limits);
        let values = |loader| Self {
            loader,
            epoch: epoch.clone(),
        };
        loaders.into_iter().map(values).collect()
    }

    /// The value of a key; who asks at the same time shares a statement.
    pub(super) async fn one(&self, key: &str) -> Result<Option<Value>, Error> {
        self.loader.load(key.to_owned()).await
    }

    /// The values of many keys, in one statement.
    pub(super) async fn many(&self, keys: &[&str]) -> Result<Vec<Option<Value>>, Error> {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        self.loader.load_many(keys).await
    }

    /// Whether the database is a standby, where that matters to the cache.
    pub(super) fn is_standby(&self) -> bool {
        self.epoch.as_ref().is_some_and(|epoch| epoch.is_standby())
    }

    pub(super) fn queue(&self) -> QueueStats {
        self.loader.stats()
    }

    /// Gives up what is under way for callers that have gone.
    pub(super) fn abort(&self) {
        self.loader.abort();
    }

    pub(super) async fn close(&self) {
        if let Some(epoch) = &self.epoch {
            epoch.close().await;
        }
    }

    /// Only those modes ask that have it.
    fn epoch(&self) -> Result<&Epoch, Error> {
        self.epoch.as_deref().ok_or(Error::RowCount(0))
    }
}

impl Origin for Values {
    type Error = Error;

    async fn load(&self, keys: &[&str]) -> Result<Vec<Option<Value>>, Error> {
        match keys {
            [key] => Ok(vec![self.one(key).await?]),
            _ => self.many(keys).await,
        }
    }

    async fn epoch_row(&self) -> Result<epoch::Row, Error> {
        self.epoch()?.row().await
    }

    /// A missing table, a missing permission: what the database refuses and time does not cure.
    fn is_permanent(&self, error: &Error) -> bool {
        match error {
            Error::Database(refused) => !error.is_retryable() && refused.code().code().starts_with("42"),
            Error::Acquire(refused) => !refused.is_retryable(),
            _ => false,
        }
    }

    async fn advance(&self, successor: epoch::Row) -> Result<(), Error> {
        self.epoch()?.advance(successor).await
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_statement_has_the_bound_of_small_values() {
        let bound = crate::memory::SMALL;
        assert_eq!(super::READ.matches(&format!("= {bound} ")).count(), 1);
        assert_eq!(super::READ.matches(&format!("> {bound} ")).count(), 1);
    }
}
