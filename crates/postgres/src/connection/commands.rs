//! Commands: with a deadline, a statement cache, and errors that say what is known of the outcome.
//!
//! Invariant: every command that is counted, bounded in time and cancelled goes through
//! [`Connection::command`].

use std::{pin::pin, sync::atomic::Ordering::Relaxed, time::Duration};

use futures_util::TryStreamExt;
use tokio::time::Instant;
use tokio_postgres::{
    Row, Statement,
    types::{ToSql, Type},
};

use super::{Connection, Inner, clean::CANCELLED, pipeline::Answer};
use crate::{
    Error, Result, TransactionOptions,
    statements::Prepared,
    tap::{Dirt, Transaction, Verdict},
    traces::leaves_traces,
};

/// A parameter of a statement.
pub(super) type Parameter<'a> = &'a (dyn ToSql + Sync);

/// Why a command failed, and how far it had got.
pub(super) enum Failure {
    /// It certainly was not executed.
    Unexecuted(tokio_postgres::Error),
    /// It may have been.
    Executed(tokio_postgres::Error),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Executed(error)
    }
}

impl Connection {
    /// Runs a query and returns its rows.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn query(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>> {
        Ok(self.prepared(sql, parameters).await?.rows)
    }

    /// Runs a query and returns its only row.
    ///
    /// # Errors
    ///
    /// [`Error::RowCount`] when there is no row, or more than one; otherwise see [`Error`].
    pub async fn query_one(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Row> {
        let row = self.query_opt(sql, parameters).await?;
        row.ok_or(Error::RowCount(0))
    }

    /// Runs a query and returns its only row, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::RowCount`] when there is more than one row; otherwise see [`Error`].
    pub async fn query_opt(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Option<Row>> {
        let mut rows = self.prepared(sql, parameters).await?.rows;
        match rows.len() {
            0 | 1 => Ok(rows.pop()),
            many => Err(Error::RowCount(many)),
        }
    }

    /// Runs a statement and returns how many rows it touched.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn execute(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<u64> {
        Ok(self.prepared(sql, parameters).await?.affected)
    }

    /// Runs statements without parameters or results, separated by semicolons, in one round trip.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn batch_execute(&self, sql: &str) -> Result<()> {
        if leaves_traces(sql, true) {
            self.inner.link.add_dirt(Dirt::SESSION);
        }
        let run = async {
            let done = self.inner.client.batch_execute(sql).await;
            // The protocol's strings end with a zero: the driver refuses to send one within.
            done.map_err(|error| match sql.contains('\0') {
                true => Failure::Unexecuted(error),
                false => Failure::Executed(error),
            })
        };
        self.command(sql, run).await
    }

    /// Begins a transaction that is rolled back unless it is committed.
    ///
    /// # Errors
    ///
    /// See [`Error`]; whatever it is, no transaction is left.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves no transaction.
    pub async fn transaction(&mut self) -> Result<crate::Transaction<'_>> {
        self.transaction_with(TransactionOptions::default()).await
    }

    /// As [`transaction`](Self::transaction), with a say in what it may do and see.
    ///
    /// # Errors
    ///
    /// As [`transaction`](Self::transaction).
    pub async fn transaction_with(
        &mut self,
        options: TransactionOptions,
    ) -> Result<crate::Transaction<'_>> {
        crate::Transaction::begin(self.into(), options).await
    }

    /// Runs a statement from the cache, preparing it first if need be. A statement that the server
    /// no longer knows or whose result has changed its shape is prepared anew, once.
    async fn prepared(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Answer> {
        let run = async {
            match self.attempt(sql, parameters).await {
                Err(Failure::Executed(error)) if self.forget_if_stale(sql, &error) => {
                    // Inside a transaction the failure stands: the transaction is lost anyway.
                    match self.standing().await {
                        Some(Transaction::Idle) => self.attempt(sql, parameters).await,
                        _ => Err(error.into()),
                    }
                }
                answer => answer,
            }
        };
        self.command(sql, run).await
    }

    async fn attempt(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> std::result::Result<Answer, Failure> {
        self.collect(&self.prepare(sql).await?, parameters).await
    }

    /// Sends a statement and waits for all of its answer.
    pub(super) async fn collect(
        &self,
        statement: &Statement,
        parameters: &[Parameter<'_>],
    ) -> std::result::Result<Answer, Failure> {
        let stream = self.send_prepared(statement, parameters).await?;
        let mut stream = pin!(stream);
        let mut rows = Vec::new();
        while let Some(row) = stream.try_next().await? {
            rows.push(row);
        }
        let affected = stream.rows_affected().unwrap_or(0);
        Ok(Answer { rows, affected })
    }

    /// Sends a statement and waits for the first sign that the server executes it.
    pub(super) async fn start(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> std::result::Result<tokio_postgres::RowStream, Failure> {
        self.send_prepared(&self.prepare(sql).await?, parameters)
            .await
    }

    /// The first poll sends it.
    async fn send_prepared(
        &self,
        statement: &Statement,
        parameters: &[Parameter<'_>],
    ) -> std::result::Result<tokio_postgres::RowStream, Failure> {
        let given = parameters.iter().copied();
        let started = self.inner.client.query_raw(statement, given).await;
        started.map_err(|error| match parameters.len() == statement.params().len() {
            true => Failure::Executed(error),
            false => Failure::Unexecuted(error),
        })
    }

    /// Whether a statement failed because it has to be prepared anew; then it will be.
    pub(super) fn forget_if_stale(&self, sql: &str, error: &tokio_postgres::Error) -> bool {
        let is_stale = is_stale_statement(error);
        if is_stale {
            self.inner.statements.remove(sql);
        }
        is_stale
    }

    /// A statement ready to run: from the cache, or prepared and kept there.
    pub(super) async fn prepare(&self, sql: &str) -> std::result::Result<Statement, Failure> {
        let Inner {
            link, statements, ..
        } = &*self.inner;
        if link.take_stale() {
            statements.clear();
        }
        let prepared = match statements.get(sql) {
            Some(prepared) => prepared,
            None => {
                let statement = self.prepare_anew(sql).await;
                let statement = statement.map_err(Failure::Unexecuted)?;
                let returns_rows = !statement.columns().is_empty();
                let prepared = Prepared {
                    leaves_traces: leaves_traces(sql, returns_rows),
                    statement,
                };
                statements.insert(sql, prepared.clone());
                prepared
            }
        };
        if prepared.leaves_traces {
            link.add_dirt(Dirt::SESSION);
        }
        Ok(prepared.statement)
    }

    async fn prepare_anew(
        &self,
        sql: &str,
    ) -> std::result::Result<Statement, tokio_postgres::Error> {
        let Inner {
            client,
            types_looked_up,
            preparing,
            ..
        } = &*self.inner;
        preparing.fetch_add(1, Relaxed);
        let prepared = client.prepare(sql).await;
        preparing.fetch_sub(1, Relaxed);
        // One that failed may have failed half-way through a look-up.
        if prepared.as_ref().map_or(true, has_looked_up_types) {
            types_looked_up.store(true, Relaxed);
        }
        prepared
    }

    /// How the transaction stands; `None` if something is still running that may change it.
    pub(crate) async fn standing(&self) -> Option<Transaction> {
        let verdict = self.inner.link.wait_quiet(Instant::now() + CANCELLED).await;
        match verdict {
            Verdict::Quiet { transaction, .. } => Some(transaction),
            _ => None,
        }
    }

    /// The one way in which commands run: counted, bounded in time, errors told apart.
    pub(super) async fn command<T>(
        &self,
        sql: &str,
        run: impl Future<Output = std::result::Result<T, Failure>>,
    ) -> Result<T> {
        let observer = &self.inner.observer;
        observer.started(sql);
        let started = Instant::now();
        let result = match self.make_ready().await {
            Ok(()) => self.bounded_from(started, run).await,
            Err(error) => Err(error),
        };
        observer.finished(sql, started.elapsed(), result.as_ref().err());
        result
    }

    /// Ends what an earlier command left running, so that the next one need not wait behind it.
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

    /// Runs what is a part of a command, within the time that a whole one has.
    pub(super) async fn bounded<T>(
        &self,
        run: impl Future<Output = std::result::Result<T, Failure>>,
    ) -> Result<T> {
        self.bounded_from(Instant::now(), run).await
    }

    async fn bounded_from<T>(
        &self,
        started: Instant,
        run: impl Future<Output = std::result::Result<T, Failure>>,
    ) -> Result<T> {
        let Inner {
            link,
            command_timeout,
            timer,
            used,
            ..
        } = &*self.inner;
        used.store(true, Relaxed);
        let ended = match *command_timeout {
            None => run.await,
            Some(limit) => match timer.bound(started + limit, run).await {
                Some(ended) => ended,
                None => return Err(self.overdue(limit)),
            },
        };
        ended.map_err(|failure| match failure {
            Failure::Unexecuted(error) => Error::unexecuted(error, link.death()),
            Failure::Executed(error) => Error::executed(error, link.death()),
        })
    }

    /// The error of a command that took longer than that. It is cancelled before the next one.
    pub(super) fn overdue(&self, limit: Duration) -> Error {
        self.inner.overdue.store(true, Relaxed);
        Error::Timeout(limit)
    }

    fn disconnected(&self) -> Error {
        let cause = self.inner.link.death();
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
            Verdict::Broken if self.inner.link.death().is_some() => Err(self.disconnected()),
            _ => Err(Error::Disconnected {
                cause: "an earlier command could not be cancelled".into(),
            }),
        }
    }

    /// Sends a command without waiting for its answer.
    pub(crate) fn send(&self, sql: &str) {
        // The first poll puts the command into the driver's queue; its answer is nobody's concern.
        let sent = pin!(self.inner.client.batch_execute(sql));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let _pending = sent.poll(&mut context);
    }
}

/// "Cached plan must not change result type", and "prepared statement does not exist".
fn is_stale_statement(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|error| {
        let changed_plan =
            error.code().code() == "0A000" && error.routine() == Some("RevalidateCachedQuery");
        changed_plan || error.code().code() == "26000"
    })
}

/// Whether the driver had to ask the server about the types in a statement.
fn has_looked_up_types(statement: &Statement) -> bool {
    let columns = statement.columns().iter().map(|column| column.type_());
    let mut types = statement.params().iter().chain(columns);
    types.any(|kind| Type::from_oid(kind.oid()).is_none())
}
