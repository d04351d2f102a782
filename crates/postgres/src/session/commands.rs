//! The commands of a connection that send one text, and how their answers are read.
//!
//! Invariant: what a statement's text shows of its effects on the session is noted before the statement is sent.

use std::pin::pin;

use futures_util::TryStreamExt;
use tokio_postgres::{
    Row,
    types::{BorrowToSql, ToSql},
};

use super::{
    connection::Connection,
    execution::{Failed, Failure},
    prepare::Runnable,
    side_effects::SideEffects,
};
use crate::{Error, Result, tap::Dirt};

/// A parameter of a statement.
pub(crate) type Parameter<'a> = &'a (dyn ToSql + Sync);

/// The result of a statement in a [`pipeline`](Connection::pipeline).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CommandOutput {
    /// The returned rows.
    pub rows: Vec<Row>,
    /// The number of rows that it affected.
    pub affected: u64,
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

    /// Runs a statement and returns the number of rows that it affected.
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
        let send = || self.inner.client.batch_execute(sql);
        let done = self.simple(sql, SideEffects::of(sql), send).await;
        done.map_err(|failed| failed.error)
    }

    /// Runs a statement that controls a transaction.
    pub(crate) async fn control(&self, sql: &str) -> Result<()> {
        let send = || self.inner.client.batch_execute(sql);
        let done = self.simple(sql, SideEffects::default(), send).await;
        done.map_err(|failed| failed.error)
    }

    /// Runs a command of the simple protocol.
    pub(super) async fn simple<T, F>(
        &self,
        sql: &str,
        effects: SideEffects,
        send: impl FnOnce() -> F,
    ) -> std::result::Result<T, Failed>
    where
        F: Future<Output = std::result::Result<T, tokio_postgres::Error>>,
    {
        let run = async {
            self.expect(effects);
            // A string of the protocol ends with a zero byte, so the driver refuses a text with one.
            let answer = send().await.map_err(|error| match sql.contains('\0') {
                true => Failure::Unexecuted(error),
                false => Failure::Executed(error),
            })?;
            self.excuse(effects);
            Ok(answer)
        };
        self.attempt(sql, run, |_| None).await
    }

    /// Notes, before a command is sent, changes that its answer will not show.
    pub(super) fn expect(&self, effects: SideEffects) {
        if effects.hidden {
            self.inner.link.add_dirt(Dirt::SESSION);
        }
    }

    /// Excuses tags of a completed command that changed nothing in the session.
    pub(super) fn excuse(&self, effects: SideEffects) {
        if effects.harmless > 0 {
            self.inner.link.excuse(effects.harmless);
        }
    }

    /// Runs a statement from the cache, or prepares it first. Repeats it once if it was stale.
    async fn prepared(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<CommandOutput> {
        let run = async {
            let first = self.statement(sql).await?;
            match self.collect(&first, parameters).await {
                Err(failure) => {
                    let renewed = self.renew(sql, &first, failure).await?;
                    self.collect(&renewed, parameters).await
                }
                answer => answer,
            }
        };
        self.command(sql, run, |output| Some(output.affected)).await
    }

    /// Prepares a statement, keeps it for its use, and returns what `look` finds in its columns.
    pub(crate) async fn describe<T>(&self, sql: &str, look: impl FnOnce(&[tokio_postgres::Column]) -> T) -> Result<T> {
        self.bounded(async { Ok(look(self.statement(sql).await?.prepared.statement.columns())) })
            .await
    }

    /// Sends a statement and waits for the whole answer.
    pub(super) async fn collect(
        &self,
        runnable: &Runnable,
        parameters: &[Parameter<'_>],
    ) -> std::result::Result<CommandOutput, Failure> {
        let stream = self.send_prepared(runnable, parameters).await?;
        let mut stream = pin!(stream);
        let mut rows = Vec::new();
        while let Some(row) = stream.try_next().await? {
            rows.push(row);
        }
        let affected = stream.rows_affected().unwrap_or(0);
        self.excuse(runnable.prepared.effects);
        Ok(CommandOutput { rows, affected })
    }

    /// Sends a statement and waits until the server executes it.
    pub(super) async fn start<P: BorrowToSql + Sync>(
        &self,
        sql: &str,
        parameters: &[P],
    ) -> std::result::Result<(tokio_postgres::RowStream, SideEffects), Failure> {
        let first = self.statement(sql).await?;
        match self.send_prepared(&first, parameters).await {
            Err(failure) => {
                let renewed = self.renew(sql, &first, failure).await?;
                let rows = self.send_prepared(&renewed, parameters).await?;
                Ok((rows, renewed.prepared.effects))
            }
            Ok(rows) => Ok((rows, first.prepared.effects)),
        }
    }

    /// Sends a statement. The first poll sends it, so the order of first polls is the order on the wire.
    async fn send_prepared<P: BorrowToSql + Sync>(
        &self,
        runnable: &Runnable,
        parameters: &[P],
    ) -> std::result::Result<tokio_postgres::RowStream, Failure> {
        let statement = &runnable.prepared.statement;
        self.expect(runnable.prepared.effects);
        let given = parameters.iter().map(BorrowToSql::borrow_to_sql);
        let started = self.inner.client.query_raw(statement, given).await;
        started.map_err(|error| match parameters.len() == statement.params().len() {
            true => Failure::Executed(error),
            false => Failure::Unexecuted(error),
        })
    }

    /// Sends a command without waiting for its answer.
    pub(crate) fn send(&self, sql: &str) {
        // The first poll puts the command into the driver's queue. Nobody reads its answer.
        let sent = pin!(self.inner.client.batch_execute(sql));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let _pending = sent.poll(&mut context);
    }
}
