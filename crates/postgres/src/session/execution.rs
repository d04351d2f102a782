//! Runs commands: counts them, bounds them in time, and derives the error from how far they got.
//!
//! Invariant: every command that is counted, bounded in time and cancelled goes through [`Connection::command`].

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use tokio::time::Instant;
use tracing::Instrument;

use super::{
    clean::CANCELLED,
    connection::{Connection, Inner},
    statement_span,
};
use crate::{
    Error, Result, last_failure,
    tap::{TransactionStatus, Verdict},
    timer::after,
};

/// Why a command failed, and how far it got.
pub(super) enum Failure {
    /// It certainly was not executed.
    Unexecuted(tokio_postgres::Error),
    /// It may have been executed.
    Executed(tokio_postgres::Error),
    /// It was refused because something that it depends on has changed, and it cannot be repeated here.
    Stale(tokio_postgres::Error),
}

impl Failure {
    /// Marks the failure as stale.
    pub(super) fn stale(self) -> Self {
        match self {
            Self::Unexecuted(error) | Self::Executed(error) | Self::Stale(error) => Self::Stale(error),
        }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Executed(error)
    }
}

impl Connection {
    /// Runs a command: counted, bounded in time, with its errors classified. All commands go through this. `rows` tells the
    /// number of rows of its answer.
    pub(super) async fn command<T>(
        &self,
        sql: &str,
        run: impl Future<Output = std::result::Result<T, Failure>>,
        rows: fn(&T) -> Option<u64>,
    ) -> Result<T> {
        let metrics = &self.inner.metrics;
        metrics.started(sql);
        let started = Instant::now();
        let span = statement_span::begin(sql);
        let result = match self.make_ready().await {
            Ok(()) => self.bounded_from(started, run.instrument(span.clone())).await,
            Err(error) => Err(error),
        };
        let outcome = result.as_ref().map(rows);
        statement_span::end(&span, outcome);
        metrics.finished(sql, started.elapsed(), outcome, &self.inner.usage);
        last_failure::note(outcome.err());
        result
    }

    /// Cancels a command that ran into its timeout, so that the next one does not wait behind it.
    pub(super) async fn make_ready(&self) -> Result<()> {
        let Inner { link, overdue, .. } = &*self.inner;
        if overdue.load(Relaxed) {
            self.cancel_overdue().await?;
        }
        match link.is_broken() {
            true => Err(self.disconnected()),
            false => Ok(()),
        }
    }

    /// Runs a part of a command within the command timeout.
    pub(super) async fn bounded<T>(&self, run: impl Future<Output = std::result::Result<T, Failure>>) -> Result<T> {
        self.bounded_from(Instant::now(), run).await
    }

    async fn bounded_from<T>(
        &self,
        started: Instant,
        run: impl Future<Output = std::result::Result<T, Failure>>,
    ) -> Result<T> {
        let Inner {
            link,
            command_limit,
            timer,
            used,
            ..
        } = &*self.inner;
        used.store(true, Relaxed);
        let ended = match command_limit.get() {
            None => run.await,
            Some(limit) => match timer.bound(after(started, limit), run).await {
                Some(ended) => ended,
                None => return Err(self.overdue(limit)),
            },
        };
        let error = match ended {
            Ok(done) => return Ok(done),
            Err(Failure::Unexecuted(error)) => Error::unexecuted(error, link.end_reason()),
            Err(Failure::Executed(error)) => Error::executed(error, link.end_reason()),
            Err(Failure::Stale(error)) => Error::stale(error, link.end_reason()),
        };
        Err(match error {
            Error::Lost { cause } if link.ended_idle() => Error::Disconnected { cause },
            error => error,
        })
    }

    /// Returns the error of a command that took longer than `limit`. The command is cancelled before the next one.
    pub(super) fn overdue(&self, limit: Duration) -> Error {
        self.inner.overdue.store(true, Relaxed);
        Error::Timeout(limit)
    }

    fn disconnected(&self) -> Error {
        let cause = self.inner.link.end_reason();
        Error::Disconnected {
            cause: cause.unwrap_or_else(|| "the server ended it".into()),
        }
    }

    async fn cancel_overdue(&self) -> Result<()> {
        match self.calm().await {
            Verdict::Quiet { .. } => {
                self.inner.overdue.store(false, Relaxed);
                Ok(())
            }
            Verdict::Broken if self.inner.link.end_reason().is_some() => Err(self.disconnected()),
            _ => Err(Error::Disconnected {
                cause: "an earlier command could not be cancelled".into(),
            }),
        }
    }

    /// Returns the status of the transaction. `None` if a command still runs that may change it.
    pub(crate) async fn transaction_status(&self) -> Option<TransactionStatus> {
        let verdict = self.inner.link.wait_quiet(Instant::now() + CANCELLED).await;
        match verdict {
            Verdict::Quiet { transaction, .. } => Some(transaction),
            _ => None,
        }
    }
}
