//! Runs commands: counts them, bounds them in time, and derives the error from how far they got.
//!
//! Invariant: every command that is counted, bounded in time and cancelled goes through [`Connection::command`].

use std::{
    io,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures_util::TryFutureExt;
use tokio::time::Instant;
use tracing::Instrument;

use super::{
    clean::CANCELLED,
    connection::{Connection, Inner},
    statement_span,
};
use crate::{
    Error, Result, driver_error, last_failure,
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

/// A command that failed.
pub(super) struct Failed {
    pub(super) error: Error,
    /// The driver's error, unless there is none or `error` holds it.
    driver: Option<tokio_postgres::Error>,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, driver: None }
    }
}

impl Failed {
    fn map(self, change: impl FnOnce(Error) -> Error) -> Self {
        Self {
            error: change(self.error),
            ..self
        }
    }

    /// Returns the driver's error. A failure that is not the driver's, such as a timeout, becomes one.
    pub(super) fn into_driver(self) -> tokio_postgres::Error {
        let around = |error: Error| {
            let kind = match error {
                Error::Timeout(_) => io::ErrorKind::TimedOut,
                _ => io::ErrorKind::ConnectionAborted,
            };
            driver_error::around(kind, error)
        };
        match (self.driver, self.error) {
            (Some(driver), _) => driver,
            (None, Error::NotSent(own)) => Arc::try_unwrap(own).unwrap_or_else(|own| around(Error::NotSent(own))),
            (None, Error::NotUnderstood(own)) => {
                Arc::try_unwrap(own).unwrap_or_else(|own| around(Error::NotUnderstood(own)))
            }
            (None, error) => around(error),
        }
    }
}

impl Connection {
    /// Runs a command: counted, bounded in time, with its errors classified. All commands go through this. `rows` tells the
    /// number of rows of its answer.
    pub(super) fn command<'a, T>(
        &'a self,
        sql: &'a str,
        run: impl Future<Output = std::result::Result<T, Failure>> + 'a,
        rows: fn(&T) -> Option<u64>,
    ) -> impl Future<Output = Result<T>> {
        // Not `async`, which would hold `run` twice.
        self.attempt(sql, run, rows).map_err(|failed| failed.error)
    }

    /// Like [`command`](Self::command), but keeps the driver's error too.
    pub(super) async fn attempt<T>(
        &self,
        sql: &str,
        run: impl Future<Output = std::result::Result<T, Failure>>,
        rows: impl FnOnce(&T) -> Option<u64>,
    ) -> std::result::Result<T, Failed> {
        let metrics = &self.inner.metrics;
        metrics.started(sql);
        let started = Instant::now();
        let span = statement_span::begin(sql);
        let result = match self.make_ready().await {
            Ok(()) => self.bounded_from(started, run.instrument(span.clone())).await,
            Err(error) => Err(Failed::from(error)),
        };
        let outcome = result.as_ref().map(rows).map_err(|failed| &failed.error);
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
    pub(super) fn bounded<T>(
        &self,
        run: impl Future<Output = std::result::Result<T, Failure>>,
    ) -> impl Future<Output = Result<T>> {
        self.bounded_from(Instant::now(), run).map_err(|failed| failed.error)
    }

    /// Like [`bounded`](Self::bounded), for a command that began at `started`.
    pub(super) async fn bounded_from<T>(
        &self,
        started: Instant,
        run: impl Future<Output = std::result::Result<T, Failure>>,
    ) -> std::result::Result<T, Failed> {
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
                None => return Err(self.overdue(limit).into()),
            },
        };
        let failed = |error| {
            let (error, driver) = Error::sort(error, link.end_reason());
            Failed { error, driver }
        };
        let failed = match ended {
            Ok(done) => return Ok(done),
            Err(Failure::Unexecuted(error)) => failed(error).map(Error::unexecuted),
            Err(Failure::Executed(error)) => failed(error),
            Err(Failure::Stale(error)) => failed(error).map(Error::stale),
        };
        Err(failed.map(|error| match error {
            Error::Lost { cause } if link.ended_idle() => Error::Disconnected { cause },
            error => error,
        }))
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
