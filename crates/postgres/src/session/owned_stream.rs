//! A row stream that owns its connection. Invariant: the connection is returned when the stream ends or is dropped, and its next
//! user finds nothing of what was left unread.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::Stream;
use tokio_postgres::Row;

use super::{commands::Parameter, manager::OwnedPooled, streams::TimedStream};
use crate::Result;

/// A stream of the rows of a query that owns its connection, for a response whose body is written after the handler has
/// returned. See [`Pool::query_stream`](crate::Pool::query_stream).
///
/// The connection is returned when the last row was read, after an error, and when the stream is dropped. If rows are left unread
/// then, the pool cancels the query and drains them before the next use.
#[must_use = "streams do nothing unless polled"]
pub struct OwnedRowStream {
    /// `None` once it has ended.
    rows: Option<TimedStream<OwnedPooled, tokio_postgres::RowStream>>,
}

impl OwnedRowStream {
    /// Runs a query on this connection and returns its rows as they arrive. Memory is bounded: the server waits for the reader.
    ///
    /// The command timeout bounds the wait for the first row and for each further one.
    ///
    /// # Errors
    ///
    /// See [`Error`](crate::Error); the stream may also end with one.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the query is cancelled when the connection is returned.
    pub async fn new(connection: OwnedPooled, sql: &str, parameters: &[Parameter<'_>]) -> Result<Self> {
        let started = connection
            .command(sql, connection.start(sql, parameters), |_| None)
            .await?;
        let (rows, effects) = started;
        Ok(Self {
            rows: Some(TimedStream::new(connection, rows, effects)),
        })
    }
}

impl Stream for OwnedRowStream {
    type Item = Result<Row>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Row>>> {
        let Some(rows) = &mut self.rows else {
            return Poll::Ready(None);
        };
        let item = ready!(rows.poll(context));
        if !matches!(item, Some(Ok(_))) {
            self.rows = None;
        }
        Poll::Ready(item)
    }
}

impl std::fmt::Debug for OwnedRowStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OwnedRowStream").field(&self.rows).finish()
    }
}
