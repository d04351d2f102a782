//! The figures of one moment, and the row of numbers between two.
//!
//! Invariant: a row is computed from two readings alone. Reading waits for nothing but short locks, and asks neither the
//! database nor Redis.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use cenote_cache::Stats as CacheStats;
use cenote_metrics::Histogram;
use cenote_postgres::{ConnectionInfo, Stats as DatabaseStats};
use tokio::time::Instant;

use crate::{app::App, http::TrafficStats, memory_watch::MemoryReport, store::Queues};

/// What the numbers of a row are. Rates are per second of the time since the row before, durations in microseconds.
pub(crate) const COLUMNS: [&str; 23] = [
    // Milliseconds since 1970.
    "t",
    "requests",
    // Answered 5xx.
    "errors",
    // Answered 4xx.
    "refused",
    "p50",
    "p99",
    "p999",
    "in_use",
    "idle",
    "connecting",
    "cleaning",
    // Callers that wait for a connection.
    "waiting",
    // Of those, and of the requests that wait to share a statement.
    "longest_wait",
    "wait_p99",
    "use_p99",
    "statements",
    // Requests in a statement, in hundredths.
    "batch",
    // Requests that wait to share a statement.
    "queued",
    // Reads by what answered them.
    "near",
    "shared",
    "database",
    // Bytes, 0 if memory is not watched.
    "memory",
    // Of clients.
    "connections",
];

/// The numbers of a moment, in the order of [`COLUMNS`].
pub(super) type Row = [u64; COLUMNS.len()];

/// Most connections that are shown one by one.
pub(super) const MOST_SLOTS: usize = 512;

/// The routes whose requests are counted here: those of callers. Probes, scrapes and the page itself would hide how these
/// fare.
pub(crate) const ROUTES_OF_CALLERS: [&str; 6] = ["/read/{key}", "/write", "/users/{id}", "/read", "/users", "other"];

/// The figures of one moment. Counters count from the start.
pub(super) struct Reading {
    pub(super) at: Instant,
    pub(super) time: SystemTime,
    pub(super) requests: Requests,
    /// Connections of clients.
    pub(super) clients: usize,
    pub(super) database: DatabaseStats,
    /// At most [`MOST_SLOTS`].
    pub(super) connections: Vec<ConnectionInfo>,
    pub(super) queues: Queues,
    /// `None` without a cache.
    pub(super) cache: Option<CacheStats>,
    /// `None` if memory is not watched.
    pub(super) memory: Option<Arc<MemoryReport>>,
}

/// The requests of callers.
#[derive(Default)]
pub(super) struct Requests {
    pub(super) total: u64,
    /// Answered 5xx.
    pub(super) errors: u64,
    /// Answered 4xx.
    pub(super) refused: u64,
    pub(super) durations: Histogram,
}

impl Requests {
    fn of(traffic: &TrafficStats) -> Self {
        let mut all = Self::default();
        let routes = traffic.routes.iter();
        for route in routes.filter(|route| ROUTES_OF_CALLERS.contains(&route.route)) {
            all.durations.merge(&route.durations);
            for (_, code, count) in &route.requests {
                all.total += count;
                match *code {
                    "5xx" => all.errors += count,
                    "4xx" => all.refused += count,
                    _ => {}
                }
            }
        }
        all
    }
}

impl Reading {
    pub(super) fn take(app: &App) -> Self {
        let traffic = app.traffic.stats();
        Self {
            at: Instant::now(),
            time: SystemTime::now(),
            requests: Requests::of(&traffic),
            clients: traffic.connections,
            database: app.pool.stats(),
            connections: app.pool.connections(MOST_SLOTS),
            queues: app.queues(),
            cache: app.store.cache_stats(),
            memory: app.memory_state.report(),
        }
    }

    /// The number of connections that exist, shown one by one or not.
    pub(super) fn existing(&self) -> usize {
        let pool = &self.database.pool;
        (pool.size() + pool.connecting + pool.closing) as usize
    }

    /// This moment in milliseconds since 1970. The same for the same moment, whichever reading is asked, while nobody sets
    /// the clock.
    pub(super) fn unix_at(&self, moment: Instant) -> u64 {
        let later = moment.saturating_duration_since(self.at);
        // Both clocks are read one after the other, so seconds are all that stays the same.
        milliseconds(self.time + later + Duration::from_millis(500)) / 1000 * 1000
    }

    /// How long the request has waited that waits longest, for a connection or to share a statement.
    pub(super) fn longest_wait(&self) -> Duration {
        let queues = [&self.queues.reads, &self.queues.writes, &self.queues.users];
        let queued = queues.map(|queue| queue.longest_wait);
        let pool = self.database.pool.longest_wait.unwrap_or_default();
        queued.into_iter().fold(pool, Duration::max)
    }

    /// Requests that wait to share a statement.
    pub(super) fn queued(&self) -> usize {
        self.queues.reads.waiting + self.queues.writes.waiting + self.queues.users.waiting
    }
}

/// What happened between two readings.
pub(super) struct Interval<'a> {
    pub(super) before: &'a Reading,
    pub(super) now: &'a Reading,
}

impl Interval<'_> {
    pub(super) fn row(&self) -> Row {
        let Self { before, now } = self;
        let pool = &now.database.pool;
        let requests = now.requests.durations.since(&before.requests.durations);
        let cache = |of: fn(&CacheStats) -> u64| {
            let count = |reading: &Reading| reading.cache.as_ref().map_or(0, of);
            self.rate(count)
        };
        let database = match now.cache {
            Some(_) => cache(|cache| cache.misses),
            // Without a cache, every read that shares a statement.
            None => self.rate(|reading| reading.queues.reads.requests),
        };
        [
            milliseconds(now.time),
            self.rate(|reading| reading.requests.total),
            self.rate(|reading| reading.requests.errors),
            self.rate(|reading| reading.requests.refused),
            micros(requests.quantile(0.5)),
            micros(requests.quantile(0.99)),
            micros(requests.quantile(0.999)),
            pool.in_use.into(),
            pool.idle.into(),
            pool.connecting.into(),
            pool.cleaning.into(),
            pool.waiting.into(),
            micros(now.longest_wait()),
            micros(self.waits().quantile(0.99)),
            micros(pool.use_times.since(&before.database.pool.use_times).quantile(0.99)),
            self.rate(|reading| reading.database.queries),
            self.hundredths_of_batch(),
            now.queued() as u64,
            cache(|cache| cache.near_hits),
            cache(|cache| cache.redis_hits),
            database,
            now.memory.as_ref().map_or(0, |memory| memory.reading.used),
            now.clients as u64,
        ]
    }

    /// How long callers waited for connections that they got.
    pub(super) fn waits(&self) -> Histogram {
        let [before, now] = [self.before, self.now].map(|reading| &reading.database.pool);
        let mut waits = now.waiting_times.since(&before.waiting_times);
        waits.merge(&now.connecting_times.since(&before.connecting_times));
        waits
    }

    /// How much this counter grew, per second.
    pub(super) fn rate(&self, count: impl Fn(&Reading) -> u64) -> u64 {
        let grown = count(self.now).saturating_sub(count(self.before));
        let seconds = self.now.at.saturating_duration_since(self.before.at).as_secs_f64();
        (grown as f64 / seconds.max(0.001)).round() as u64
    }

    fn hundredths_of_batch(&self) -> u64 {
        let count = |reading: &Reading| {
            let all = reading.queues.all();
            (all.requests, all.batches)
        };
        let (before, now) = (count(self.before), count(self.now));
        let requests = now.0.saturating_sub(before.0);
        let batches = now.1.saturating_sub(before.1);
        (requests * 100).checked_div(batches).unwrap_or(0)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Milliseconds since 1970.
pub(super) fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
