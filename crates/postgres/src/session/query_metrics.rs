//! Counts and logs the commands of all connections of a pool. Invariant: parameters are never logged.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use cenote_metrics::{AtomicHistogram, Histogram};

use super::error_classes::ErrorClasses;
use crate::{
    Config, Error, SlowStatementHook,
    slow_statement::{Usage, statement_name},
};

/// The name of statements that have no name of their own.
const OTHER: &str = "other";

/// The counters of a pool, and what it logs. The counters are independent, so `Relaxed` is enough.
#[derive(Debug)]
pub(crate) struct QueryMetrics {
    echo: bool,
    slow_query: Option<Duration>,
    on_slow: Option<SlowStatementHook>,
    queries: AtomicU64,
    timeouts: AtomicU64,
    slow: AtomicU64,
    /// The names of statements that are counted apart. The others are counted together.
    names: &'static [&'static str],
    /// In the order of the names, and then the others.
    statements: Box<[StatementCounts]>,
}

/// What is counted of one statement.
#[derive(Debug, Default)]
struct StatementCounts {
    durations: AtomicHistogram,
    errors: ErrorClasses,
}

/// What was counted of the statements with one name.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StatementStats {
    /// The name; `other` for all that are not in [`Config::statement_names`](crate::Config::statement_names).
    pub name: &'static str,
    /// How long they took until they were answered or failed. Of streams and copies: until they began.
    pub durations: Histogram,
    /// Those that failed, by the class of their SQLSTATE, as in [`Stats::errors_by_class`](crate::Stats::errors_by_class).
    /// A stream or a copy that fails after its beginning is counted as `other`.
    pub errors_by_class: Vec<(&'static str, u64)>,
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
            names: config.statement_names,
            statements: (0..=config.statement_names.len())
                .map(|_| StatementCounts::default())
                .collect(),
        }
    }

    /// Commands that were sent, including failed ones.
    pub(crate) fn queries(&self) -> u64 {
        self.queries.load(Relaxed)
    }

    /// What was counted of each statement. Without those that were never run.
    pub(crate) fn statements(&self) -> Vec<StatementStats> {
        let names = self.names.iter().copied().chain([OTHER]);
        let stats = names.zip(&self.statements).map(|(name, counts)| StatementStats {
            name,
            durations: counts.durations.snapshot(),
            errors_by_class: counts.errors.by_class(),
        });
        let is_used = |it: &StatementStats| it.durations.count() > 0 || !it.errors_by_class.is_empty();
        stats.filter(is_used).collect()
    }

    /// Commands that took longer than the command timeout.
    pub(crate) fn timeouts(&self) -> u64 {
        self.timeouts.load(Relaxed)
    }

    /// Commands that took as long as a slow one.
    pub(crate) fn slow(&self) -> u64 {
        self.slow.load(Relaxed)
    }

    pub(crate) fn started(&self, sql: &str) {
        self.queries.fetch_add(1, Relaxed);
        if self.echo {
            tracing::info!(target: "cenote::sql", sql, "statement");
        }
    }

    /// Counts a command that failed during its answer.
    pub(crate) fn failed(&self, error: &Error) {
        self.count_failed(self.names.len(), error);
    }

    fn count_failed(&self, statement: usize, error: &Error) {
        self.statements[statement].errors.count(error);
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
        let named = statement_name(sql).and_then(|name| self.names.iter().position(|known| *known == name));
        let statement = named.unwrap_or(self.names.len());
        self.statements[statement].durations.record(took);
        if let Err(error) = outcome {
            self.count_failed(statement, error);
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
