//! All figures of one moment. Invariant: reading them waits for nothing but short locks and files of the kernel.

use std::time::SystemTime;

use cenote_cache::Stats as CacheStats;
use cenote_metrics::{Metrics, Sample};
use cenote_postgres::{NamedQueues, Stats as DatabaseStats};
use tokio::time::Instant;

use super::process::ProcessStats;
use crate::{
    app::App,
    auth::{Method, Outcome, TokenStats},
    http::{TlsStats, TrafficStats},
    limits::LimitStats,
    memory_watch::MemoryReport,
    spans::SpanStats,
    store::FeedStats,
};

/// All figures of one moment.
pub(crate) struct Snapshot {
    traffic: TrafficStats,
    database: DatabaseStats,
    queues: NamedQueues,
    /// `None` without a cache.
    cache: Option<CacheStats>,
    access: AccessFigures,
    service: ServiceFigures,
}

/// Who calls, and who is refused.
pub(super) struct AccessFigures {
    /// By what was shown and how it ended. Without pairs that never occurred.
    pub(super) outcomes: Vec<(Method, Outcome, u64)>,
    /// The known API keys, if any are accepted.
    pub(super) known_keys: Option<usize>,
    /// `None` if no tokens are accepted.
    pub(super) tokens: Option<TokenStats>,
    pub(super) limits: LimitStats,
}

/// The service as a whole, and its process.
pub(super) struct ServiceFigures {
    pub(super) started: SystemTime,
    pub(super) process: ProcessStats,
    /// `None`: plain HTTP.
    pub(super) tls: Option<TlsStats>,
    /// The state at the last reading; `None` if memory is not watched.
    pub(super) memory: Option<MemoryReport>,
    /// Bytes of large responses on their way.
    pub(super) response_bytes: usize,
    /// `None` without a change feed.
    pub(super) feed: Option<FeedStats>,
    pub(super) spans: SpanStats,
    /// `None` before the start has asked for it.
    pub(super) connection_limit: Option<u64>,
}

impl Snapshot {
    /// Reads all figures. It takes a millisecond or so, and reads files, so it belongs where blocking is allowed.
    pub(crate) fn take(app: &App) -> Self {
        let queues = app.queues();
        Self {
            traffic: app.traffic.stats(),
            database: app.pool.stats(),
            queues: NamedQueues(vec![
                ("reads", queues.reads),
                ("writes", queues.writes),
                ("users", queues.users),
            ]),
            cache: app.store.cache_stats(),
            access: AccessFigures::take(app),
            service: ServiceFigures {
                started: app.started_at,
                process: ProcessStats::read(),
                tls: app.tls.as_ref().map(|tls| tls.stats()),
                memory: app.memory_state.report().map(|report| (*report).clone()),
                response_bytes: app.memory.claimed(),
                feed: app.has_feed.then(|| app.store.feed_stats()),
                spans: app.spans.stats(),
                connection_limit: app.connection_limit.get().copied(),
            },
        }
    }

    /// Calls `take` with every value. Those of one metric follow each other.
    pub(super) fn visit(&self, take: &mut dyn FnMut(Sample<'_>)) {
        self.traffic.visit(take);
        self.database.pool.visit(take);
        self.database.visit(take);
        self.queues.visit(take);
        if let Some(cache) = &self.cache {
            cache.visit(take);
        }
        self.access.visit(take);
        self.service.visit(take);
    }
}

impl AccessFigures {
    fn take(app: &App) -> Self {
        let auth = app.auth.as_ref().map(|auth| auth.stats());
        let outcomes = auth.as_ref().map_or_else(Vec::new, |auth| {
            let pairs = Method::ALL
                .iter()
                .flat_map(|method| Outcome::ALL.map(|outcome| (*method, outcome)));
            let counted = pairs.map(|(method, outcome)| (method, outcome, auth.outcomes.of(method, outcome)));
            counted.filter(|(.., count)| *count > 0).collect()
        });
        Self {
            outcomes,
            known_keys: auth.as_ref().and_then(|auth| auth.keys).map(|keys| keys.known),
            tokens: auth.and_then(|auth| auth.tokens),
            limits: app.gate.limits().stats(Instant::now()),
        }
    }
}

/// Returns what the metrics are, in their order, by part of the service.
#[cfg(test)]
pub(super) fn descriptions() -> Vec<(&'static str, Vec<&'static cenote_metrics::Description>)> {
    vec![
        ("HTTP", TrafficStats::descriptions().collect()),
        ("Connection pool", cenote_postgres::PoolStats::descriptions().collect()),
        ("Statements", DatabaseStats::descriptions().collect()),
        (
            "Queues of requests that share statements",
            NamedQueues::descriptions().collect(),
        ),
        ("Cache and Redis", CacheStats::descriptions().collect()),
        ("Authentication and limits", AccessFigures::descriptions().collect()),
        ("Service and process", ServiceFigures::descriptions().collect()),
    ]
}
