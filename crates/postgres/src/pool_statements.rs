//! One statement on the pool itself.
//!
//! Invariant: the caller's line is shown as the holder of the connection, and a statement is repeated only if it certainly had
//! no effect.

use std::panic::Location;

use tokio_postgres::Row;

use crate::{
    OwnedRowStream, Pool, Result,
    session::{commands::Parameter, typed::TypedParameter},
};

impl Pool {
    /// Acquires a connection, runs a query on it and returns its rows. Repeats it as [`retry`](Self::retry) does.
    ///
    /// ```no_run
    /// # async fn example(pool: &cenote_postgres::Pool) -> cenote_postgres::Result<()> {
    /// for row in pool.query("SELECT id, name FROM goods WHERE price < $1", &[&100_i64]).await? {
    ///     println!("{}: {}", row.get::<_, i64>("id"), row.get::<_, &str>("name"));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`Error`](crate::Error).
    ///
    /// # Cancel safety
    ///
    /// The query may have been sent, and is cancelled then.
    #[track_caller]
    pub fn query<'a>(
        &'a self,
        sql: &'a str,
        parameters: &'a [Parameter<'a>],
    ) -> impl Future<Output = Result<Vec<Row>>> + Send + 'a {
        let at = Location::caller();
        self.retry(move || async move { self.get_at(at).await?.query(sql, parameters).await })
    }

    /// Like [`query`](Self::query), for the only row.
    ///
    /// # Errors
    ///
    /// [`Error::RowCount`](crate::Error::RowCount) when there is no row, or more than one; otherwise see [`Error`](crate::Error).
    #[track_caller]
    pub fn query_one<'a>(
        &'a self,
        sql: &'a str,
        parameters: &'a [Parameter<'a>],
    ) -> impl Future<Output = Result<Row>> + Send + 'a {
        let at = Location::caller();
        self.retry(move || async move { self.get_at(at).await?.query_one(sql, parameters).await })
    }

    /// Like [`query`](Self::query), for the only row, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::RowCount`](crate::Error::RowCount) when there is more than one row; otherwise see [`Error`](crate::Error).
    #[track_caller]
    pub fn query_opt<'a>(
        &'a self,
        sql: &'a str,
        parameters: &'a [Parameter<'a>],
    ) -> impl Future<Output = Result<Option<Row>>> + Send + 'a {
        let at = Location::caller();
        self.retry(move || async move { self.get_at(at).await?.query_opt(sql, parameters).await })
    }

    /// Like [`query`](Self::query), for the number of rows that a statement affected.
    ///
    /// # Errors
    ///
    /// See [`Error`](crate::Error).
    #[track_caller]
    pub fn execute<'a>(
        &'a self,
        sql: &'a str,
        parameters: &'a [Parameter<'a>],
    ) -> impl Future<Output = Result<u64>> + Send + 'a {
        let at = Location::caller();
        self.retry(move || async move { self.get_at(at).await?.execute(sql, parameters).await })
    }

    /// Like [`query`](Self::query), for parameters that bring their types: one round trip, and nothing is prepared.
    ///
    /// # Errors
    ///
    /// See [`Error`](crate::Error).
    #[track_caller]
    pub fn query_typed<'a>(
        &'a self,
        sql: &'a str,
        parameters: &'a [TypedParameter<'a>],
    ) -> impl Future<Output = Result<Vec<Row>>> + Send + 'a {
        let at = Location::caller();
        self.retry(move || async move { self.get_at(at).await?.query_typed(sql, parameters).await })
    }

    /// Like [`query`](Self::query), for statements without parameters or results, separated by semicolons. What they change in the
    /// session is undone when they are done.
    ///
    /// # Errors
    ///
    /// See [`Error`](crate::Error).
    #[track_caller]
    pub fn batch_execute<'a>(&'a self, sql: &'a str) -> impl Future<Output = Result<()>> + Send + 'a {
        let at = Location::caller();
        self.retry(move || async move { self.get_at(at).await?.batch_execute(sql).await })
    }

    /// Acquires a connection, runs a query on it and returns its rows as they arrive, in a stream that owns the connection. Memory
    /// is bounded: the server waits for the reader. The beginning is repeated as in [`query`](Self::query).
    ///
    /// ```no_run
    /// use futures_util::TryStreamExt;
    ///
    /// # async fn example(pool: &cenote_postgres::Pool) -> cenote_postgres::Result<()> {
    /// let mut rows = pool.query_stream("SELECT id, name FROM goods", &[]).await?;
    /// while let Some(row) = rows.try_next().await? {
    ///     println!("{}: {}", row.get::<_, i64>("id"), row.get::<_, &str>("name"));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`Error`](crate::Error); the stream may also end with one.
    ///
    /// # Cancel safety
    ///
    /// The query may have been sent, and is cancelled then.
    #[track_caller]
    pub fn query_stream<'a>(
        &'a self,
        sql: &'a str,
        parameters: &'a [Parameter<'a>],
    ) -> impl Future<Output = Result<OwnedRowStream>> + Send + 'a {
        let at = Location::caller();
        self.retry(move || async move {
            let connection = self.get_owned_at(at).await?;
            OwnedRowStream::new(connection, sql, parameters).await
        })
    }
}
