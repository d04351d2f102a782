//! The cache's view of a table and of the epoch. Invariant: the text of a key in the cache is `table:key`, and a table's name
//! has no `:`, so no two tables share a text.

use std::{fmt::Write, sync::Arc};

use bytes::Bytes;
use cenote_cache::{EpochRow, Origin, Ttl, Value};
use futures_util::future::BoxFuture;

use crate::{
    codec::Codec,
    database::DatabaseError,
    epoch::Epoch,
    key::Key,
    load::{AnyLoad, Versioned},
};

/// Room for the text of a typical key.
const TYPICAL_KEY: usize = 24;

/// The origin of a cache of which only the epoch is known: it has no table.
pub(crate) struct NoTable<E>(pub(crate) Arc<Epoch<E>>);

/// The origin of one table.
pub(crate) struct TableOrigin<K, V, E> {
    pub(crate) epoch: Arc<Epoch<E>>,
    pub(crate) rows: Arc<TableRows<K, V, E>>,
    pub(crate) ttl: Option<Ttl>,
}

/// How the rows of a table are named, found and encoded.
pub(crate) struct TableRows<K, V, E> {
    pub(crate) name: Box<str>,
    pub(crate) load: Box<dyn AnyLoad<K, V, E>>,
    pub(crate) codec: Arc<dyn Codec<V>>,
}

impl<K: Key, V: Send + Sync + 'static, E: DatabaseError> TableRows<K, V, E> {
    /// The text of a key in the cache.
    pub(crate) fn text(&self, key: &K) -> String {
        let mut text = String::with_capacity(self.name.len() + TYPICAL_KEY);
        text.push_str(&self.name);
        text.push(':');
        // A `String` takes everything.
        let _written = write!(text, "{key}");
        text
    }

    /// The part of a cache's key that is the key's own.
    pub(crate) fn own<'a>(&self, text: &'a str) -> &'a str {
        text.get(self.name.len() + 1..).unwrap_or_default()
    }

    /// What the cache keeps of a row. A value that cannot be encoded has no bytes there: other processes cannot decode them,
    /// and read the row.
    fn cached(&self, row: Versioned<V>) -> Value {
        let bytes = self.codec.encode(&row.value).unwrap_or_else(|| {
            tracing::warn!(
                table = &*self.name,
                "a value cannot be encoded, so Redis does not keep it"
            );
            Bytes::new()
        });
        Value::with_decoded(row.version, bytes, Arc::new(row.value))
    }
}

/// A table of which only the name is known.
pub(crate) trait AnyTable<E>: Send + Sync {
    /// Tries whether its rows can be read.
    fn check(&self) -> BoxFuture<'_, Result<(), E>>;
    /// The text in the cache of a key that the database wrote as `own`. `None` if it is not a key of this table.
    fn text_of(&self, own: &str) -> Option<String>;
}

impl<K: Key, V: Send + Sync + 'static, E: DatabaseError> AnyTable<E> for TableRows<K, V, E> {
    fn check(&self) -> BoxFuture<'_, Result<(), E>> {
        self.load.check()
    }

    fn text_of(&self, own: &str) -> Option<String> {
        own.parse().ok().map(|key| self.text(&key))
    }
}

impl<E: DatabaseError> Origin for NoTable<E> {
    type Error = E;

    async fn load(&self, keys: &[&str]) -> Result<Vec<Option<Value>>, E> {
        Ok(keys.iter().map(|_| None).collect())
    }

    async fn epoch_row(&self) -> Result<EpochRow, E> {
        self.0.row().await
    }

    fn is_permanent(&self, error: &E) -> bool {
        self.0.is_permanent(error)
    }

    async fn advance(&self, successor: EpochRow) -> Result<(), E> {
        self.0.advance(successor).await
    }
}

impl<K: Key, V: Send + Sync + 'static, E: DatabaseError> Origin for TableOrigin<K, V, E> {
    type Error = E;

    async fn load(&self, keys: &[&str]) -> Result<Vec<Option<Value>>, E> {
        // Only texts of keys that parse back get here: see `Table::find`.
        let parsed: Vec<Option<K>> = keys.iter().map(|text| self.rows.own(text).parse().ok()).collect();
        let wanted = parsed.iter().flatten().cloned().collect();
        let mut found = self.rows.load.load(wanted).await?.into_iter();
        let mut values = Vec::with_capacity(keys.len());
        for key in parsed {
            let row = key.and_then(|_| found.next().flatten());
            values.push(row.map(|row| self.rows.cached(row)));
        }
        Ok(values)
    }

    fn ttl(&self) -> Option<Ttl> {
        self.ttl
    }

    async fn epoch_row(&self) -> Result<EpochRow, E> {
        self.epoch.row().await
    }

    fn is_permanent(&self, error: &E) -> bool {
        self.epoch.is_permanent(error)
    }

    async fn advance(&self, successor: EpochRow) -> Result<(), E> {
        self.epoch.advance(successor).await
    }
}
