//! Queries on the pool itself whose rows become values. Combinators, because an `async` block would hold each future twice. Invariant: that of `pool_statements`, through which they run.

use futures_util::{FutureExt, TryFutureExt};
use tokio_postgres::types::FromSqlOwned;

use crate::{
    FromRow, Pool, Result,
    session::{commands::Parameter, typed_rows},
};

impl Pool {
    /// Like [`query`](Self::query), with rows as values.
    ///
    /// # Errors
    ///
    /// [`Error::Decode`](crate::Error::Decode) when a row cannot be read; otherwise see [`Error`](crate::Error).
    #[track_caller]
    pub fn query_as<'a, T: FromRow>(
        &'a self,
        sql: &'a str,
        parameters: &'a [Parameter<'a>],
    ) -> impl Future<Output = Result<Vec<T>>> + Send {
        self.query(sql, parameters).map(|rows| typed_rows::all(&rows?))
    }

    /// Like [`query_one`](Self::query_one), with the row as a value.
    ///
    /// # Errors
    ///
    /// Those of [`query_one`](Self::query_one) and [`query_as`](Self::query_as).
    #[track_caller]
    pub fn query_one_as<'a, T: FromRow>(
        &'a self,
        sql: &'a str,
        parameters: &'a [Parameter<'a>],
    ) -> impl Future<Output = Result<T>> + Send {
        self.query_one(sql, parameters).map(|row| T::from_row(&row?))
    }

    /// Like [`query_opt`](Self::query_opt), with the row as a value.
    ///
    /// # Errors
    ///
    /// Those of [`query_opt`](Self::query_opt) and [`query_as`](Self::query_as).
    #[track_caller]
    pub fn query_opt_as<'a, T: FromRow>(
        &'a self,
        sql: &'a str,
        parameters: &'a [Parameter<'a>],
    ) -> impl Future<Output = Result<Option<T>>> + Send {
        self.query_opt(sql, parameters)
            .map(|row| row?.as_ref().map(T::from_row).transpose())
    }

    /// Like [`query_as`](Self::query_as), for the values of the only column.
    ///
    /// # Errors
    ///
    /// Those of [`query_as`](Self::query_as).
    #[track_caller]
    pub fn query_scalar<'a, T: FromSqlOwned>(
        &'a self,
        sql: &'a str,
        parameters: &'a [Parameter<'a>],
    ) -> impl Future<Output = Result<Vec<T>>> + Send {
        self.query_as(sql, parameters)
            .map_ok(|values| values.into_iter().map(typed_rows::scalar).collect())
    }

    /// Like [`query_one_as`](Self::query_one_as), for the only value of the row.
    ///
    /// ```no_run
    /// # async fn example(pool: &cenote_postgres::Pool) -> cenote_postgres::Result<()> {
    /// let orders: i64 = pool.query_one_scalar("SELECT count(*) FROM orders", &[]).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`query_one_as`](Self::query_one_as).
    #[track_caller]
    pub fn query_one_scalar<'a, T: FromSqlOwned>(
        &'a self,
        sql: &'a str,
        parameters: &'a [Parameter<'a>],
    ) -> impl Future<Output = Result<T>> + Send {
        self.query_one_as(sql, parameters).map_ok(typed_rows::scalar)
    }

    /// Like [`query_opt_as`](Self::query_opt_as), for the only value of the row.
    ///
    /// # Errors
    ///
    /// Those of [`query_opt_as`](Self::query_opt_as).
    #[track_caller]
    pub fn query_opt_scalar<'a, T: FromSqlOwned>(
        &'a self,
        sql: &'a str,
        parameters: &'a [Parameter<'a>],
    ) -> impl Future<Output = Result<Option<T>>> + Send {
        self.query_opt_as(sql, parameters)
            .map_ok(|value| value.map(typed_rows::scalar))
    }
}
