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
    side_effects::SideEffects,
    staleness::Staleness,
    statements::Prepared,
    tap::{Dirt, Transaction, Verdict},
    timer::after,
};

/// A parameter of a statement.
pub(super) type Parameter<'a> = &'a (dyn ToSql + Sync);

/// Why a command failed, and how far it had got.
pub(super) enum Failure {
    /// It certainly was not executed.
    Unexecuted(tokio_postgres::Error),
    /// It may have been.
    Executed(tokio_postgres::Error),
    /// It was refused because something it depends on has changed since it was prepared, where it cannot be repeated.
    Stale(tokio_postgres::Error),
}

/// A statement to be run now.
pub(super) struct Ready {
    pub(super) prepared: Prepared,
    /// It was prepared for an earlier command, so that what it depends on may have changed since.
    is_cached: bool,
}

impl Failure {
    /// The same, where it is known to come from a change and cannot be cured here.
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
        self.simple(sql, SideEffects::of(sql)).await
    }

    /// Runs a statement that controls a transaction.
    pub(crate) async fn control(&self, sql: &str) -> Result<()> {
        self.simple(sql, SideEffects::default()).await
    }

    async fn simple(&self, sql: &str, effects: SideEffects) -> Result<()> {
        let run = async {
            self.expect(effects);
            let done = self.inner.client.batch_execute(sql).await;
            // The protocol's strings end with a zero: the driver refuses to send one within.
            done.map_err(|error| match sql.contains('\0') {
                true => Failure::Unexecuted(error),
                false => Failure::Executed(error),
            })?;
            self.excuse(effects);
            Ok(())
        };
        self.command(sql, run).await
    }

    /// Notes what the answer to a command will not show, before it is sent.
    fn expect(&self, effects: SideEffects) {
        if effects.hidden {
            self.inner.link.add_dirt(Dirt::SESSION);
        }
    }

    /// Tells what is known of a command whose answer says that it has completed.
    pub(super) fn excuse(&self, effects: SideEffects) {
        if effects.harmless > 0 {
            self.inner.link.excuse(effects.harmless);
        }
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
    pub async fn transaction_with(&mut self, options: TransactionOptions) -> Result<crate::Transaction<'_>> {
        crate::Transaction::begin(self.into(), options).await
    }

    /// Runs a statement from the cache, preparing it first if need be.
    async fn prepared(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Answer> {
        let run = async {
            let first = self.prepare(sql).await?;
            match self.collect(&first, parameters).await {
                Err(failure) => {
                    let renewed = self.renew(sql, &first, failure).await?;
                    self.collect(&renewed, parameters).await
                }
                answer => answer,
            }
        };
        self.command(sql, run).await
    }

    /// A statement prepared anew, to be run once more, if the other has failed because what it depends on has changed:
    /// a table's columns, or a type that was dropped and made again. Otherwise the failure.
    pub(super) async fn renew(
        &self,
        sql: &str,
        stale: &Ready,
        failure: Failure,
    ) -> std::result::Result<Ready, Failure> {
        let (failure, staleness) = self.forget_if_stale(sql, stale, failure);
        match (staleness, self.standing_if(staleness).await) {
            (Staleness::None, _) => return Err(failure),
            (_, Some(Transaction::Idle)) => {}
            // It was not sent, and so has not failed the transaction.
            (Staleness::Parameters, Some(Transaction::Open)) => {}
            // The transaction is lost.
            _ => return Err(failure.stale()),
        }
        let renewed = self.prepare(sql).await?;
        let parameters = |ready: &Ready| ready.prepared.statement.params().to_vec();
        match staleness == Staleness::Parameters && parameters(stale) == parameters(&renewed) {
            true => Err(failure),
            false => Ok(renewed),
        }
    }

    async fn standing_if(&self, staleness: Staleness) -> Option<Transaction> {
        match staleness {
            Staleness::None => None,
            _ => self.standing().await,
        }
    }

    /// Has a statement prepared anew the next time if its failure says so.
    pub(super) fn forget_if_stale(&self, sql: &str, stale: &Ready, failure: Failure) -> (Failure, Staleness) {
        let staleness = match &failure {
            // It may be something within it, after a part of it was committed.
            _ if stale.prepared.effects.commits => Staleness::None,
            Failure::Unexecuted(error) | Failure::Executed(error) => Staleness::of(error),
            Failure::Stale(_) => Staleness::None,
        };
        let Inner { client, statements, .. } = &*self.inner;
        match staleness {
            Staleness::Parameters | Staleness::Possible if !stale.is_cached => {
                return (failure, Staleness::None);
            }
            Staleness::None => {}
            Staleness::Forgotten => statements.remove(sql),
            Staleness::Parameters | Staleness::Possible => {
                statements.remove(sql);
                client.clear_type_cache();
            }
            // Others that depend on the same would fail too, one by one.
            Staleness::Certain => {
                statements.clear();
                client.clear_type_cache();
            }
        }
        (failure, staleness)
    }

    /// What a look at the columns of a statement says, prepared and kept for its use.
    pub(crate) async fn describe<T>(&self, sql: &str, look: impl FnOnce(&[tokio_postgres::Column]) -> T) -> Result<T> {
        self.bounded(async { Ok(look(self.prepare(sql).await?.prepared.statement.columns())) })
            .await
    }

    /// Sends a statement and waits for all of its answer.
    pub(super) async fn collect(
        &self,
        ready: &Ready,
        parameters: &[Parameter<'_>],
    ) -> std::result::Result<Answer, Failure> {
        let stream = self.send_prepared(ready, parameters).await?;
        let mut stream = pin!(stream);
        let mut rows = Vec::new();
        while let Some(row) = stream.try_next().await? {
            rows.push(row);
        }
        let affected = stream.rows_affected().unwrap_or(0);
        self.excuse(ready.prepared.effects);
        Ok(Answer { rows, affected })
    }

    /// Sends a statement and waits for the first sign that the server executes it.
    pub(super) async fn start(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> std::result::Result<(tokio_postgres::RowStream, SideEffects), Failure> {
        let first = self.prepare(sql).await?;
        match self.send_prepared(&first, parameters).await {
            Err(failure) => {
                let renewed = self.renew(sql, &first, failure).await?;
                let rows = self.send_prepared(&renewed, parameters).await?;
                Ok((rows, renewed.prepared.effects))
            }
            Ok(rows) => Ok((rows, first.prepared.effects)),
        }
    }

    /// The first poll sends it.
    async fn send_prepared(
        &self,
        ready: &Ready,
        parameters: &[Parameter<'_>],
    ) -> std::result::Result<tokio_postgres::RowStream, Failure> {
        let statement = &ready.prepared.statement;
        self.expect(ready.prepared.effects);
        let given = parameters.iter().copied();
        let started = self.inner.client.query_raw(statement, given).await;
        started.map_err(|error| match parameters.len() == statement.params().len() {
            true => Failure::Executed(error),
            false => Failure::Unexecuted(error),
        })
    }

    /// A statement ready to run: from the cache, or prepared and kept there.
    pub(super) async fn prepare(&self, sql: &str) -> std::result::Result<Ready, Failure> {
        let Inner { link, statements, .. } = &*self.inner;
        if link.take_stale() {
            statements.clear();
        }
        if let Some(prepared) = statements.get(sql) {
            return Ok(Ready {
                prepared,
                is_cached: true,
            });
        }
        let prepared = Prepared {
            statement: self.prepare_anew(sql).await?,
            effects: SideEffects::of(sql),
        };
        statements.insert(sql, prepared.clone());
        Ok(Ready {
            prepared,
            is_cached: false,
        })
    }

    async fn prepare_anew(&self, sql: &str) -> std::result::Result<Statement, Failure> {
        let Inner {
            client,
            types_looked_up,
            types_lost,
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
        prepared.map_err(|error| match Staleness::of(&error) {
            // The driver asks by name for statements of its own with which it looks types up, and cannot be told that
            // the server has forgotten them.
            Staleness::Forgotten => {
                types_lost.store(true, Relaxed);
                Failure::Stale(error)
            }
            _ => Failure::Unexecuted(error),
        })
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
            command_timeout,
            timer,
            used,
            ..
        } = &*self.inner;
        used.store(true, Relaxed);
        let ended = match *command_timeout {
            None => run.await,
            Some(limit) => match timer.bound(after(started, limit), run).await {
                Some(ended) => ended,
                None => return Err(self.overdue(limit)),
            },
        };
        let error = match ended {
            Ok(done) => return Ok(done),
            Err(Failure::Unexecuted(error)) => Error::unexecuted(error, link.death()),
            Err(Failure::Executed(error)) => Error::executed(error, link.death()),
            Err(Failure::Stale(error)) => Error::stale(error, link.death()),
        };
        Err(match error {
            Error::Lost { cause } if link.ended_idle() => Error::Disconnected { cause },
            error => error,
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

/// Whether the driver had to ask the server about the types in a statement.
fn has_looked_up_types(statement: &Statement) -> bool {
    let columns = statement.columns().iter().map(|column| column.type_());
    let mut types = statement.params().iter().chain(columns);
    types.any(|kind| Type::from_oid(kind.oid()).is_none())
}
