//! Counts what the cache does. Invariant: counting on one core does not slow another down.

use cenote_metrics::{Histogram, StripedCounters};

use crate::{
    read::{Read, Source},
    redis::problem::RedisProblem,
};

/// What the cache has done since it was created, and its state.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// Reads answered by this process.
    pub near_hits: u64,
    /// Reads answered by Redis.
    pub redis_hits: u64,
    /// Reads answered by the database.
    pub misses: u64,
    /// Of all these, the reads whose answer was that there is no value.
    pub absent: Absent,
    /// Reads, among all, that shared the look-up of another read.
    pub joined: u64,
    /// Keys loaded without a cache, because none was trusted or reached.
    pub bypassed: u64,
    /// Reads, among all, whose value was marked stale because the database failed.
    pub stale: u64,
    /// Values stored after a load.
    pub fills: u64,
    /// Values not stored, because the key was written, evicted or invalidated since the load began.
    pub fills_rejected: u64,
    /// Loads without a lease, which removed older values from the cache instead of storing.
    pub seals: u64,
    /// Keys fenced for a write.
    pub fences: u64,
    /// Writes that committed and were not released in Redis in time.
    pub pending: u64,
    /// Sessions with Redis that broke or could not be opened.
    pub redis_errors: u64,
    /// Values kept in this process.
    pub keys: usize,
    /// Their bytes, as [`Config::near_bytes`](crate::Config::near_bytes) counts them.
    pub bytes: u64,
    /// Values that made room for others in this process.
    pub evictions: u64,
    /// The epoch that is acted on; `None` in modes without epochs, and while there is no valid view.
    pub epoch: Option<u64>,
    /// Whether the cache is used.
    pub state: State,
    /// Whether the mode uses Redis.
    pub uses_redis: bool,
    /// Why there is no session with Redis, in modes with one. `state` says whether Redis is used: that changes only some time
    /// after a session is lost or opened.
    pub redis_problem: Option<RedisProblem>,
    /// How long Redis took to answer what was sent together: commands for one or many keys. Without failures.
    pub redis_times: Histogram,
}

/// Reads whose answer was that there is no value, by what answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Absent {
    /// Of [`Stats::near_hits`].
    pub near: u64,
    /// Of [`Stats::redis_hits`].
    pub redis: u64,
    /// Of [`Stats::misses`].
    pub database: u64,
}

impl Stats {
    /// The number of reads answered without the database.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.near_hits + self.redis_hits
    }

    /// The share of hits among all reads, from 0 to 1; 0 before the first read.
    #[must_use]
    pub fn hit_rate(&self) -> f64 {
        let reads = self.hits() + self.misses;
        if reads == 0 {
            return 0.0;
        }
        self.hits() as f64 / reads as f64
    }
}

/// Whether the cache is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    /// The cache is used.
    #[default]
    Ok,
    /// Reads go to the database.
    Degraded(DegradedReason),
}

/// Why the cache is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DegradedReason {
    /// The last row of the epoch that the database returned is too old, or too new to be acted on. Writes wait.
    UnknownEpoch,
    /// The current epoch trusts no Redis. Writes proceed.
    Untrusted,
    /// Redis does not answer, or is not the trusted one. Writes wait until the epoch has moved on.
    Unreachable,
    /// Another instance uses a Redis keyspace that this one does not see: a different server, database number or prefix.
    OtherKeyspace,
}

/// The counted events.
#[derive(Debug, Clone, Copy)]
pub(crate) enum CacheEvent {
    Near,
    NearAbsent,
    Redis,
    RedisAbsent,
    Database,
    DatabaseAbsent,
    Joined,
    Bypassed,
    Stale,
    Fill,
    FillRejected,
    Seal,
    Fence,
    Pending,
    RedisError,
}

const EVENTS: usize = CacheEvent::RedisError as usize + 1;

/// The counts.
#[derive(Default)]
pub(crate) struct Counters(StripedCounters<EVENTS>);

impl Counters {
    /// Adds to the count of an event.
    pub(crate) fn add(&self, event: CacheEvent, times: usize) {
        self.0.add(event as usize, times as u64);
    }

    /// Counts a read by where it was found, and whether there is a value.
    pub(crate) fn add_read(&self, read: &Read) {
        let event = match (read.source, &read.value) {
            (Source::Near, Some(_)) => CacheEvent::Near,
            (Source::Near, None) => CacheEvent::NearAbsent,
            (Source::Redis, Some(_)) => CacheEvent::Redis,
            (Source::Redis, None) => CacheEvent::RedisAbsent,
            (Source::Database, Some(_)) => CacheEvent::Database,
            (Source::Database, None) => CacheEvent::DatabaseAbsent,
        };
        self.add(event, 1);
        if read.stale {
            self.add(CacheEvent::Stale, 1);
        }
    }

    /// The counts of all threads together.
    pub(crate) fn totals(&self) -> Stats {
        let total = |event: CacheEvent| self.0.total(event as usize);
        let absent = Absent {
            near: total(CacheEvent::NearAbsent),
            redis: total(CacheEvent::RedisAbsent),
            database: total(CacheEvent::DatabaseAbsent),
        };
        Stats {
            near_hits: total(CacheEvent::Near) + absent.near,
            redis_hits: total(CacheEvent::Redis) + absent.redis,
            misses: total(CacheEvent::Database) + absent.database,
            absent,
            joined: total(CacheEvent::Joined),
            bypassed: total(CacheEvent::Bypassed),
            stale: total(CacheEvent::Stale),
            fills: total(CacheEvent::Fill),
            fills_rejected: total(CacheEvent::FillRejected),
            seals: total(CacheEvent::Seal),
            fences: total(CacheEvent::Fence),
            pending: total(CacheEvent::Pending),
            redis_errors: total(CacheEvent::RedisError),
            ..Stats::default()
        }
    }
}
