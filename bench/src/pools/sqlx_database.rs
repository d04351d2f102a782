//! A sqlx driver without a database, because sqlx's pool accepts connections only from a driver.
//!
//! Invariant: only open, close and ping ever run. [`Inert`] stands for the types that these need, [`Never`] for those
//! that only a query would create.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use log::LevelFilter;
use sqlx_core::{
    Either, Error, Url,
    arguments::{Arguments, IntoArguments},
    column::{Column, ColumnIndex},
    connection::{ConnectOptions, Connection},
    database::Database,
    encode::Encode,
    error::BoxDynError,
    from_row::FromRow,
    impl_into_arguments_for_arguments,
    query::Query,
    query_as::QueryAs,
    query_scalar::QueryScalar,
    row::Row,
    sql_str::SqlStr,
    statement::Statement,
    transaction::{Transaction, TransactionManager},
    type_info::TypeInfo,
    types::Type,
    value::{Value, ValueRef},
};

/// The database, its connections and their options. All do nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inert;

/// Rows, values and other types that are never created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Never {}

impl Database for Inert {
    type Connection = Self;
    type TransactionManager = Self;
    type Row = Never;
    type QueryResult = Self;
    type Column = Never;
    type TypeInfo = Never;
    type Value = Never;
    type ValueRef<'r> = Never;
    type Arguments = Self;
    type ArgumentBuffer = ();
    type Statement = Never;
    const NAME: &'static str = "inert";
    const URL_SCHEMES: &'static [&'static str] = &["inert"];
}

impl Connection for Inert {
    type Database = Self;
    type Options = Self;
    async fn close(self) -> Result<(), Error> {
        Ok(())
    }
    async fn close_hard(self) -> Result<(), Error> {
        Ok(())
    }
    async fn ping(&mut self) -> Result<(), Error> {
        Ok(())
    }
    async fn begin(&mut self) -> Result<Transaction<'_, Self>, Error> {
        Transaction::begin(self, None).await
    }
    fn shrink_buffers(&mut self) {}
    async fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }
    fn should_flush(&self) -> bool {
        false
    }
}

impl FromStr for Inert {
    type Err = Error;
    fn from_str(_: &str) -> Result<Self, Error> {
        Ok(Self)
    }
}

impl ConnectOptions for Inert {
    type Connection = Self;
    fn from_url(_: &Url) -> Result<Self, Error> {
        Ok(Self)
    }
    async fn connect(&self) -> Result<Self, Error> {
        Ok(Self)
    }
    fn log_statements(self, _: LevelFilter) -> Self {
        self
    }
    fn log_slow_statements(self, _: LevelFilter, _: Duration) -> Self {
        self
    }
}

impl TransactionManager for Inert {
    type Database = Self;
    async fn begin(_: &mut Self, _: Option<SqlStr>) -> Result<(), Error> {
        Ok(())
    }
    async fn commit(_: &mut Self) -> Result<(), Error> {
        Ok(())
    }
    async fn rollback(_: &mut Self) -> Result<(), Error> {
        Ok(())
    }
    fn start_rollback(_: &mut Self) {}
    fn get_transaction_depth(_: &Self) -> usize {
        0
    }
}

impl Arguments for Inert {
    type Database = Self;
    fn reserve(&mut self, _: usize, _: usize) {}
    fn add<'t, T: Encode<'t, Self> + Type<Self>>(&mut self, _: T) -> Result<(), BoxDynError> {
        Err("there are no queries that could take an argument".into())
    }
    fn len(&self) -> usize {
        0
    }
}

impl_into_arguments_for_arguments!(Inert);

impl Extend<Self> for Inert {
    fn extend<I: IntoIterator<Item = Self>>(&mut self, _: I) {}
}

impl Row for Never {
    type Database = Inert;
    fn columns(&self) -> &[Never] {
        match *self {}
    }
    fn try_get_raw<I: ColumnIndex<Self>>(&self, _: I) -> Result<Never, Error> {
        match *self {}
    }
}

impl Column for Never {
    type Database = Inert;
    fn ordinal(&self) -> usize {
        match *self {}
    }
    fn name(&self) -> &str {
        match *self {}
    }
    fn type_info(&self) -> &Never {
        self
    }
}

impl fmt::Display for Never {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

impl TypeInfo for Never {
    fn is_null(&self) -> bool {
        match *self {}
    }
    fn name(&self) -> &str {
        match *self {}
    }
}

impl Value for Never {
    type Database = Inert;
    fn as_ref(&self) -> Never {
        *self
    }
    fn type_info(&self) -> Cow<'_, Never> {
        match *self {}
    }
    fn is_null(&self) -> bool {
        match *self {}
    }
}

impl ValueRef<'_> for Never {
    type Database = Inert;
    fn to_owned(&self) -> Never {
        *self
    }
    fn type_info(&self) -> Cow<'_, Never> {
        match *self {}
    }
    fn is_null(&self) -> bool {
        match *self {}
    }
}

impl Statement for Never {
    type Database = Inert;
    fn into_sql(self) -> SqlStr {
        match self {}
    }
    fn sql(&self) -> &SqlStr {
        match *self {}
    }
    fn parameters(&self) -> Option<Either<&[Never], usize>> {
        match *self {}
    }
    fn columns(&self) -> &[Never] {
        match *self {}
    }
    fn query(&self) -> Query<'_, Inert, Inert> {
        match *self {}
    }
    fn query_with<A: IntoArguments<Inert>>(&self, _: A) -> Query<'_, Inert, A> {
        match *self {}
    }
    fn query_as<O>(&self) -> QueryAs<'_, Inert, O, Inert>
    where
        O: for<'r> FromRow<'r, Never>,
    {
        match *self {}
    }
    fn query_as_with<'s, O, A>(&'s self, _: A) -> QueryAs<'s, Inert, O, A>
    where
        O: for<'r> FromRow<'r, Never>,
        A: IntoArguments<Inert>,
    {
        match *self {}
    }
    fn query_scalar<O>(&self) -> QueryScalar<'_, Inert, O, Inert>
    where
        (O,): for<'r> FromRow<'r, Never>,
    {
        match *self {}
    }
    fn query_scalar_with<'s, O, A>(&'s self, _: A) -> QueryScalar<'s, Inert, O, A>
    where
        (O,): for<'r> FromRow<'r, Never>,
        A: IntoArguments<Inert>,
    {
        match *self {}
    }
}
