//! COPY in both directions.
//!
//! Invariant: data that is sent takes effect only by [`CopyIn::finish`].

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use tokio_postgres::{CopyInSink, CopyOutStream};

use super::{connection::Connection, execution::Failure, prepare::Runnable, streams::TimedStream};
use crate::{Error, Result, session::read_timeout::ReadTimeout, session::side_effects::SideEffects};

/// A sink of data for a COPY to the server. See [`Connection::copy_in`].
///
/// Unless it ends with a successful [`finish`](Self::finish), the COPY is undone.
#[must_use = "a COPY that is not finished is undone"]
pub struct CopyIn<'a> {
    connection: &'a Connection,
    sink: Pin<Box<CopyInSink<Bytes>>>,
    silence: ReadTimeout,
}

/// A stream of data of a COPY from the server. See [`Connection::copy_out`].
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct CopyOut<'a>(TimedStream<&'a Connection, CopyOutStream>);

impl Connection {
    /// Begins a `COPY … FROM STDIN`. Send the data in pieces of any size, in the format that the statement names, and
    /// then call [`finish`](CopyIn::finish).
    ///
    /// The command timeout bounds the wait for the server to accept the COPY, each wait for it to take data, and the
    /// wait for the end. The time that the caller takes does not count.
    ///
    /// # Errors
    ///
    /// See [`Error`]. If the server refuses the COPY, for example because there is no such table, the connection is
    /// lost: the driver would assign later answers to the wrong requests.
    pub async fn copy_in(&self, sql: &str) -> Result<CopyIn<'_>> {
        Ok(CopyIn {
            sink: Box::pin(self.begin_copy_in(sql).await?),
            silence: ReadTimeout::new(self.command_timeout()),
            connection: self,
        })
    }

    /// Runs a `COPY … TO STDOUT` and returns the data as it arrives, in the format that the statement names. Memory is
    /// bounded: the server waits for the reader.
    ///
    /// The command timeout, the next command and an early drop are as for [`query_stream`](Self::query_stream).
    ///
    /// # Errors
    ///
    /// See [`Error`]; the stream may also end with one.
    pub async fn copy_out(&self, sql: &str) -> Result<CopyOut<'_>> {
        let data = self.begin_copy_out(sql).await?;
        Ok(CopyOut(TimedStream::new(self, data, SideEffects::default())))
    }

    pub(super) async fn begin_copy_in(&self, sql: &str) -> Result<CopyInSink<Bytes>> {
        let begin = async {
            let runnable = self.statement(sql).await?;
            let sink = self.inner.client.copy_in(&runnable.prepared.statement).await;
            sink.map_err(Failure::Executed)
        };
        self.command(sql, begin, |_| None).await
    }

    pub(super) async fn begin_copy_out(&self, sql: &str) -> Result<CopyOutStream> {
        let begin = async {
            let first = self.statement(sql).await?;
            match self.start_copy_out(&first).await {
                Err(failure) => {
                    let renewed = self.renew(sql, &first, failure).await?;
                    self.start_copy_out(&renewed).await
                }
                data => data,
            }
        };
        self.command(sql, begin, |_| None).await
    }

    async fn start_copy_out(&self, runnable: &Runnable) -> std::result::Result<CopyOutStream, Failure> {
        let data = self.inner.client.copy_out(&runnable.prepared.statement).await;
        data.map_err(Failure::Executed)
    }
}

impl CopyIn<'_> {
    /// Sends data. Waits while the server is busy.
    ///
    /// # Errors
    ///
    /// See [`Error`]. The server may report bad data only at the end.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, it is unknown whether the data was sent. Drop the COPY too.
    pub async fn send(&mut self, data: Bytes) -> Result<()> {
        poll_fn(|context| Pin::new(&mut *self).poll_ready(context)).await?;
        Pin::new(self).start_send(data)
    }

    /// Ends the COPY and returns the number of rows.
    ///
    /// # Errors
    ///
    /// See [`Error`]. Unless the outcome [is unknown](Error::is_outcome_unknown), nothing was changed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, it is unknown whether the COPY took effect.
    pub async fn finish(mut self) -> Result<u64> {
        poll_fn(|context| self.poll_finish(context)).await
    }

    fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<Result<u64>> {
        let polled = self.sink.as_mut().poll_finish(context);
        self.settle(context, polled)
    }

    fn settle<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<std::result::Result<T, tokio_postgres::Error>>,
    ) -> Poll<Result<T>> {
        Poll::Ready(match ready!(self.silence.bound(context, polled)) {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(self.connection.failed(error)),
            Err(silence) => Err(self.connection.fell_silent(&silence)),
        })
    }
}

impl Sink<Bytes> for CopyIn<'_> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let polled = self.sink.as_mut().poll_ready(context);
        self.settle(context, polled)
    }

    fn start_send(mut self: Pin<&mut Self>, data: Bytes) -> Result<()> {
        let sent = self.sink.as_mut().start_send(data);
        sent.map_err(|error| self.connection.failed(error))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let polled = self.sink.as_mut().poll_flush(context);
        self.settle(context, polled)
    }

    /// Like [`CopyIn::finish`], without the number of rows.
    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_finish(context).map_ok(drop)
    }
}

impl Stream for CopyOut<'_> {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        self.0.poll(context)
    }
}

impl std::fmt::Debug for CopyIn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("CopyIn").field(self.connection).finish()
    }
}
