//! The public handle. Invariant: all tables of a handle share one view of the epoch, and one set of connections to Redis.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cenote_cache::{Cache, Config, ConfigError, Mode, NotFenced, State, Stats, check_name};
use cenote_postgres::{Error, InvalidConfig, Pool};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    change_feed::{ChangeFeed, FeedStats},
    codec::{Codec, Json},
    database::{BesidePool, Database, DatabaseError},
    epoch::Epoch,
    key::Key,
    load::Load,
    origin::{AnyTable, NoTable, TableRows},
    table::Table,
};

/// How often [`Cached::ready`] looks.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// A cache before tables of one database. A clone is another handle to the same cache.
pub struct Cached<E: DatabaseError = Error>(Arc<Inner<E>>);

type Tables<E> = BTreeMap<String, Arc<dyn AnyTable<E>>>;

struct Inner<E: DatabaseError> {
    cache: Cache<NoTable<E>>,
    epoch: Arc<Epoch<E>>,
    config: Config,
    /// The tables by name, for the change feed. Locked for a look, never across an await.
    tables: Mutex<Tables<E>>,
    feed: ChangeFeed,
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCached {
    /// The settings of the cache, or the name of a table.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The pool's settings.
    #[error(transparent)]
    Pool(#[from] InvalidConfig),
    /// A table of this name was declared before. Clone that one instead.
    #[error("a table {0:?} is cached already; use a clone of it")]
    Taken(String),
}

impl Cached<Error> {
    /// Creates a cache over the database of this pool, in which [`install`](crate::install) was run. It has one connection
    /// besides the pool, for the epoch.
    ///
    /// In modes with Redis it starts tasks on the current runtime. If that ends, they continue on a caller's. Until Redis may
    /// be used, the database answers reads, and writes wait: see [`ready`](Self::ready).
    ///
    /// # Errors
    ///
    /// The settings cannot be used.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn new(pool: &Pool, config: Config) -> Result<Self, InvalidCached> {
        let database = BesidePool::new(pool, config.timing.poll_interval())?;
        Self::start(database, None, config)
    }

    /// Like [`new`](Self::new), with the table `cache_epoch` in this schema instead of the search path's.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn in_schema(pool: &Pool, schema: &str, config: Config) -> Result<Self, InvalidCached> {
        let database = BesidePool::new(pool, config.timing.poll_interval())?;
        Self::start(database, Some(schema), config)
    }

    /// Drops what is cached of rows that other programs change, as their transactions commit. Never returns: spawn it, and
    /// declare the tables before. For each table run `SELECT cenote_watch('goods', 'id', 'goods')` once, with the table, the
    /// column of its key, and its name in the cache.
    ///
    /// It listens on a connection of its own, with the settings of the pool. Everything is dropped whenever a change may have
    /// been missed, such as at its start and after a lost connection; in modes with Redis the epoch moves on for that, which
    /// keeps Redis out of use for some seconds.
    ///
    /// Transactions of [`transaction`](Self::transaction) are reported too, which does no harm. To save it, set
    /// `cenote.writer` to `on` in sessions that always tell the cache what they change.
    pub async fn follow_changes(&self, pool: &Pool) {
        let tables = || lock(&self.0.tables).clone();
        self.0.feed.follow(pool, self.cache(), &tables).await;
    }
}

impl<E: DatabaseError> Cached<E> {
    /// Creates a cache over a database of any driver, in which [`MIGRATION`](crate::MIGRATION) was run.
    ///
    /// # Errors
    ///
    /// The settings cannot be used.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, in modes with Redis.
    pub fn over(database: impl Database<Error = E>, config: Config) -> Result<Self, InvalidCached> {
        Self::start(database, None, config)
    }

    fn start(
        database: impl Database<Error = E>,
        schema: Option<&str>,
        mut config: Config,
    ) -> Result<Self, InvalidCached> {
        config.keeps_decoded = true;
        let epoch = Arc::new(Epoch::new(Box::new(database), schema));
        let cache = Cache::new(NoTable(epoch.clone()), config.clone())?;
        Ok(Self(Arc::new(Inner {
            cache,
            epoch,
            config,
            tables: Mutex::default(),
            feed: ChangeFeed::default(),
        })))
    }

    /// Declares a table. The name is a part of every key: a letter, followed by letters, digits, `_`, `.` and `-`; at most 64
    /// bytes. Instances that cache the same rows in the same form use the same name.
    ///
    /// # Errors
    ///
    /// The name is not valid, or taken.
    pub fn table<K, V>(&self, name: &str, load: impl Load<K, V, Error = E>) -> Result<Table<K, V, E>, InvalidCached>
    where
        K: Key,
        V: serde::Serialize + serde::de::DeserializeOwned + Send + Sync + 'static,
    {
        self.table_with(name, load, Json)
    }

    /// Declares a table whose values this codec encodes.
    ///
    /// # Errors
    ///
    /// The name is not valid, or taken.
    pub fn table_with<K, V>(
        &self,
        name: &str,
        load: impl Load<K, V, Error = E>,
        codec: impl Codec<V>,
    ) -> Result<Table<K, V, E>, InvalidCached>
    where
        K: Key,
        V: Send + Sync + 'static,
    {
        check_name(name)?;
        let rows = Arc::new(TableRows {
            name: name.into(),
            load: Box::new(load),
            codec: Arc::new(codec),
        });
        let mut tables = lock(&self.0.tables);
        if tables.contains_key(name) {
            return Err(InvalidCached::Taken(name.to_owned()));
        }
        tables.insert(name.to_owned(), rows.clone());
        drop(tables);
        Ok(Table::new(self.cache(), self.0.epoch.clone(), rows))
    }

    /// Waits until the cache is used and, if [changes are followed](Self::follow_changes), until none is missed; at most for
    /// `limit`. Returns the state then. A fresh database takes milliseconds; a start beside other instances, or after Redis
    /// was away, some seconds. For `/ready`, or before the first requests: without it they are answered too, by the database.
    pub async fn ready(&self, limit: Duration) -> State {
        let used = async {
            while self.stats().state != State::Ok || !self.0.feed.is_complete() {
                sleep(CHECK_INTERVAL).await;
            }
        };
        // Whether in time or not, the state says it.
        let _in_time = timeout(limit, used).await;
        self.stats().state
    }

    /// Waits until a write can be expected to be fenced at once: for [`commit`](Self::commit), before its transaction begins.
    /// Returns at once while nothing is known to prevent it.
    ///
    /// # Errors
    ///
    /// [`NotFenced`] if that is not so within [`Config::write_patience`].
    pub async fn unobstructed(&self) -> Result<(), NotFenced> {
        self.cache().unobstructed(Instant::now() + self.write_patience()).await
    }

    /// Drops everything that is cached, of all tables, because changes may have been missed. In modes with Redis no read that
    /// begins a lease (2 s) later finds what was cached before; Redis is used again about two leases later.
    ///
    /// # Errors
    ///
    /// The database's, if the epoch could not be advanced. Then nothing is promised: call it again.
    pub async fn distrust(&self) -> Result<(), E> {
        self.cache().distrust().await
    }

    /// Returns the counts of what the cache has done for all tables, and its state.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.cache().stats()
    }

    /// Returns what [`follow_changes`](Self::follow_changes) has done.
    #[must_use]
    pub fn feed_stats(&self) -> FeedStats {
        self.0.feed.stats()
    }

    /// Whether the database is a standby, or was one a moment ago: it takes no writes.
    #[must_use]
    pub fn is_standby(&self) -> bool {
        self.0.epoch.is_standby()
    }

    /// Closes the connection for the epoch, at the end of a program. A lease (2 s) later reads go to the database, and writes
    /// are refused.
    pub async fn close(&self) {
        self.0.epoch.close().await;
    }

    pub(crate) fn cache(&self) -> &Cache<NoTable<E>> {
        &self.0.cache
    }

    pub(crate) fn epoch(&self) -> &Epoch<E> {
        &self.0.epoch
    }

    pub(crate) fn mode(&self) -> &Mode {
        &self.0.config.mode
    }

    pub(crate) fn has_epochs(&self) -> bool {
        matches!(self.mode(), Mode::Strong(_) | Mode::Bounded { .. })
    }

    /// After this time the server ends a commit.
    pub(crate) fn commit_deadline(&self) -> Duration {
        self.0.config.timing.deadline()
    }

    /// How long a write waits until its keys can be fenced.
    pub(crate) fn write_patience(&self) -> Duration {
        self.0.config.write_patience
    }

    pub(crate) fn tables(&self) -> Tables<E> {
        lock(&self.0.tables).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<E: DatabaseError> Clone for Cached<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E: DatabaseError> fmt::Debug for Cached<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached")
            .field("name", &self.0.config.name)
            .field("tables", &lock(&self.0.tables).keys())
            .finish_non_exhaustive()
    }
}
