//! Everything that is stored in PostgreSQL, and the cache in front of it.
//!
//! Invariant: all SQL of the service is in this module, and each statement is in one place.
//!
//! | To find | Look in |
//! |---|---|
//! | reads and writes of keys, their SQL, how writes are batched and fenced | `keys` |
//! | API keys | `api_keys` |
//! | users, and how their e-mail addresses are compared | `users` |
//! | which Redis is trusted | `cache_epoch` |
//! | why the cache is not used, in words | `cache_problem` |
//! | changes made outside the service | `change_feed` |
//! | the tables, and what is added to an existing database | `schema` |
//! | settings of the server that would break the service | `requirements` |

pub(crate) mod api_keys;
mod cache_epoch;
mod cache_mode;
mod cache_problem;
pub(crate) mod change_feed;
mod keys;
pub(crate) mod requirements;
pub(crate) mod schema;
mod schema_name;
mod users;

use std::{sync::Arc, time::Duration};

use cenote_cache::{Cache, Config, ConfigError, DegradedReason, KeyCount, Mode, State, Stats};
use cenote_postgres::{BatchLimits, ByteBound, InvalidConfig, Pool, QueueStats};
use tokio::time::{sleep, timeout};

pub(crate) use self::change_feed::FeedStats;
use self::{
    cache_epoch::CacheEpoch,
    change_feed::ChangeFeed,
    keys::{Keys, Values, WriteTimeouts},
    users::Users,
};
pub use self::{cache_mode::CacheMode, schema::Migrate, schema_name::SchemaName};
pub(crate) use self::{
    cache_problem::problem_of_cache,
    keys::{ABSENT, Change, ChangeOutcome, Condition, WriteError, is_size_note, is_unrepresentable, noted_size},
    users::User,
};

/// How often the start checks whether the cache knows its epoch.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);
/// How many leases of the epoch the start waits for it. A row that another instance has just changed takes one lease and a
/// poll.
const EPOCH_WITHIN_LEASES: u32 = 2;

/// The names of the statements that requests cause, which are counted apart.
pub(crate) const STATEMENTS: &[&str] = &[
    "key.read",
    "key.read_large",
    "key.write",
    "key.change",
    "key.change_if",
    "key.forget",
    "user.get",
    "user.add",
    "user.list",
    "user.adding",
    "api_key.find",
    "api_key.changed",
    "api_key.used",
    "epoch.read",
    "epoch.advance",
    "epoch.replace",
];

/// Where the tables are, and how much may queue for them.
#[derive(Clone, Debug)]
pub(crate) struct Tables {
    pub(crate) schema: SchemaName,
    pub(crate) backlog: Backlog,
}

/// How many bytes of each kind of request may wait to share a statement, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backlog {
    pub(crate) bytes: usize,
    /// A request whose expected wait is longer is refused.
    pub(crate) wait: Duration,
}

/// Everything that is stored, on one core. Clones share everything.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) keys: Keys,
    pub(crate) users: Users,
    pool: Pool,
    /// Shared by all cores.
    feed: Arc<ChangeFeed>,
    /// How long the start waits until the cache knows its epoch.
    epoch_timeout: Duration,
    /// Of each queue of each core.
    queue_bound: ByteBound,
}

/// Statistics of the queues of requests that share statements, by kind of request.
#[derive(Default)]
pub(crate) struct Queues {
    pub(crate) reads: QueueStats,
    pub(crate) writes: QueueStats,
    pub(crate) users: QueueStats,
}

impl Queues {
    /// Returns the statistics of all kinds together.
    pub(crate) fn all(&self) -> QueueStats {
        self.reads + self.writes + self.users
    }
}

impl std::ops::Add for Queues {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            reads: self.reads + other.reads,
            writes: self.writes + other.writes,
            users: self.users + other.users,
        }
    }
}

/// Why a store could not be created.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    Cache(#[from] ConfigError),
    #[error(transparent)]
    Pool(#[from] InvalidConfig),
}

impl Store {
    /// Creates a store for each of the pool's runtimes: separate queues, and one cache for all. The pool's connections must
    /// have a `statement_timeout` of at most the cache's deadline.
    pub(crate) fn per_runtime(pool: &Pool, config: Config, tables: &Tables) -> Result<Vec<Self>, StoreError> {
        let Tables { schema, backlog } = tables;
        let timeouts = WriteTimeouts {
            fence: config.write_patience,
            statement: config.timing.deadline(),
        };
        let epoch_timeout = config.timing.lease() * EPOCH_WITHIN_LEASES;
        let has_epochs = matches!(config.mode, Mode::Strong(_) | Mode::Bounded { .. });
        let epoch = match has_epochs {
            true => Some(CacheEpoch::beside(pool, config.timing.poll_interval(), schema)?),
            false => None,
        };
        let runtimes = pool.per_runtime().count();
        let queue_bound = ByteBound::new(backlog.bytes.div_ceil(runtimes));
        // Separate limits for each kind of request, so that slow writes do not use up the capacity of reads. Each queue
        // counts its own bytes against the bound.
        let limits = || BatchLimits {
            waiting_bytes: queue_bound.clone(),
            expected_wait: backlog.wait,
            ..BatchLimits::per_runtime(pool)
        };
        let values = Values::per_runtime(pool, &limits(), epoch, schema);
        let cache = match config.mode {
            Mode::Off => None,
            _ => Some(Cache::new(values[0].clone(), config)?),
        };
        let keys = Keys::per_runtime(pool, values, cache.as_ref(), &timeouts, &limits(), schema);
        let users = Users::per_runtime(pool, &limits(), schema);
        let feed: Arc<ChangeFeed> = Arc::default();
        let store = |((pool, keys), users)| Self {
            keys,
            users,
            pool,
            feed: feed.clone(),
            epoch_timeout,
            queue_bound: queue_bound.clone(),
        };
        Ok(pool.per_runtime().zip(keys).zip(users).map(store).collect())
    }

    /// Waits until the cache knows its epoch, so that writes do not wait for it and reads are cached; gives up after a
    /// while with a warning. With `with_feed`, also waits until the change feed listens, so that no later change is missed.
    pub(crate) async fn ready(&self, with_feed: bool) {
        let unknown = State::Degraded(DegradedReason::UnknownEpoch);
        let is_unknown = || {
            let stats = self.cache_stats();
            stats.is_some_and(|stats| stats.state == unknown)
        };
        let known = async {
            while is_unknown() {
                sleep(CHECK_INTERVAL).await;
            }
        };
        if timeout(self.epoch_timeout, known).await.is_err() {
            tracing::warn!(
                "the database has not yet said which Redis is in use; until then nothing is cached and writes wait"
            );
        }
        while with_feed && self.feed_stats().everything == 0 {
            sleep(CHECK_INTERVAL).await;
        }
    }

    /// Follows the change feed and drops changed keys from the cache. Never returns. Call it once, and only if the triggers
    /// exist.
    pub(crate) async fn follow_changes(&self) {
        match self.keys.cache() {
            Some(cache) => self.feed.clone().follow(self.pool.clone(), cache.clone()).await,
            None => std::future::pending().await,
        }
    }

    /// Drops everything that is cached, as [`Cache::distrust`] does.
    ///
    /// # Errors
    ///
    /// The database's. Nothing is promised then.
    pub(crate) async fn flush(&self) -> Result<(), cenote_postgres::Error> {
        match self.keys.cache() {
            Some(cache) => cache.distrust().await,
            None => Ok(()),
        }
    }

    /// Returns the statistics of the change feed.
    pub(crate) fn feed_stats(&self) -> FeedStats {
        self.feed.stats()
    }

    /// Returns the statistics of the cache, if there is one.
    pub(crate) fn cache_stats(&self) -> Option<Stats> {
        self.keys.cache().map(Cache::stats)
    }

    /// Returns the number of cached keys; `None` if Redis does not answer.
    pub(crate) async fn count_keys(&self) -> Option<KeyCount> {
        match self.keys.cache() {
            Some(cache) => cache.count_keys().await,
            None => Some(KeyCount::default()),
        }
    }

    /// Returns the statistics of this core's queues.
    pub(crate) fn queues(&self) -> Queues {
        let (reads, writes) = self.keys.queues();
        Queues {
            reads,
            writes,
            users: self.users.queue(),
        }
    }

    /// Returns the most bytes that may wait in each queue of each core.
    pub(crate) fn queue_bytes(&self) -> usize {
        self.queue_bound.get()
    }

    /// Changes the most bytes that may wait in each queue of each core. What waits already stays.
    pub(crate) fn set_queue_bytes(&self, bytes: usize) {
        self.queue_bound.set(bytes);
    }

    /// Changes the bound on what the cache keeps in this process, for all cores.
    pub(crate) fn set_near_bytes(&self, bytes: u64) {
        if let Some(cache) = self.keys.cache() {
            cache.set_near_bytes(bytes);
        }
    }

    /// Cancels the statements in progress whose callers have gone.
    pub(crate) fn abort(&self) {
        self.keys.abort();
        self.users.abort();
    }

    /// Closes the connection that the store has besides the pool.
    pub(crate) async fn close(&self) {
        self.keys.close().await;
    }
}

#[cfg(test)]
mod tests;
