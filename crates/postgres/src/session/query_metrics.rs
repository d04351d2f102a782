//! Counts and logs the commands of all connections of a pool. Invariant: parameters are never logged.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use cenote_metrics::{AtomicHistogram, Histogram};

use super::error_classes::ErrorClasses;
use crate::{Config, Error, SlowStatementHook, slow_statement::Usage};

/// The counters of a pool, and what it logs. The counters are independent, so `Relaxed` is enough.
#[derive(Debug)]
pub(crate) struct QueryMetrics {
    echo: bool,
    slow_query: Option<Duration>,
    on_slow: Option<SlowStatementHook>,
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
            on_slow: config.on_slow_statement.clone(),
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

    /// Counts a command that has ended, with its number of rows if that is known.
    pub(crate) fn finished(
        &self,
        sql: &str,
        took: Duration,
        outcome: std::result::Result<Option<u64>, &Error>,
        usage: &Usage,
    ) {
        self.durations.record(took);
        if let Err(error) = outcome {
            self.failed(error);
        }
        if self.slow_query.is_some_and(|limit| took >= limit) {
            self.slow.fetch_add(1, Relaxed);
            let statement = usage.statement(sql, took, outcome);
            statement.log();
            if let Some(hook) = &self.on_slow {
                hook.call(&statement);
            }
        }
    }
}
