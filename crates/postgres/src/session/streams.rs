//! Reads answers in pieces, in bounded memory.
//!
//! Invariant: a stream ends once, possibly with an error. What is left unread is cancelled when the connection is
//! returned.

use std::{
    ops::Deref,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::Stream;
use tokio_postgres::{Row, types::BorrowToSql};

use super::{commands::Parameter, connection::Connection};
use crate::{Error, Result, last_failure, session::read_timeout::ReadTimeout, session::side_effects::SideEffects};

/// A stream of the rows of a query. See [`Connection::query_stream`].
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct RowStream<'a>(TimedStream<&'a Connection, tokio_postgres::RowStream>);

/// The answer to one command as a stream, whose waits for the server are bounded. `C` is its connection, owned or borrowed.
pub(super) struct TimedStream<C, S> {
    /// Before the connection, so that it is dropped first: a connection that is returned with a stream that somebody holds is
    /// closed.
    source: Pin<Box<S>>,
    connection: C,
    silence: ReadTimeout,
    ended: bool,
    /// The effects of the command on the session, excused once it has completed.
    effects: SideEffects,
}

impl Connection {
    /// Runs a query and returns its rows as they arrive. Memory is bounded: the server waits for the reader.
    ///
    /// The command timeout bounds the wait for the first row and for each further one. The time that the caller takes
    /// does not count.
    ///
    /// Read the stream to its end, or drop it, before the next command on this connection: that waits behind the unread
    /// rows, also after a drop. Returning the connection cancels them.
    ///
    /// # Errors
    ///
    /// See [`Error`]; the stream may also end with one.
    pub async fn query_stream(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<RowStream<'_>> {
        let (rows, effects) = self.command(sql, self.start(sql, parameters), |_| None).await?;
        Ok(RowStream(TimedStream::new(self, rows, effects)))
    }

    /// Like [`query_stream`](Self::query_stream), for parameters of any one type, also in number unknown before.
    ///
    /// ```no_run
    /// # async fn example(connection: &cenote_postgres::Connection, names: Vec<String>) -> cenote_postgres::Result<()> {
    /// let places: Vec<_> = (1..=names.len()).map(|place| format!("${place}")).collect();
    /// let sql = format!("SELECT id FROM goods WHERE name IN ({})", places.join(", "));
    /// let rows = connection.query_raw(&sql, names).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`Error`]; the stream may also end with one.
    pub async fn query_raw<P, I>(&self, sql: &str, parameters: I) -> Result<RowStream<'_>>
    where
        P: BorrowToSql + Send + Sync,
        I: IntoIterator<Item = P>,
    {
        let parameters: Vec<P> = parameters.into_iter().collect();
        let (rows, effects) = self.command(sql, self.start(sql, &parameters), |_| None).await?;
        Ok(RowStream(TimedStream::new(self, rows, effects)))
    }
}

impl<C: Deref<Target = Connection>, S> TimedStream<C, S> {
    pub(super) fn new(connection: C, source: S, effects: SideEffects) -> Self {
        Self {
            effects,
            silence: ReadTimeout::new(connection.command_timeout()),
            connection,
            source: Box::pin(source),
            ended: false,
        }
    }
}

impl<C, S, T> TimedStream<C, S>
where
    C: Deref<Target = Connection>,
    S: Stream<Item = std::result::Result<T, tokio_postgres::Error>>,
{
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let polled = self.source.as_mut().poll_next(context);
        let item = match ready!(self.silence.bound(context, polled)) {
            Ok(Some(Ok(item))) => return Poll::Ready(Some(Ok(item))),
            Ok(Some(Err(error))) => Some(Err(self.connection.failed(error))),
            Ok(None) => {
                self.connection.excuse(self.effects);
                None
            }
            Err(silence) => Some(Err(self.connection.fell_silent(&silence))),
        };
        self.ended = true;
        Poll::Ready(item)
    }
}

impl Connection {
    /// Returns the error of a command that failed after the server began to execute it.
    pub(super) fn failed(&self, error: tokio_postgres::Error) -> Error {
        let error = Error::executed(error, self.inner.link.end_reason());
        self.inner.metrics.failed(&error);
        last_failure::note(Some(&error));
        error
    }

    /// Returns the error of a command during which the server was silent for too long.
    pub(super) fn fell_silent(&self, silence: &crate::session::read_timeout::ReadTimedOut) -> Error {
        let error = self.overdue(silence.0);
        self.inner.metrics.failed(&error);
        last_failure::note(Some(&error));
        error
    }
}

impl Stream for RowStream<'_> {
    type Item = Result<Row>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Row>>> {
        self.0.poll(context)
    }
}

impl<C: std::fmt::Debug, S> std::fmt::Debug for TimedStream<C, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.connection.fmt(f)
    }
}
