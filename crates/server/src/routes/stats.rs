//! `/pool-stats` and `/cache-stats`.

use axum::extract::State;
use cenote_postgres::{Histogram, QueueStats, Retired};
use serde::Serialize;
use utoipa::ToSchema;

use super::{health::problem_of_cache, json, millis};
use crate::{app::App, http::Whole, settings::CacheMode};

/// What the pool has done and is doing.
#[derive(Serialize, ToSchema)]
pub(super) struct PoolStats {
    /// Whether the pool takes requests.
    initialized: bool,
    /// Connections that are open.
    pool_size: u32,
    /// Of these, idle.
    checked_in: u32,
    /// Of these, in use.
    checked_out: u32,
    /// Of these, beyond `max`.
    overflow: u32,
    /// Connections closed because they were broken, since the start.
    invalid: u64,
    /// Statements sent, since the start.
    query_count: u64,
    /// Statements that failed.
    error_count: u64,
    /// Statements that took longer than the command timeout.
    timeout_count: u64,
    min: u32,
    max: u32,
    max_overflow: u32,
    /// Requests in line for a connection.
    waiting: u32,
    /// How long the first in line has waited.
    longest_wait_ms: f64,
    /// Connects under way.
    connecting: u32,
    /// Connections being cleaned before their next use.
    cleaning: u32,
    /// Connections being closed; they count against the maximum.
    closing: u32,
    /// Requests that got a connection.
    acquired: u64,
    /// Requests that waited too long for one.
    acquire_timeouts: u64,
    /// Requests refused at once: too many were in line, they would have waited in vain, or the database has been out
    /// of reach for a while.
    acquire_refused: u64,
    /// Whether newcomers are refused because the database has been out of reach for a while.
    breaker_open: bool,
    /// Connections that one request has had for more than a minute.
    leaked: u32,
    /// How often a request was seen that waited for a connection while it had one.
    nested_waits: u64,
    connects: u64,
    connect_failures: u64,
    /// Why the last connect failed, unless one has succeeded since.
    last_connect_error: Option<&'static str>,
    /// Requests that share statements, by what they are about.
    queues: Queues,
    /// Connections closed, since the start, by reason.
    retired: RetiredStats,
    /// Time to get a connection.
    acquire_ms: Percentiles,
    /// Of these, those that got one that was open already.
    acquire_waiting_ms: Percentiles,
    /// Of these, those for whom one was opened.
    acquire_connecting_ms: Percentiles,
    /// Time to open a connection.
    connect_ms: Percentiles,
}

/// Requests that share statements, by what they are about.
#[derive(Serialize, ToSchema)]
struct Queues {
    /// Keys read.
    reads: Queue,
    /// Keys written and deleted.
    writes: Queue,
    /// Users read.
    users: Queue,
}

/// Requests that share statements. Counters count from the start.
#[derive(Serialize, ToSchema)]
struct Queue {
    /// Requests that wait to be sent.
    waiting: usize,
    /// Bytes of theirs.
    waiting_bytes: usize,
    /// How long the first in line has waited.
    longest_wait_ms: f64,
    /// Statements under way.
    running: u32,
    /// Requests sent.
    requests: u64,
    /// Statements they were sent in, repeated ones aside.
    batches: u64,
    /// Requests refused at once: too many were waiting, or too many bytes, or they had to expect a long wait.
    refused: u64,
    /// Requests that were not sent in time.
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

/// What the pool has done and is doing.
#[utoipa::path(get, path = "/pool-stats", operation_id = "pool_stats", tag = "operations", responses(
    (status = 200, body = PoolStats, description = "Counts since the start, and how it stands"),
))]
pub(super) async fn pool(State(app): State<App>) -> Whole {
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
    })
}

/// What the cache of this instance has done, since the start, and how it stands. Users are not cached.
#[derive(Serialize, ToSchema)]
pub(super) struct CacheStats {
    /// `CACHE_MODE`.
    #[schema(example = "local")]
    mode: &'static str,
    /// `ok`; `degraded` while every read goes to the database; `off`.
    #[schema(example = "ok")]
    state: &'static str,
    /// Why it is degraded, with what Redis itself says.
    problem: Option<String>,
    /// Keys read without asking the database.
    hits: u64,
    /// Keys read from the database.
    misses: u64,
    /// Hits of all reads, 0 to 1.
    hit_rate: f64,
    /// Keys that are cached: in the modes with Redis those in Redis, else those in this process. Redis is asked at most
    /// once a second and only briefly, so with much else in its database this is an estimate at first, and later some
    /// seconds old. Null if Redis does not tell, which takes `SCAN`.
    keys: Option<u64>,
    /// How long ago counting them began; later changes may be missed.
    keys_age_ms: f64,
    /// Whether a part was counted and the rest taken to be like it.
    keys_estimated: bool,
    /// Keys kept in this process.
    near_keys: u64,
    /// What those in this process take, of `CACHE_NEAR_BYTES`.
    bytes: u64,
    /// Of the hits, those in this process.
    near_hits: u64,
    /// Of the hits, those in Redis.
    shared_hits: u64,
    /// Reads, hit or miss, that waited for the same look-up as another.
    joined: u64,
    /// Keys read from the database because no cache could be believed or reached.
    bypassed: u64,
    /// Answers that were marked stale, because the database failed.
    stale: u64,
    /// Values stored after a look-up.
    fills: u64,
    /// Values not stored, because something had happened to the key meanwhile.
    fills_rejected: u64,
    /// Look-ups that could not be stored, and removed what may be older.
    seals: u64,
    /// Keys fenced for a write.
    fences: u64,
    /// Statements that committed and that Redis could not be told of in time.
    pending: u64,
    /// Connections to Redis that broke or could not be made.
    redis_errors: u64,
    /// The epoch that is acted on; none in the modes `local`, `ttl` and `off`, and while it is not known.
    epoch: Option<u64>,
    /// With `CACHE_FEED`.
    feed: Option<FeedStats>,
}

/// What the change feed has heard of.
#[derive(Serialize, ToSchema)]
struct FeedStats {
    /// Whether it is connected. While it is not, what bypasses the service is not seen; afterwards everything is dropped.
    listening: bool,
    /// Keys dropped because they were changed.
    keys: u64,
    /// Times everything was dropped: at the start, after an interruption, and after changes too many to be named.
    everything: u64,
    /// How far behind it was last seen to be; measured every 5 s.
    lag_ms: f64,
}

/// What the cache has done.
#[utoipa::path(get, path = "/cache-stats", operation_id = "cache_stats", tag = "operations", responses(
    (status = 200, body = CacheStats, description = "Counts since the start, and how it stands"),
))]
pub(super) async fn cache(State(app): State<App>) -> Whole {
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
        near_hits: stats.near_hits,
        shared_hits: stats.shared_hits,
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
