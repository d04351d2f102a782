//! Queries whose rows become values. Invariant: what cannot be read is an error of the query, which was executed.

use tokio_postgres::{Row, types::FromSqlOwned};

use super::{commands::Parameter, connection::Connection};
use crate::{Result, from_row::FromRow};

/// Reads all rows.
pub(crate) fn all<T: FromRow>(rows: &[Row]) -> Result<Vec<T>> {
    rows.iter().map(T::from_row).collect()
}

/// Returns the value of a row of one column.
pub(crate) fn scalar<T>((value,): (T,)) -> T {
    value
}

impl Connection {
    /// Runs a query and returns its rows as values.
    ///
    /// # Errors
    ///
    /// [`Error::Decode`](crate::Error::Decode) when a row cannot be read; otherwise see [`Error`](crate::Error).
    pub async fn query_as<T: FromRow>(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<T>> {
        all(&self.query(sql, parameters).await?)
    }

    /// Runs a query and returns its only row as a value.
    ///
    /// # Errors
    ///
    /// Those of [`query_one`](Self::query_one) and [`query_as`](Self::query_as).
    pub async fn query_one_as<T: FromRow>(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<T> {
        T::from_row(&self.query_one(sql, parameters).await?)
    }

    /// Runs a query and returns its only row as a value, if there is one.
    ///
    /// # Errors
    ///
    /// Those of [`query_opt`](Self::query_opt) and [`query_as`](Self::query_as).
    pub async fn query_opt_as<T: FromRow>(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Option<T>> {
        let row = self.query_opt(sql, parameters).await?;
        row.as_ref().map(T::from_row).transpose()
    }

    /// Runs a query and returns the values of its only column.
    ///
    /// # Errors
    ///
    /// Those of [`query_as`](Self::query_as).
    pub async fn query_scalar<T: FromSqlOwned>(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<T>> {
        let values = self.query_as(sql, parameters).await?;
        Ok(values.into_iter().map(scalar).collect())
    }

    /// Runs a query and returns the only value of its only row.
    ///
    /// ```no_run
    /// # async fn example(connection: &cenote_postgres::Connection) -> cenote_postgres::Result<()> {
    /// let orders: i64 = connection.query_one_scalar("SELECT count(*) FROM orders", &[]).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`query_one_as`](Self::query_one_as).
    pub async fn query_one_scalar<T: FromSqlOwned>(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<T> {
        Ok(scalar(self.query_one_as(sql, parameters).await?))
    }

    /// Runs a query and returns the only value of its only row, if there is one.
    ///
    /// # Errors
    ///
    /// Those of [`query_opt_as`](Self::query_opt_as).
    pub async fn query_opt_scalar<T: FromSqlOwned>(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Option<T>> {
        Ok(self.query_opt_as(sql, parameters).await?.map(scalar))
    }
}
