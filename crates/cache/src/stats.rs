//! Counts what the cache does. Invariant: counting on one core does not slow another down.

use std::{
    array,
    cell::Cell,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use cenote_metrics::Histogram;

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
    NearHit,
    RedisHit,
    Miss,
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
const STRIPES: usize = 16;

/// Aligned to two cache lines, which processors fetch together, so that threads do not share one.
#[repr(align(128))]
struct Stripe([AtomicU64; EVENTS]);

/// The counts, one set per stripe. Relaxed throughout: they order nothing, and a total may miss the newest events.
pub(crate) struct Counters(Box<[Stripe]>);

static NEXT_STRIPE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static STRIPE: Cell<usize> = Cell::new(NEXT_STRIPE.fetch_add(1, Relaxed) % STRIPES);
}

impl Counters {
    pub(crate) fn new() -> Self {
        let stripe = |_| Stripe(array::from_fn(|_| AtomicU64::new(0)));
        Self((0..STRIPES).map(stripe).collect())
    }

    /// Adds to the count of an event.
    pub(crate) fn add(&self, event: CacheEvent, times: usize) {
        // A thread that is ending no longer has a stripe.
        let stripe = STRIPE.try_with(Cell::get).unwrap_or(0);
        self.0[stripe].0[event as usize].fetch_add(times as u64, Relaxed);
    }

    /// Counts a read by where it was found.
    pub(crate) fn add_read(&self, read: &Read) {
        let event = match read.source {
            Source::Near => CacheEvent::NearHit,
            Source::Redis => CacheEvent::RedisHit,
            Source::Database => CacheEvent::Miss,
        };
        self.add(event, 1);
        if read.stale {
            self.add(CacheEvent::Stale, 1);
        }
    }

    /// The counts of all threads together.
    pub(crate) fn totals(&self) -> Stats {
        let total = |event| self.get(event);
        Stats {
            near_hits: total(CacheEvent::NearHit),
            redis_hits: total(CacheEvent::RedisHit),
            misses: total(CacheEvent::Miss),
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

    fn get(&self, event: CacheEvent) -> u64 {
        let counts = self.0.iter().map(|stripe| &stripe.0[event as usize]);
        counts.map(|count| count.load(Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn counts_of_all_threads_add_up() {
        let counters = Counters::new();
        thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| counters.add(CacheEvent::Miss, 3));
            }
        });
        assert_eq!(counters.get(CacheEvent::Miss), 120);
        assert_eq!(counters.get(CacheEvent::NearHit), 0);
    }
}
