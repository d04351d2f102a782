//! Commands that are not prepared: those whose parameters bring their types, and those of the simple protocol.
//!
//! Invariant: they leave no prepared statement on the server, so they work behind every pooler.

use std::{pin::pin, sync::atomic::Ordering::Relaxed};

use futures_util::TryStreamExt;
use tokio_postgres::{Row, SimpleQueryMessage, types::Type};

use super::{
    commands::{CommandOutput, Parameter},
    connection::Connection,
    execution::Failure,
    side_effects::SideEffects,
    staleness::Staleness,
};
use crate::{Error, Result};

/// A parameter with its type.
pub(crate) type TypedParameter<'a> = (Parameter<'a>, Type);

impl Connection {
    /// Runs a query whose parameters bring their types, and returns its rows. It takes one round trip and is not prepared:
    /// for statements that are seldom repeated, and for poolers that do not keep prepared statements.
    ///
    /// ```no_run
    /// use cenote_postgres::tokio_postgres::types::Type;
    ///
    /// # async fn example(connection: &cenote_postgres::Connection) -> cenote_postgres::Result<()> {
    /// let goods = "SELECT id FROM goods WHERE price < $1";
    /// let rows = connection.query_typed(goods, &[(&100_i64, Type::INT8)]).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn query_typed(&self, sql: &str, parameters: &[TypedParameter<'_>]) -> Result<Vec<Row>> {
        Ok(self.typed(sql, parameters).await?.rows)
    }

    /// Like [`query_typed`](Self::query_typed), for the only row.
    ///
    /// # Errors
    ///
    /// [`Error::RowCount`] when there is no row, or more than one; otherwise see [`Error`].
    pub async fn query_typed_one(&self, sql: &str, parameters: &[TypedParameter<'_>]) -> Result<Row> {
        let row = self.query_typed_opt(sql, parameters).await?;
        row.ok_or(Error::RowCount(0))
    }

    /// Like [`query_typed`](Self::query_typed), for the only row, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::RowCount`] when there is more than one row; otherwise see [`Error`].
    pub async fn query_typed_opt(&self, sql: &str, parameters: &[TypedParameter<'_>]) -> Result<Option<Row>> {
        let mut rows = self.typed(sql, parameters).await?.rows;
        match rows.len() {
            0 | 1 => Ok(rows.pop()),
            many => Err(Error::RowCount(many)),
        }
    }

    /// Like [`query_typed`](Self::query_typed), for the number of rows that a statement affected.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn execute_typed(&self, sql: &str, parameters: &[TypedParameter<'_>]) -> Result<u64> {
        Ok(self.typed(sql, parameters).await?.affected)
    }

    /// Runs statements without parameters, separated by semicolons, in one round trip, and returns their rows as text.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn simple_query(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>> {
        let effects = SideEffects::of(sql);
        let run = async {
            self.expect(effects);
            let answer = self.inner.client.simple_query(sql).await;
            // A string of the protocol ends with a zero byte, so the driver refuses a text with one.
            let answer = answer.map_err(|error| match sql.contains('\0') {
                true => Failure::Unexecuted(error),
                false => Failure::Executed(error),
            })?;
            self.excuse(effects);
            Ok(answer)
        };
        let rows = |answer: &Vec<SimpleQueryMessage>| {
            let rows = answer.iter().filter(|part| matches!(part, SimpleQueryMessage::Row(_)));
            Some(rows.count() as u64)
        };
        self.command(sql, run, rows).await
    }

    pub(super) async fn typed(&self, sql: &str, parameters: &[TypedParameter<'_>]) -> Result<CommandOutput> {
        let effects = SideEffects::of(sql);
        let run = async {
            self.expect(effects);
            let output = self.send_typed(sql, parameters).await?;
            self.excuse(effects);
            Ok(output)
        };
        self.command(sql, run, |output| Some(output.affected)).await
    }

    async fn send_typed(
        &self,
        sql: &str,
        parameters: &[TypedParameter<'_>],
    ) -> std::result::Result<CommandOutput, Failure> {
        // The driver may look types up, with statements of its own that it keeps; nothing tells whether it did.
        self.inner.types_looked_up.store(true, Relaxed);
        let given = parameters.iter().map(|(value, kind)| (*value, kind.clone()));
        // As in `prepare`: if this future is dropped during a look-up, its statement stays on the server.
        self.inner.preparing.fetch_add(1, Relaxed);
        let started = self.inner.client.query_typed_raw(sql, given).await;
        self.inner.preparing.fetch_sub(1, Relaxed);
        let rows = started.map_err(|error| match Staleness::of(&error) {
            // The server has forgotten a statement of a look-up: it was prepared for a result type, so this one was executed.
            Staleness::Forgotten => {
                self.inner.types_lost.store(true, Relaxed);
                Failure::Executed(error)
            }
            _ => Failure::Executed(error),
        })?;
        let mut stream = pin!(rows);
        let mut rows = Vec::new();
        while let Some(row) = stream.try_next().await? {
            rows.push(row);
        }
        let affected = stream.rows_affected().unwrap_or(0);
        Ok(CommandOutput { rows, affected })
    }
}
