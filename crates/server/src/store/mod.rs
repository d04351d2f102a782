//! What is kept in PostgreSQL, read through the cache. Invariant: all SQL of the service is in here, and each statement
//! has one place.

mod commit;
mod condition;
mod email;
mod epoch;
pub(crate) mod feed;
mod keys;
mod large;
mod origin;
pub(crate) mod requirements;
pub(crate) mod schema;
mod statements;
mod users;

use std::{sync::Arc, time::Duration};

use cenote_cache::{
    cache::Cache,
    config::{Config, ConfigError, Mode},
    key_count::KeyCount,
    stats::{Reason, State, Stats},
};
use cenote_postgres::{Combiner, InvalidConfig, Limits, Loader, Pool, QueueStats};
use tokio::time::{sleep, timeout};

use crate::settings::SchemaName;

use self::{
    commit::Committer,
    epoch::Epoch,
    feed::{Feed, FeedStats},
    origin::Values,
    statements::Statements,
    users::Settled,
};
pub(crate) use self::{
    commit::WriteError,
    condition::{ABSENT, Condition},
    keys::{Change, Changed, is_unrepresentable},
    large::{is_note, noted_size},
    users::{User, UserRow},
};

/// How often the cache is asked at the start whether it knows its epoch.
const LOOK: Duration = Duration::from_millis(10);
/// How many leases of the epoch a start waits for it at most: a row that others have just changed takes one, and a poll.
const KNOWN_WITHIN: u32 = 2;

/// Where the tables are, and how much may wait for them.
#[derive(Clone, Debug)]
pub(crate) struct Tables {
    pub(crate) schema: SchemaName,
    pub(crate) backlog: Backlog,
}

/// Keys and users, for one core. Their methods are in `keys` and `users`.
#[derive(Clone)]
pub(crate) struct Store {
    pool: Pool,
    values: Values,
    /// None where nothing is cached.
    cache: Option<Cache<Values>>,
    changes: Combiner<keys::Changes>,
    /// For how long a write waits for its key to be fenced.
    write_patience: Duration,
    feed: Arc<Feed>,
    users: Loader<i64, Arc<UserRow>>,
    /// Which users are known to be listed, on all cores.
    settled: Arc<Settled>,
    statements: Arc<Statements>,
    /// How long a start waits for the cache.
    cache_patience: Duration,
}

/// How much may wait to share a statement, of each kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backlog {
    pub(crate) bytes: usize,
    /// Longest wait that a request may have to expect.
    pub(crate) wait: Duration,
}

/// What waits to share a statement, by kind.
#[derive(Default)]
pub(crate) struct Queues {
    pub(crate) reads: QueueStats,
    pub(crate) writes: QueueStats,
    pub(crate) users: QueueStats,
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

/// Why there can be no store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    Cache(#[from] ConfigError),
    #[error(transparent)]
    Pool(#[from] InvalidConfig),
}

impl Store {
    /// One for each home of this pool, with queues of its own and one cache for all. The pool's server ends a statement
    /// within the cache's deadline.
    pub(crate) fn per_home(pool: &Pool, config: Config, tables: &Tables) -> Result<Vec<Self>, StoreError> {
        let Tables { schema, backlog } = tables;
        let (deadline, write_patience) = (config.timing.deadline(), config.write_patience);
        let cache_patience = config.timing.lease() * KNOWN_WITHIN;
        let has_epochs = matches!(config.mode, Mode::Strong(_) | Mode::Bounded { .. });
        let epoch = match has_epochs {
            true => Some(Epoch::beside(pool, config.timing.poll_interval(), schema)?),
            false => None,
        };
        let homes = pool.homes().count();
        // Each kind has its own: slow writes are not to take what reads have to spare.
        let limits = || Limits {
            waiting_bytes: backlog.bytes.div_ceil(homes),
            expected_wait: backlog.wait,
            ..Limits::per_home(pool)
        };
        let values = Values::per_home(pool, &limits(), epoch, schema);
        let cache = match config.mode {
            Mode::Off => None,
            _ => Some(Cache::new(values[0].clone(), config)?),
        };
        let committer = Committer {
            cache: cache.clone(),
            deadline,
        };
        let feed: Arc<Feed> = Arc::default();
        let settled: Arc<Settled> = Arc::default();
        let changes = keys::changes(&committer, pool, &limits(), schema);
        let queues = changes.into_iter().zip(users::loaders(pool, &limits(), schema));
        let statements = Arc::new(Statements::of(schema));
        let store = |((pool, values), (changes, users)): ((Pool, Values), _)| Self {
            cache: cache.as_ref().map(|cache| cache.with_origin(values.clone())),
            feed: feed.clone(),
            pool,
            values,
            changes,
            write_patience,
            users,
            settled: settled.clone(),
            statements: statements.clone(),
            cache_patience,
        };
        let homes = pool.homes().zip(values).zip(queues);
        Ok(homes.map(store).collect())
    }

    /// Returns when the cache knows its epoch, so that writes need not wait for it and what is read is kept, or has not
    /// come to know it for long; and when no change is missed that follows, where that is asked for.
    pub(crate) async fn ready(&self, with_feed: bool) {
        let unknown = State::Degraded(Reason::UnknownEpoch);
        let is_unknown = || {
            let stats = self.cache_stats();
            stats.is_some_and(|stats| stats.state == unknown)
        };
        let known = async {
            while is_unknown() {
                sleep(LOOK).await;
            }
        };
        if timeout(self.cache_patience, known).await.is_err() {
            tracing::warn!(
                "the database has not yet said which Redis is in use; until then nothing is cached and writes wait"
            );
        }
        while with_feed && self.feed_stats().everything == 0 {
            sleep(LOOK).await;
        }
    }

    /// Drops from the cache what bypasses the service, for ever. To be called once, where the triggers are.
    pub(crate) async fn follow_changes(&self) {
        match &self.cache {
            Some(cache) => self.feed.clone().follow(self.pool.clone(), cache.clone()).await,
            None => std::future::pending().await,
        }
    }

    /// What the change feed has heard.
    pub(crate) fn feed_stats(&self) -> FeedStats {
        self.feed.stats()
    }

    /// What the cache has done, if there is one.
    pub(crate) fn cache_stats(&self) -> Option<Stats> {
        self.cache.as_ref().map(Cache::stats)
    }

    /// How many keys are cached; none where that is not told.
    pub(crate) async fn count_keys(&self) -> Option<KeyCount> {
        match &self.cache {
            Some(cache) => cache.count_keys().await,
            None => Some(KeyCount::default()),
        }
    }

    /// What its queues have done and are doing.
    pub(crate) fn queues(&self) -> Queues {
        Queues {
            reads: self.values.queue(),
            writes: self.changes.stats(),
            users: self.users.stats(),
        }
    }

    /// Gives up what is under way for callers that have gone: their statements are cancelled.
    pub(crate) fn abort(&self) {
        self.values.abort();
        self.users.abort();
        self.changes.abort();
    }

    /// Closes what the store has besides the pool.
    pub(crate) async fn close(&self) {
        self.values.close().await;
    }
}

#[cfg(test)]
mod tests;
