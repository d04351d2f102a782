//! COPY of rows in the binary format, in both directions.
//!
//! Invariant: rows that are written take effect only by [`BinaryCopyIn::finish`], and all of them or none.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use futures_util::Stream;
use tokio_postgres::{
    binary_copy::{BinaryCopyInWriter, BinaryCopyOutRow, BinaryCopyOutStream},
    types::Type,
};

use super::{commands::Parameter, connection::Connection, streams::TimedStream};
use crate::{
    Error, Result,
    session::{read_timeout::ReadTimeout, side_effects::SideEffects},
};

/// Rows for a COPY to the server. See [`Connection::copy_in_binary`].
///
/// Unless it ends with a successful [`finish`](Self::finish), the COPY is undone.
#[must_use = "a COPY that is not finished is undone"]
pub struct BinaryCopyIn<'a> {
    connection: &'a Connection,
    writer: Pin<Box<BinaryCopyInWriter>>,
    silence: ReadTimeout,
    columns: usize,
    /// A row was not written as a whole, so the COPY cannot go on.
    broken: bool,
}

/// A stream of the rows of a COPY from the server. See [`Connection::copy_out_binary`].
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct BinaryCopyOut<'a>(TimedStream<&'a Connection, BinaryCopyOutStream>);

impl Connection {
    /// Begins a `COPY … FROM STDIN BINARY` whose columns have these types. Write the rows, and then call
    /// [`finish`](BinaryCopyIn::finish). The types must be exactly those of the columns: the server converts nothing.
    ///
    /// ```no_run
    /// use cenote_postgres::tokio_postgres::types::Type;
    ///
    /// # async fn example(connection: &cenote_postgres::Connection) -> cenote_postgres::Result<()> {
    /// let copy = "COPY goods (id, name) FROM STDIN BINARY";
    /// let mut rows = connection.copy_in_binary(copy, &[Type::INT8, Type::TEXT]).await?;
    /// rows.write(&[&1_i64, &"bucket"]).await?;
    /// rows.write(&[&2_i64, &"spade"]).await?;
    /// assert_eq!(rows.finish().await?, 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`copy_in`](Self::copy_in).
    pub async fn copy_in_binary(&self, sql: &str, types: &[Type]) -> Result<BinaryCopyIn<'_>> {
        let sink = self.begin_copy_in(sql).await?;
        Ok(BinaryCopyIn {
            writer: Box::pin(BinaryCopyInWriter::new(sink, types)),
            silence: ReadTimeout::new(self.command_timeout()),
            columns: types.len(),
            broken: false,
            connection: self,
        })
    }

    /// Runs a `COPY … TO STDOUT BINARY` whose columns have these types, and returns its rows as they arrive. Memory is bounded:
    /// the server waits for the reader.
    ///
    /// The command timeout, the next command and an early drop are as for [`query_stream`](Self::query_stream).
    ///
    /// # Errors
    ///
    /// See [`Error`]; the stream may also end with one.
    pub async fn copy_out_binary(&self, sql: &str, types: &[Type]) -> Result<BinaryCopyOut<'_>> {
        let data = self.begin_copy_out(sql).await?;
        let rows = BinaryCopyOutStream::new(data, types);
        Ok(BinaryCopyOut(TimedStream::new(self, rows, SideEffects::default())))
    }
}

impl BinaryCopyIn<'_> {
    /// Writes a row. Waits while the server is busy.
    ///
    /// # Errors
    ///
    /// [`Error::WrongStatement`] if the row has another number of values than the COPY has columns; otherwise see [`Error`].
    /// After an error the COPY cannot go on.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is done, the COPY cannot go on: it is undone.
    pub async fn write(&mut self, row: &[Parameter<'_>]) -> Result<()> {
        self.check_whole()?;
        if row.len() != self.columns {
            let text = format!("a row of {} values for a COPY of {} columns", row.len(), self.columns);
            return Err(Error::WrongStatement(text.into()));
        }
        // Until the row is written as a whole.
        self.broken = true;
        let mut writing = pin!(self.writer.as_mut().write(row));
        let silence = &mut self.silence;
        let written = poll_fn(|context| {
            let polled = writing.as_mut().poll(context);
            silence.bound(context, polled)
        });
        match written.await {
            Ok(Ok(())) => {
                self.broken = false;
                Ok(())
            }
            Ok(Err(error)) => Err(self.connection.failed(error)),
            Err(silence) => Err(self.connection.fell_silent(&silence)),
        }
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
        self.check_whole()?;
        let mut finishing = pin!(self.writer.as_mut().finish());
        let silence = &mut self.silence;
        let finished = poll_fn(|context| {
            let polled = finishing.as_mut().poll(context);
            silence.bound(context, polled)
        });
        match finished.await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) => Err(self.connection.failed(error)),
            Err(silence) => Err(self.connection.fell_silent(&silence)),
        }
    }

    fn check_whole(&self) -> Result<()> {
        match self.broken {
            true => Err(Error::WrongStatement(
                "an earlier row of this COPY was not written".into(),
            )),
            false => Ok(()),
        }
    }
}

impl Stream for BinaryCopyOut<'_> {
    type Item = Result<BinaryCopyOutRow>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<BinaryCopyOutRow>>> {
        self.0.poll(context)
    }
}

impl std::fmt::Debug for BinaryCopyIn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("BinaryCopyIn").field(self.connection).finish()
    }
}
