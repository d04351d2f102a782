//! Values made of rows.
//!
//! Invariant: a row that does not fit is an error, never a panic.

use std::sync::Arc;

use tokio_postgres::{Row, types::FromSqlOwned};

use crate::{Error, Result};

/// A value made of a row, for [`Connection::query_as`](crate::Connection::query_as) and the like.
///
/// Tuples read the columns in their order, and the row has as many. With the feature `derive`, `#[derive(FromRow)]` reads each field of
/// a struct from the column of its name:
///
/// ```ignore
/// #[derive(cenote_postgres::FromRow)]
/// struct Goods {
///     id: i64,
///     #[from_row(rename = "label")]
///     name: String,
///     #[from_row(flatten)] // reads it from the same row
///     size: Size,
///     #[from_row(skip)] // the default of its type
///     selected: bool,
/// }
///
/// let cheap: Vec<Goods> = pool.query_as("SELECT * FROM goods WHERE price < $1", &[&100_i64]).await?;
/// ```
pub trait FromRow: Sized {
    /// Reads the value.
    ///
    /// # Errors
    ///
    /// [`Error::Decode`] if a column is missing or has another type.
    fn from_row(row: &Row) -> Result<Self>;
}

impl FromRow for Row {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(row.clone())
    }
}

/// The row has another number of columns than the tuple.
#[derive(Debug, thiserror::Error)]
#[error("the row has {columns} columns instead of {expected}")]
struct ColumnCount {
    columns: usize,
    expected: usize,
}

fn expect_columns(row: &Row, expected: usize) -> Result<()> {
    match row.len() {
        columns if columns == expected => Ok(()),
        columns => Err(Error::Decode(Arc::new(ColumnCount { columns, expected }))),
    }
}

macro_rules! tuples {
    ($($count:literal: $($type:ident $index:literal),+;)+) => {$(
        impl<$($type: FromSqlOwned),+> FromRow for ($($type,)+) {
            fn from_row(row: &Row) -> Result<Self> {
                expect_columns(row, $count)?;
                Ok(($(row.try_get::<_, $type>($index)?,)+))
            }
        }
    )+};
}

tuples! {
    1: A 0;
    2: A 0, B 1;
    3: A 0, B 1, C 2;
    4: A 0, B 1, C 2, D 3;
    5: A 0, B 1, C 2, D 3, E 4;
    6: A 0, B 1, C 2, D 3, E 4, F 5;
    7: A 0, B 1, C 2, D 3, E 4, F 5, G 6;
    8: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7;
    9: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8;
    10: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9;
    11: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10;
    12: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11;
}
