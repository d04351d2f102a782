//! `/pool-stats` and `/cache-stats`. Invariant: neither asks the database.

use axum::extract::State;
use cenote_postgres::{Histogram, QueueStats, Retired};
use serde::Serialize;
use utoipa::ToSchema;

use super::response::{json, millis};
use crate::{
    app::App,
    http::FullResponse,
    store::{CacheMode, problem_of_cache},
};

/// Statistics of the connection pool. Counters count from the start.
#[derive(Serialize, ToSchema)]
pub(super) struct PoolStats {
    /// Whether the pool is open.
    initialized: bool,
    /// Open connections.
    pool_size: u32,
    /// Open connections that are idle.
    checked_in: u32,
    /// Open connections that are in use.
    checked_out: u32,
    /// Open connections beyond `max`.
    overflow: u32,
    /// Connections closed because they were broken.
    invalid: u64,
    /// Statements sent.
    query_count: u64,
    /// Statements that failed.
    error_count: u64,
    /// Statements that took longer than the command timeout.
    timeout_count: u64,
    min: u32,
    max: u32,
    max_overflow: u32,
    /// Requests that wait for a connection.
    waiting: u32,
    /// How long the first of them has waited.
    longest_wait_ms: f64,
    /// Connections being opened.
    connecting: u32,
    /// Connections being cleaned before their next use.
    cleaning: u32,
    /// Connections being closed; they count against the maximum.
    closing: u32,
    /// Requests that acquired a connection.
    acquired: u64,
    /// Requests that had to wait for a connection, however briefly.
    acquire_waits: u64,
    /// Requests whose wait for a connection timed out.
    acquire_timeouts: u64,
    /// Requests refused at once: too many were waiting, their wait would have timed out, or the database has been
    /// unreachable for a while.
    acquire_refused: u64,
    /// Whether new requests are refused because the database has been unreachable for a while.
    breaker_open: bool,
    /// Connections that one request has held for more than a minute.
    leaked: u32,
    /// Requests that waited for a connection while they held one.
    nested_waits: u64,
    connects: u64,
    connect_failures: u64,
    /// Why the last connect failed, unless one has succeeded since.
    last_connect_error: Option<&'static str>,
    /// Queues of requests that share statements, by kind of request.
    queues: Queues,
    /// Connections closed, by reason.
    retired: RetiredStats,
    /// Time to acquire a connection.
    acquire_ms: Percentiles,
    /// Time to acquire a connection that was already open.
    acquire_waiting_ms: Percentiles,
    /// Time to acquire a connection that was opened for the request.
    acquire_connecting_ms: Percentiles,
    /// Time to open a connection.
    connect_ms: Percentiles,
    /// Time for which a request or a statement of many requests held a connection.
    use_ms: Percentiles,
}

/// Queues of requests that share statements, by kind of request.
#[derive(Serialize, ToSchema)]
struct Queues {
    /// Reads of keys.
    reads: Queue,
    /// Writes and deletes of keys.
    writes: Queue,
    /// Reads of users.
    users: Queue,
}

/// A queue of requests that share statements. Counters count from the start.
#[derive(Serialize, ToSchema)]
struct Queue {
    /// Requests that wait to be sent.
    waiting: usize,
    /// The bytes of these requests.
    waiting_bytes: usize,
    /// How long the first of them has waited.
    longest_wait_ms: f64,
    /// Statements in progress.
    running: u32,
    /// Requests sent.
    requests: u64,
    /// Statements that these requests were sent in, without retries.
    batches: u64,
    /// Requests refused at once: too many requests or bytes were waiting, or the expected wait was too long.
    refused: u64,
    /// Requests that timed out before they were sent.
    expired: u64,
}

impl From<QueueStats> for Queue {
    fn from(stats: QueueStats) -> Self {
        Self {
            waiting: stats.waiting,
            waiting_bytes: stats.waiting_bytes,
            longest_wait_ms: millis(stats.longest_wait),
            running: stats.running,
            requests: stats.requests,
            batches: stats.batches,
            refused: stats.refused,
            expired: stats.expired,
        }
    }
}

/// Connections closed, by reason.
#[derive(Serialize, ToSchema)]
struct RetiredStats {
    broken: u64,
    lifetime: u64,
    idle: u64,
    overflow: u64,
    discarded: u64,
}

/// Milliseconds, at most 25 % too high; the maximum is exact.
#[derive(Serialize, ToSchema)]
struct Percentiles {
    count: u64,
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

impl From<&Histogram> for Percentiles {
    fn from(times: &Histogram) -> Self {
        Self {
            count: times.count(),
            p50: millis(times.quantile(0.5)),
            p90: millis(times.quantile(0.9)),
            p99: millis(times.quantile(0.99)),
            max: millis(times.max()),
        }
    }
}

/// Returns statistics of the connection pool.
#[utoipa::path(get, path = "/pool-stats", operation_id = "pool_stats", tag = "operations", responses(
    (status = 200, body = PoolStats, description = "Counters since the start, and the current state"),
))]
pub(super) async fn pool(State(app): State<App>) -> FullResponse {
    let stats = app.pool.stats();
    let pool = &stats.pool;
    let queues = app.queues();
    json(&PoolStats {
        initialized: pool.open,
        pool_size: pool.size(),
        checked_in: pool.idle,
        checked_out: pool.in_use,
        overflow: pool.overflow(),
        invalid: pool.retired(Retired::Broken),
        query_count: stats.queries,
        error_count: stats.errors,
        timeout_count: stats.timeouts,
        min: pool.min_size,
        max: pool.max_size,
        max_overflow: pool.max_overflow,
        waiting: pool.waiting,
        longest_wait_ms: millis(pool.longest_wait.unwrap_or_default()),
        connecting: pool.connecting,
        cleaning: pool.cleaning,
        closing: pool.closing,
        acquired: pool.acquired,
        acquire_waits: pool.waited,
        acquire_timeouts: pool.timeouts,
        acquire_refused: pool.refused,
        breaker_open: pool.breaker_open,
        leaked: pool.leaked,
        nested_waits: pool.nested_waits,
        connects: pool.connects,
        connect_failures: pool.connect_failures,
        last_connect_error: stats.last_connect_error,
        queues: Queues {
            reads: queues.reads.into(),
            writes: queues.writes.into(),
            users: queues.users.into(),
        },
        retired: RetiredStats {
            broken: pool.retired(Retired::Broken),
            lifetime: pool.retired(Retired::Lifetime),
            idle: pool.retired(Retired::Idle),
            overflow: pool.retired(Retired::Overflow),
            discarded: pool.retired(Retired::Discarded),
        },
        acquire_ms: (&pool.acquire_times()).into(),
        acquire_waiting_ms: (&pool.waiting_times).into(),
        acquire_connecting_ms: (&pool.connecting_times).into(),
        connect_ms: (&pool.connect_times).into(),
        use_ms: (&pool.use_times).into(),
    })
}

/// Statistics of this instance's cache. Counters count from the start. Users are not cached.
#[derive(Serialize, ToSchema)]
pub(super) struct CacheStats {
    /// `CACHE_MODE`.
    #[schema(example = "local")]
    mode: &'static str,
    /// `ok`; `degraded` while every read goes to the database; `off`.
    #[schema(example = "ok")]
    state: &'static str,
    /// Why the cache is degraded, with Redis' own message.
    problem: Option<String>,
    /// Keys read without asking the database.
    hits: u64,
    /// Keys read from the database.
    misses: u64,
    /// The share of hits in all reads, 0 to 1.
    hit_rate: f64,
    /// Cached keys: those in Redis in the modes with Redis, otherwise those in this process. Redis is asked at most once a
    /// second and only briefly. If its database has many other keys, this is an estimate at first, and a few seconds old
    /// later. Null if Redis does not answer or refuses `SCAN`.
    keys: Option<u64>,
    /// How long ago the count began; it may miss later changes.
    keys_age_ms: f64,
    /// Whether only a part was counted, and the rest extrapolated.
    keys_estimated: bool,
    /// Keys kept in this process.
    near_keys: u64,
    /// Bytes that the keys kept in this process take, of `CACHE_NEAR_BYTES`.
    bytes: u64,
    /// Values that made room for others in this process.
    evictions: u64,
    /// Hits in this process.
    near_hits: u64,
    /// Hits in Redis.
    shared_hits: u64,
    /// Reads, hits or misses, that joined the look-up of another read.
    joined: u64,
    /// Keys read from the database because no cache was reachable or trusted.
    bypassed: u64,
    /// Reads answered with a stale value, because the database failed.
    stale: u64,
    /// Values stored after a look-up.
    fills: u64,
    /// Values not stored, because the key was written or dropped during the look-up.
    fills_rejected: u64,
    /// Look-ups that could not be stored, and dropped the key because its cached value may be older.
    seals: u64,
    /// Keys fenced for a write.
    fences: u64,
    /// Committed statements that Redis could not be told of in time.
    pending: u64,
    /// Connections to Redis that broke or could not be opened.
    redis_errors: u64,
    /// The current epoch. Null in the modes `local`, `ttl` and `off`, and while the epoch is unknown.
    epoch: Option<u64>,
    /// The change feed. Null without `CACHE_FEED`.
    feed: Option<FeedStats>,
}

/// Statistics of the change feed. Counters count from the start.
#[derive(Serialize, ToSchema)]
struct FeedStats {
    /// Whether the feed is connected. While it is not, changes made outside the service are not seen; after it
    /// reconnects, the whole cache is dropped.
    listening: bool,
    /// Keys dropped because they were changed.
    keys: u64,
    /// How often the whole cache was dropped: at the start, after an interruption, and after a change of too many keys.
    everything: u64,
    /// The last measured delay of the feed; measured every 5 s.
    lag_ms: f64,
}

/// Returns statistics of the cache.
#[utoipa::path(get, path = "/cache-stats", operation_id = "cache_stats", tag = "operations", responses(
    (status = 200, body = CacheStats, description = "Counters since the start, and the current state"),
))]
pub(super) async fn cache(State(app): State<App>) -> FullResponse {
    let mode = app.cache_mode.as_str();
    let stats = app.store.cache_stats().unwrap_or_default();
    let problem = problem_of_cache(&stats);
    let counted = app.store.count_keys().await;
    json(&CacheStats {
        mode,
        state: match (app.cache_mode, &problem) {
            (CacheMode::Off, _) => "off",
            (_, Some(_)) => "degraded",
            (_, None) => "ok",
        },
        problem,
        hits: stats.hits(),
        misses: stats.misses,
        hit_rate: stats.hit_rate(),
        keys: counted.map(|counted| counted.keys),
        keys_age_ms: millis(counted.unwrap_or_default().age),
        keys_estimated: counted.is_some_and(|counted| counted.is_estimate),
        near_keys: stats.keys as u64,
        bytes: stats.bytes,
        evictions: stats.evictions,
        near_hits: stats.near_hits,
        shared_hits: stats.redis_hits,
        joined: stats.joined,
        bypassed: stats.bypassed,
        stale: stats.stale,
        fills: stats.fills,
        fills_rejected: stats.fills_rejected,
        seals: stats.seals,
        fences: stats.fences,
        pending: stats.pending,
        redis_errors: stats.redis_errors,
        epoch: stats.epoch,
        feed: app.has_feed.then(|| {
            let feed = app.store.feed_stats();
            FeedStats {
                listening: feed.listening,
                keys: feed.keys,
                everything: feed.everything,
                lag_ms: millis(feed.lag),
            }
        }),
    })
}
