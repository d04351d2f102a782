//! Counts and logs the commands of all connections of a pool. Invariant: parameters are never logged.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use cenote_metrics::{AtomicHistogram, Histogram};

use super::error_classes::ErrorClasses;
use crate::{Config, Error};

/// The counters of a pool, and what it logs. The counters are independent, so `Relaxed` is enough.
#[derive(Debug)]
pub(crate) struct QueryMetrics {
    echo: bool,
    slow_query: Option<Duration>,
    queries: AtomicU64,
    timeouts: AtomicU64,
    slow: AtomicU64,
    durations: AtomicHistogram,
    errors: ErrorClasses,
}

impl QueryMetrics {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            echo: config.echo,
            slow_query: config.slow_query,
            queries: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
            slow: AtomicU64::new(0),
            durations: AtomicHistogram::default(),
            errors: ErrorClasses::default(),
        }
    }

    /// Commands that were sent, including failed ones.
    pub(crate) fn queries(&self) -> u64 {
        self.queries.load(Relaxed)
    }

    /// Commands that failed, by class.
    pub(crate) fn errors(&self) -> &ErrorClasses {
        &self.errors
    }

    /// Commands that took longer than the command timeout.
    pub(crate) fn timeouts(&self) -> u64 {
        self.timeouts.load(Relaxed)
    }

    /// Commands that took as long as a slow one.
    pub(crate) fn slow(&self) -> u64 {
        self.slow.load(Relaxed)
    }

    /// How long commands took.
    pub(crate) fn durations(&self) -> Histogram {
        self.durations.snapshot()
    }

    pub(crate) fn started(&self, sql: &str) {
        self.queries.fetch_add(1, Relaxed);
        if self.echo {
            tracing::info!(target: "cenote::sql", sql, "statement");
        }
    }

    /// Counts a failed command, also one that failed during its answer.
    pub(crate) fn failed(&self, error: &Error) {
        self.errors.count(error);
        if matches!(error, Error::Timeout(_)) {
            self.timeouts.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn finished(&self, sql: &str, took: Duration, error: Option<&Error>) {
        self.durations.record(took);
        if let Some(error) = error {
            self.failed(error);
        }
        if self.slow_query.is_some_and(|limit| took >= limit) {
            self.slow.fetch_add(1, Relaxed);
            let seconds = took.as_secs_f64();
            tracing::warn!(target: "cenote::sql", sql, seconds, "slow statement");
        }
    }
}
