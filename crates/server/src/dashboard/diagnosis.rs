//! Reads the signs that verdicts are made of. Invariant: what verdicts compare with is kept here in a fixed number of states.

use std::time::{Duration, SystemTime};

use cenote_metrics::Histogram;
use tokio::time::Instant;

use super::{
    figures::Reading,
    slots::source_line,
    verdicts::{Certificate, FiveMinutes, LastMinute, Pool, Shortage, Signs, Use},
    windows::Window,
};
use crate::{
    app::App,
    health::Stage,
    limits::{Base, LimitStats},
    memory_watch::Level,
    store::problem_of_cache,
};

/// Reads the signs, and remembers what is needed to tell what happened lately.
pub(super) struct Diagnosis {
    minute: Window<Counters>,
    waits: Window<Histogram>,
    five_minutes: Window<FiveMinutes>,
    reloads: Window<Reloads>,
    /// Since when there have been more connections than the maximum.
    overflow_since: Option<Instant>,
}

/// Counters that verdicts compare with a state of a minute ago.
#[derive(Clone, Copy)]
struct Counters {
    requests: u64,
    errors: u64,
    acquire_timeouts: u64,
    connect_failures: u64,
    slow_statements: u64,
}

impl Counters {
    fn of(reading: &Reading) -> Self {
        let database = &reading.database;
        Self {
            requests: reading.requests.total,
            errors: reading.requests.errors,
            acquire_timeouts: database.pool.timeouts,
            connect_failures: database.pool.connect_failures,
            slow_statements: database.slow,
        }
    }
}

/// How often the certificate was loaded again, and could not be.
#[derive(Clone, Copy)]
struct Reloads {
    succeeded: u64,
    failed: u64,
}

impl Diagnosis {
    pub(super) fn new() -> Self {
        Self {
            minute: Window::of(Duration::from_secs(60)),
            waits: Window::of(Duration::from_secs(20)),
            five_minutes: Window::of(Duration::from_secs(300)),
            reloads: Window::of(Duration::from_secs(3600)),
            overflow_since: None,
        }
    }

    /// Returns the signs of this reading, which is the newest.
    pub(super) fn signs(&mut self, app: &App, reading: &Reading, limits: &LimitStats) -> Signs {
        let auth = app.auth.as_ref().map(|auth| auth.stats());
        let token_keys = auth.as_ref().and_then(|auth| auth.tokens.as_ref()?.keys.problem());
        let cache = reading.cache.as_ref();
        Signs {
            is_starting: app.health.stage() == Stage::Starting,
            is_unused: reading.requests.total == 0,
            last_minute: self.last_minute(reading),
            pool: self.pool(app, reading),
            connect_problem: reading.database.last_connect_error,
            cache_problem: cache.and_then(problem_of_cache),
            redis_problem: cache.and_then(|cache| Some(cache.redis_problem.as_ref()?.without_address().to_string())),
            is_feed_down: app.has_feed && !app.store.feed_stats().listening,
            shortage: shortage(reading),
            certificate: self.certificate(app, reading),
            token_keys_problem: token_keys,
            api_keys_problem: auth.and_then(|auth| auth.keys?.problem()),
            limits_problem: limits.shared.as_ref().and_then(|shared| shared.problem.clone()),
            five_minutes: self.five_minutes(reading, limits),
        }
    }

    fn last_minute(&mut self, reading: &Reading) -> LastMinute {
        let now = Counters::of(reading);
        let before = *self.minute.advance(reading.at, &now);
        let waits = reading.database.pool.acquire_times();
        let grown = |of: fn(&Counters) -> u64| of(&now).saturating_sub(of(&before));
        LastMinute {
            requests: grown(|it| it.requests),
            errors: grown(|it| it.errors),
            acquire_timeouts: grown(|it| it.acquire_timeouts),
            connect_failures: grown(|it| it.connect_failures),
            slow_statements: grown(|it| it.slow_statements),
            wait_p99: waits.since(self.waits.advance(reading.at, &waits)).quantile(0.99),
        }
    }

    fn pool(&mut self, app: &App, reading: &Reading) -> Pool {
        let stats = &reading.database.pool;
        let config = app.pool.config();
        self.overflow_since = (stats.overflow() > 0).then(|| self.overflow_since.unwrap_or(reading.at));
        let holders = reading.connections.iter().filter_map(|connection| connection.holder);
        Pool {
            is_paused: stats.paused,
            is_breaker_open: stats.breaker_open,
            failures_in_a_row: stats.connect_failures_in_a_row,
            in_use: stats.in_use,
            size: stats.size(),
            max: stats.max_size,
            overflow: stats.max_overflow,
            overflow_for: self
                .overflow_since
                .map(|since| reading.at.saturating_duration_since(since)),
            leaked: stats.leaked,
            leak_after: config.pool.leak_after,
            longest_lock_wait: reading.queues.all().longest_lock_wait,
            // Most that wait for a connection do so for the requests of a queue.
            waiting: u64::from(stats.waiting).max(reading.queued() as u64),
            longest_wait: reading.longest_wait(),
            timeout: config.pool.acquire_timeout,
            slow: config.slow_query,
            longest_use: holders.max_by_key(|holder| holder.held).map(|holder| Use {
                lasts: holder.held,
                by: source_line(holder.caller),
            }),
        }
    }

    fn certificate(&mut self, app: &App, reading: &Reading) -> Option<Certificate> {
        let stats = app.tls.as_ref()?.stats();
        let now = Reloads {
            succeeded: stats.reloads,
            failed: stats.failed_reloads,
        };
        let before = *self.reloads.advance(reading.at, &now);
        Some(Certificate {
            left: stats.expires_at().duration_since(SystemTime::now()).unwrap_or_default(),
            has_failed_reload: now.failed > before.failed && now.succeeded == before.succeeded,
        })
    }

    fn five_minutes(&mut self, reading: &Reading, limits: &LimitStats) -> FiveMinutes {
        let mut now = FiveMinutes {
            requests: reading.requests.total,
            ..FiveMinutes::default()
        };
        for (class, count) in &limits.refused {
            match *class == *Base::AuthFailures.name() {
                true => now.guesses += count,
                false => now.refused_by_limits += count,
            }
        }
        let before = self.five_minutes.advance(reading.at, &now);
        FiveMinutes {
            requests: now.requests.saturating_sub(before.requests),
            refused_by_limits: now.refused_by_limits.saturating_sub(before.refused_by_limits),
            guesses: now.guesses.saturating_sub(before.guesses),
        }
    }
}

fn shortage(reading: &Reading) -> Option<Shortage> {
    let report = reading.memory.as_ref().filter(|report| report.level > Level::Normal)?;
    Some(Shortage {
        is_critical: report.level == Level::Critical,
        text: report.problem.clone().unwrap_or_default(),
    })
}
