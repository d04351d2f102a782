//! A table that is cached. Invariant: a caller gets a row only as its mode promises it, and never an error of the cache alone.

use std::{fmt, sync::Arc, time::Duration};

use cenote_cache::{Cache, Coherence, Source, Ttl};
use cenote_postgres::Error;

use crate::{
    database::DatabaseError,
    epoch::Epoch,
    key::{Key, round_trips},
    load::{Load, Versioned},
    origin::{NoTable, TableOrigin, TableRows},
    read::Read,
};

/// A table that is cached: the rows of the keys `K`, read as `V`. Made by [`Cached::table`](crate::Cached::table).
///
/// A clone is another handle to the same table. Handles may be used from any runtime.
pub struct Table<K: Key, V: Send + Sync + 'static, E: DatabaseError = Error> {
    cache: Cache<TableOrigin<K, V, E>>,
    epoch: Arc<Epoch<E>>,
    rows: Arc<TableRows<K, V, E>>,
    ttl: Option<Ttl>,
}

impl<K: Key, V: Send + Sync + 'static, E: DatabaseError> Table<K, V, E> {
    pub(crate) fn new(cache: &Cache<NoTable<E>>, epoch: Arc<Epoch<E>>, rows: Arc<TableRows<K, V, E>>) -> Self {
        let origin = TableOrigin {
            epoch: epoch.clone(),
            rows: rows.clone(),
            ttl: None,
        };
        Self {
            cache: cache.with_origin(origin),
            epoch,
            rows,
            ttl: None,
        }
    }

    /// Keeps rows for `ttl`, and absences as [`Ttl::new`] says, instead of what the [`Config`](crate::Config) says. The time
    /// bounds only what writes that bypass the cache leave behind: other writes are seen at once.
    #[must_use]
    pub fn with_ttl(self, ttl: Duration) -> Self {
        self.with_rows(self.rows.clone(), Some(Ttl::new(ttl)))
    }

    /// A handle to the same table that finds rows in another way, such as over the connections of another runtime. It must
    /// find the same rows.
    #[must_use]
    pub fn through(&self, load: impl Load<K, V, Error = E>) -> Self {
        let rows = TableRows {
            name: self.rows.name.clone(),
            load: Box::new(load),
            codec: self.rows.codec.clone(),
        };
        self.with_rows(Arc::new(rows), self.ttl)
    }

    fn with_rows(&self, rows: Arc<TableRows<K, V, E>>, ttl: Option<Ttl>) -> Self {
        let origin = TableOrigin {
            epoch: self.epoch.clone(),
            rows: rows.clone(),
            ttl,
        };
        Self {
            cache: self.cache.with_origin(origin),
            epoch: self.epoch.clone(),
            rows,
            ttl,
        }
    }

    /// Returns the row of a key; `None` if there is no row.
    ///
    /// # Errors
    ///
    /// The database's, if it had to be asked; never one of Redis.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not disturb other reads of the same key.
    pub async fn get(&self, key: &K) -> Result<Option<Arc<V>>, E> {
        let text = self.rows.text(key);
        if let Some(near) = self.near_of(&text) {
            return Ok(near.value);
        }
        // Boxed, so that a near hit does not move the much larger state of a look-up.
        let read = Box::pin(self.find(key, &text)).await?;
        Ok(read.value)
    }

    /// Like [`get`](Self::get), and says where the row was found.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get).
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    pub async fn read(&self, key: &K) -> Result<Read<V>, E> {
        let text = self.rows.text(key);
        match self.near_of(&text) {
            Some(near) => Ok(near),
            None => Box::pin(self.find(key, &text)).await,
        }
    }

    /// Returns the rows of several keys, in their order, in as few round trips as one key takes. They may stem from different
    /// points in time.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get), if it fails for one of them.
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    pub async fn get_many(&self, keys: &[K]) -> Result<Vec<Option<Arc<V>>>, E> {
        let reads = self.read_many(keys).await?;
        Ok(reads.into_iter().map(|read| read.value).collect())
    }

    /// Like [`get_many`](Self::get_many), and says where each row was found.
    ///
    /// # Errors
    ///
    /// Those of [`get_many`](Self::get_many).
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    pub async fn read_many(&self, keys: &[K]) -> Result<Vec<Read<V>>, E> {
        let texts: Vec<String> = keys.iter().map(|key| self.rows.text(key)).collect();
        let can = |(key, text): (&K, &String)| self.round_trips(key, text);
        if !keys.iter().zip(&texts).all(can) {
            return self.load(keys.to_vec()).await;
        }
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let found = self.cache.read_many(&texts).await?;
        let mut reads: Vec<_> = found.into_iter().map(|read| self.decoded(read)).collect();
        let foreign: Vec<K> = keys
            .iter()
            .zip(&reads)
            .filter(|(_, read)| read.is_none())
            .map(|(key, _)| key.clone())
            .collect();
        if !foreign.is_empty() {
            // Another version of the program has cached them in another form. The rows are at least as new.
            let mut loaded = self.load(foreign).await?.into_iter();
            for read in reads.iter_mut().filter(|read| read.is_none()) {
                *read = loaded.next();
            }
        }
        Ok(reads.into_iter().flatten().collect())
    }

    /// Returns the row of a key if it is in this process and may be used. Neither waits nor asks anyone. `None` says nothing
    /// about the row.
    #[must_use]
    pub fn near(&self, key: &K) -> Option<Read<V>> {
        self.near_of(&self.rows.text(key))
    }

    /// Drops what is cached for keys whose change has committed without being announced. Call it after the commit.
    ///
    /// Once this is [`Settled`](Coherence::Settled), no read that begins finds the rows from before the change, and look-ups
    /// in progress are not kept; in `bounded` other instances may still find them near within the bound. If it is
    /// [`Pending`](Coherence::Pending), call it again.
    ///
    /// **The gap.** If the process ends, or the future is dropped, between the commit and the end of this call, the old rows
    /// stay cached until their time to live is over. [`Cached::transaction`](crate::Cached::transaction) has no such gap.
    ///
    /// # Cancel safety
    ///
    /// After a drop some keys may still be cached.
    pub async fn invalidate(&self, keys: &[K]) -> Coherence {
        let texts: Vec<String> = keys.iter().map(|key| self.rows.text(key)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        self.cache.invalidate(&texts).await
    }

    /// The text of a key in the cache.
    pub(crate) fn text(&self, key: &K) -> String {
        self.rows.text(key)
    }

    fn near_of(&self, text: &str) -> Option<Read<V>> {
        self.decoded(self.cache.near(text)?)
    }

    async fn find(&self, key: &K, text: &str) -> Result<Read<V>, E> {
        if self.round_trips(key, text)
            && let Some(read) = self.decoded(self.cache.read(text).await?)
        {
            return Ok(read);
        }
        // Another version of the program has cached it in another form. The row is at least as new.
        let read = self.load(vec![key.clone()]).await?.pop();
        Ok(read.unwrap_or_else(|| uncached(None)))
    }

    /// Reads rows from the database alone.
    async fn load(&self, keys: Vec<K>) -> Result<Vec<Read<V>>, E> {
        let rows = self.rows.load.load(keys).await?;
        Ok(rows.into_iter().map(uncached).collect())
    }

    /// Whether the key can be found again from its text; a key that cannot is not cached.
    fn round_trips(&self, key: &K, text: &str) -> bool {
        let can = round_trips(key, self.rows.own(text));
        if !can {
            tracing::warn!(
                table = &*self.rows.name,
                "the text of a key does not parse back, so its row is not cached"
            );
        }
        can
    }

    /// What a read found. `None` if its bytes do not decode.
    fn decoded(&self, read: cenote_cache::Read) -> Option<Read<V>> {
        let (value, version) = match read.value {
            Some(value) => {
                let decoded = value.decoded(|bytes| self.rows.codec.decode(bytes))?;
                (Some(decoded), Some(value.version))
            }
            None => (None, None),
        };
        Some(Read {
            value,
            version,
            source: read.source,
            age: read.age,
            stale: read.stale,
        })
    }
}

/// A row that was read from the database just now.
fn uncached<V>(row: Option<Versioned<V>>) -> Read<V> {
    let (version, value) = row.map(|row| (row.version, Arc::new(row.value))).unzip();
    Read {
        value,
        version,
        source: Source::Database,
        age: Some(Duration::ZERO),
        stale: false,
    }
}

impl<K: Key, V: Send + Sync + 'static, E: DatabaseError> Clone for Table<K, V, E> {
    fn clone(&self) -> Self {
        Self {
            cache: self.cache.clone(),
            epoch: self.epoch.clone(),
            rows: self.rows.clone(),
            ttl: self.ttl,
        }
    }
}

impl<K: Key, V: Send + Sync + 'static, E: DatabaseError> fmt::Debug for Table<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("name", &self.rows.name)
            .finish_non_exhaustive()
    }
}
