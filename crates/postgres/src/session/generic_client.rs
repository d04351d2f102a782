//! Runs the driver's own statements, for code that was written or generated for the driver or for deadpool-postgres.
//!
//! Invariant: each call is a command like any other: counted, bounded in time, and cancelled when it takes too long.

use std::sync::atomic::Ordering::Relaxed;

use tokio_postgres::{
    Error as DriverError, Row, RowStream, SimpleQueryMessage, Statement, ToStatement,
    types::{BorrowToSql, Type},
};

use super::{
    commands::Parameter,
    connection::Connection,
    execution::{Failed, Failure},
    manager::Pooled,
    side_effects::SideEffects,
    statement_cache::{Prepared, text_of},
    transaction::Transaction,
};

mod private {
    use super::{Connection, Transaction};

    /// Sessions: connections, guards of connections, and transactions.
    pub trait Sealed: Send + Sync {
        fn session(&self) -> &Connection;

        fn begin(&mut self) -> impl Future<Output = crate::Result<Transaction<'_>>> + Send;
    }
}

/// What connections and transactions have in common, with the statements, rows and errors of the driver: the trait of this
/// name in `deadpool_postgres`, for code that was written or generated for it.
///
/// New code has better methods on [`Connection`]: they prepare a text by themselves, and their [`Error`](crate::Error) tells
/// what is certain.
///
/// * Every call is counted and bounded in time. The time of [`query_raw`](Self::query_raw) ends with the first rows.
/// * [`prepare`](Self::prepare) keeps statements in the connection's cache. A call with a text instead of a statement prepares
///   it anew each time, as with the driver, and its text is not seen: undo by yourself what it changes in the session without a
///   sign on the wire, such as an advisory lock, or use [`Reset::Always`](crate::Reset::Always).
/// * A call counts under the name of the statement that was prepared on the connection just before it, and otherwise as one
///   without a name.
/// * After a change of the schema a statement fails once per connection, and is then prepared anew.
///
/// A failure that is not the driver's, such as a timeout, is inside the driver's error;
/// [`Error::from`](crate::Error#impl-From%3CError%3E-for-Error) returns it.
///
/// The trait is sealed: further methods may follow.
///
/// ```no_run
/// use cenote_postgres::{GenericClient, Pool, tokio_postgres};
///
/// async fn pieces(client: &impl GenericClient, name: &str) -> Result<i64, tokio_postgres::Error> {
///     let statement = client.prepare_cached("SELECT pieces FROM goods WHERE name = $1").await?;
///     client.query_one(&statement, &[&name]).await?.try_get(0)
/// }
///
/// # async fn example(pool: Pool) -> cenote_postgres::Result<()> {
/// let connection = pool.get().await?;
/// let before = pieces(&connection, "lamp").await?;
/// # Ok(())
/// # }
/// ```
pub trait GenericClient: private::Sealed {
    /// Runs a statement and returns the number of rows that it affected.
    fn execute<T>(
        &self,
        statement: &T,
        parameters: &[Parameter<'_>],
    ) -> impl Future<Output = Result<u64, DriverError>> + Send
    where
        T: ?Sized + ToStatement + Sync + Send;

    /// Like [`execute`](Self::execute), with parameters from an iterator.
    fn execute_raw<T, P, I>(
        &self,
        statement: &T,
        parameters: I,
    ) -> impl Future<Output = Result<u64, DriverError>> + Send
    where
        T: ?Sized + ToStatement + Sync + Send,
        P: BorrowToSql,
        I: IntoIterator<Item = P> + Sync + Send,
        I::IntoIter: ExactSizeIterator;

    /// Runs a query and returns its rows.
    fn query<T>(
        &self,
        statement: &T,
        parameters: &[Parameter<'_>],
    ) -> impl Future<Output = Result<Vec<Row>, DriverError>> + Send
    where
        T: ?Sized + ToStatement + Sync + Send;

    /// Runs a query and returns its only row. Another number of rows is an error.
    fn query_one<T>(
        &self,
        statement: &T,
        parameters: &[Parameter<'_>],
    ) -> impl Future<Output = Result<Row, DriverError>> + Send
    where
        T: ?Sized + ToStatement + Sync + Send;

    /// Runs a query and returns its only row, if there is one. More than one row is an error.
    fn query_opt<T>(
        &self,
        statement: &T,
        parameters: &[Parameter<'_>],
    ) -> impl Future<Output = Result<Option<Row>, DriverError>> + Send
    where
        T: ?Sized + ToStatement + Sync + Send;

    /// Runs a query and returns its rows as they arrive. Only the wait for the first ones is bounded in time. Rows that are left
    /// unread are cancelled when the connection is returned.
    fn query_raw<T, P, I>(
        &self,
        statement: &T,
        parameters: I,
    ) -> impl Future<Output = Result<RowStream, DriverError>> + Send
    where
        T: ?Sized + ToStatement + Sync + Send,
        P: BorrowToSql,
        I: IntoIterator<Item = P> + Sync + Send,
        I::IntoIter: ExactSizeIterator;

    /// Returns a statement from the connection's cache, or prepares and keeps it. Use it only until the connection is returned.
    fn prepare(&self, sql: &str) -> impl Future<Output = Result<Statement, DriverError>> + Send {
        self.prepare_typed(sql, &[])
    }

    /// Like [`prepare`](Self::prepare), with types for the first parameters.
    fn prepare_typed(&self, sql: &str, types: &[Type]) -> impl Future<Output = Result<Statement, DriverError>> + Send;

    /// The same as [`prepare`](Self::prepare).
    fn prepare_cached(&self, sql: &str) -> impl Future<Output = Result<Statement, DriverError>> + Send {
        self.prepare(sql)
    }

    /// The same as [`prepare_typed`](Self::prepare_typed).
    fn prepare_typed_cached(
        &self,
        sql: &str,
        types: &[Type],
    ) -> impl Future<Output = Result<Statement, DriverError>> + Send {
        self.prepare_typed(sql, types)
    }

    /// Begins a transaction, or sets a savepoint in one. It is rolled back unless it is committed.
    fn transaction(&mut self) -> impl Future<Output = Result<Transaction<'_>, DriverError>> + Send;

    /// Runs statements without parameters or results, separated by semicolons.
    fn batch_execute(&self, sql: &str) -> impl Future<Output = Result<(), DriverError>> + Send;

    /// Runs statements without parameters, separated by semicolons, and returns their rows as text.
    fn simple_query(&self, sql: &str) -> impl Future<Output = Result<Vec<SimpleQueryMessage>, DriverError>> + Send;
}

impl Connection {
    /// Runs a call of the driver as a command.
    async fn driven<T, F>(
        &self,
        call: impl FnOnce() -> F,
        rows: impl FnOnce(&T) -> Option<u64>,
    ) -> Result<T, DriverError>
    where
        F: Future<Output = Result<T, DriverError>>,
    {
        // A call with a text may look types up.
        self.inner.types_looked_up.store(true, Relaxed);
        let announced = self.inner.announced.take();
        let sql = announced.as_deref().map(text_of).unwrap_or_default();
        let run = async {
            match call().await {
                Ok(answer) => Ok(Ok(answer)),
                // The server has executed it; only the caller expected another number of rows.
                Err(error) if is_row_count(&error) => Ok(Err(error)),
                Err(error) => {
                    self.forget_if_stale_call(announced.as_deref().unwrap_or_default(), &error);
                    Err(Failure::Executed(error))
                }
            }
        };
        let done = self
            .attempt(sql, run, |answer| answer.as_ref().ok().and_then(rows))
            .await;
        done.unwrap_or_else(|failed| Err(failed.into_driver()))
    }
}

/// Whether the driver refuses a number of rows. It distinguishes its errors only by text; a test checks this one.
fn is_row_count(error: &DriverError) -> bool {
    error.as_db_error().is_none() && error.to_string() == "query returned an unexpected number of rows"
}

impl private::Sealed for Connection {
    fn session(&self) -> &Connection {
        self
    }

    fn begin(&mut self) -> impl Future<Output = crate::Result<Transaction<'_>>> + Send {
        self.transaction()
    }
}

impl private::Sealed for Pooled<'_> {
    fn session(&self) -> &Connection {
        self
    }

    fn begin(&mut self) -> impl Future<Output = crate::Result<Transaction<'_>>> + Send {
        Connection::transaction(self)
    }
}

impl private::Sealed for Transaction<'_> {
    fn session(&self) -> &Connection {
        self
    }

    fn begin(&mut self) -> impl Future<Output = crate::Result<Transaction<'_>>> + Send {
        self.savepoint()
    }
}

/// For [`Connection`], [`Pooled`] and [`Transaction`].
impl<C: private::Sealed> GenericClient for C {
    async fn execute<T>(&self, statement: &T, parameters: &[Parameter<'_>]) -> Result<u64, DriverError>
    where
        T: ?Sized + ToStatement + Sync + Send,
    {
        let Connection { inner } = self.session();
        let call = || inner.client.execute(statement, parameters);
        self.session().driven(call, |affected| Some(*affected)).await
    }

    async fn execute_raw<T, P, I>(&self, statement: &T, parameters: I) -> Result<u64, DriverError>
    where
        T: ?Sized + ToStatement + Sync + Send,
        P: BorrowToSql,
        I: IntoIterator<Item = P> + Sync + Send,
        I::IntoIter: ExactSizeIterator,
    {
        let Connection { inner } = self.session();
        let call = || inner.client.execute_raw(statement, parameters);
        self.session().driven(call, |affected| Some(*affected)).await
    }

    async fn query<T>(&self, statement: &T, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, DriverError>
    where
        T: ?Sized + ToStatement + Sync + Send,
    {
        let Connection { inner } = self.session();
        let call = || inner.client.query(statement, parameters);
        self.session().driven(call, |rows| Some(rows.len() as u64)).await
    }

    async fn query_one<T>(&self, statement: &T, parameters: &[Parameter<'_>]) -> Result<Row, DriverError>
    where
        T: ?Sized + ToStatement + Sync + Send,
    {
        let Connection { inner } = self.session();
        let call = || inner.client.query_one(statement, parameters);
        self.session().driven(call, |_| Some(1)).await
    }

    async fn query_opt<T>(&self, statement: &T, parameters: &[Parameter<'_>]) -> Result<Option<Row>, DriverError>
    where
        T: ?Sized + ToStatement + Sync + Send,
    {
        let Connection { inner } = self.session();
        let call = || inner.client.query_opt(statement, parameters);
        self.session().driven(call, |row| Some(row.iter().count() as u64)).await
    }

    async fn query_raw<T, P, I>(&self, statement: &T, parameters: I) -> Result<RowStream, DriverError>
    where
        T: ?Sized + ToStatement + Sync + Send,
        P: BorrowToSql,
        I: IntoIterator<Item = P> + Sync + Send,
        I::IntoIter: ExactSizeIterator,
    {
        let Connection { inner } = self.session();
        let call = || inner.client.query_raw(statement, parameters);
        self.session().driven(call, |_| None).await
    }

    async fn prepare_typed(&self, sql: &str, types: &[Type]) -> Result<Statement, DriverError> {
        let session = self.session();
        let prepared = session.prepare_typed(sql, types).await;
        let Prepared {
            statement,
            effects,
            key,
        } = prepared.map_err(Failed::into_driver)?;
        // The call that runs it does not show its text.
        session.expect(effects);
        session.inner.announced.put(key);
        Ok(statement)
    }

    async fn transaction(&mut self) -> Result<Transaction<'_>, DriverError> {
        let begun = self.begin().await;
        begun.map_err(|error| Failed::from(error).into_driver())
    }

    async fn batch_execute(&self, sql: &str) -> Result<(), DriverError> {
        let session = self.session();
        let done = session.simple(sql, SideEffects::of(sql), || session.inner.client.batch_execute(sql));
        done.await.map_err(Failed::into_driver)
    }

    async fn simple_query(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, DriverError> {
        let session = self.session();
        let done = session.simple(sql, SideEffects::of(sql), || session.inner.client.simple_query(sql));
        done.await.map_err(Failed::into_driver)
    }
}
