//! Transactions and savepoints. Invariant: unless it ends with a successful [`Transaction::commit`], a transaction is
//! rolled back before anything else runs on its connection.

use std::{
    borrow::Cow,
    ops::{Deref, DerefMut},
    time::Duration,
};

use tokio_postgres::error::SqlState;

use super::{connection::Connection, manager::OwnedPooled};
use crate::{Error, Result, last_failure, tap::TransactionStatus};

/// A transaction, or a savepoint in one. Dropping it rolls it back.
///
/// It can be used like a [`Connection`]; all commands run inside the transaction.
#[derive(Debug)]
#[must_use = "a transaction that is dropped is rolled back"]
pub struct Transaction<'a> {
    connection: ConnectionRef<'a>,
    /// The number of transactions around this one. Above zero it is a savepoint.
    depth: u32,
    /// The server has confirmed the end, so there is nothing to roll back.
    ended: bool,
    /// The command timeout at its beginning, which it leaves behind.
    limit_before: Option<Duration>,
}

/// The options of a transaction. The default is that of the database.
///
/// ```no_run
/// use cenote_postgres::{Isolation, TransactionOptions};
///
/// # async fn example(pool: &cenote_postgres::Pool) -> cenote_postgres::Result<()> {
/// let report = TransactionOptions {
///     isolation: Some(Isolation::Serializable),
///     read_only: true,
///     deferrable: true,
/// };
/// let mut connection = pool.get().await?;
/// let transaction = connection.transaction_with(report).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransactionOptions {
    /// Which changes of other transactions it sees. `None`: the default of the database.
    pub isolation: Option<Isolation>,
    /// It cannot change data.
    pub read_only: bool,
    /// If it is serializable and read-only, it may wait at its beginning, and is then never aborted by a conflict.
    pub deferrable: bool,
}

/// Which changes of other transactions a transaction sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isolation {
    /// Each statement sees what was committed before the statement began.
    ReadCommitted,
    /// All statements see what was committed before the first statement began.
    RepeatableRead,
    /// As if transactions ran one after the other. One for which that is impossible fails with SQLSTATE 40001.
    Serializable,
}

impl TransactionOptions {
    fn begin(self) -> String {
        let mut begin = String::from("BEGIN");
        begin += match self.isolation {
            None => "",
            Some(Isolation::ReadCommitted) => " ISOLATION LEVEL READ COMMITTED",
            Some(Isolation::RepeatableRead) => " ISOLATION LEVEL REPEATABLE READ",
            Some(Isolation::Serializable) => " ISOLATION LEVEL SERIALIZABLE",
        };
        if self.read_only {
            begin += " READ ONLY";
        }
        if self.deferrable {
            begin += " DEFERRABLE";
        }
        begin
    }
}

/// The connection of a transaction.
#[derive(Debug)]
pub(crate) enum ConnectionRef<'a> {
    Borrowed(&'a mut Connection),
    Owned(OwnedPooled),
}

impl<'a> From<&'a mut Connection> for ConnectionRef<'a> {
    fn from(connection: &'a mut Connection) -> Self {
        Self::Borrowed(connection)
    }
}

impl Connection {
    /// Begins a transaction, which is rolled back unless it is committed.
    ///
    /// # Errors
    ///
    /// See [`Error`]. After an error no transaction is open.
    ///
    /// # Cancel safety
    ///
    /// Safe: a dropped future leaves no transaction open.
    pub async fn transaction(&mut self) -> Result<Transaction<'_>> {
        self.transaction_with(TransactionOptions::default()).await
    }

    /// Like [`transaction`](Self::transaction), with explicit options.
    ///
    /// # Errors
    ///
    /// Those of [`transaction`](Self::transaction).
    pub async fn transaction_with(&mut self, options: TransactionOptions) -> Result<Transaction<'_>> {
        Transaction::begin(self.into(), options).await
    }
}

impl<'a> Transaction<'a> {
    pub(crate) async fn begin(connection: ConnectionRef<'a>, options: TransactionOptions) -> Result<Self> {
        Self::enter(connection, 0, &options.begin()).await
    }

    async fn enter(connection: ConnectionRef<'a>, depth: u32, begin: &str) -> Result<Self> {
        // The guard exists before the command is sent, so that a dropped future rolls back.
        let transaction = Self {
            limit_before: connection.command_timeout(),
            connection,
            depth,
            ended: false,
        };
        match transaction.control(begin).await {
            Ok(()) => Ok(transaction),
            // If BEGIN was not answered, the transaction did nothing.
            Err(Error::Lost { cause }) => {
                let error = Error::Disconnected { cause };
                last_failure::note(Some(&error));
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Sets a savepoint: a part of the transaction that can be rolled back alone.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    ///
    /// # Cancel safety
    ///
    /// Safe: a dropped future leaves no savepoint. If an earlier command of this transaction timed out, the transaction
    /// may have failed.
    pub async fn savepoint(&mut self) -> Result<Transaction<'_>> {
        let depth = self.depth + 1;
        let set = format!("SAVEPOINT {}", name(depth));
        let connection: &mut Connection = &mut self.connection;
        Transaction::enter(connection.into(), depth, &set).await
    }

    /// Commits the transaction. A savepoint becomes a part of the transaction around it.
    ///
    /// # Errors
    ///
    /// [`Error::RolledBack`] if an earlier statement failed; otherwise see [`Error`]. If [`Error::is_outcome_unknown`],
    /// the transaction may have been committed.
    pub async fn commit(mut self) -> Result<()> {
        // The server answers COMMIT in a failed transaction with ROLLBACK and no error. While a statement still runs,
        // the transaction may yet fail: then COMMIT is sent behind a query, which a failed transaction refuses together
        // with everything after it.
        let status = self.connection.transaction_status().await;
        if status == Some(TransactionStatus::Failed) {
            // Even if the rollback fails, nothing is committed.
            let _rolled_back = self.rollback().await;
            return Err(Error::RolledBack);
        }
        let certain = self.depth == 0 && status.is_some();
        let answer = match self.depth {
            0 if certain => self.control("COMMIT").await,
            0 => self.control("SELECT 1; COMMIT").await,
            depth => {
                let release = format!("RELEASE SAVEPOINT {}", name(depth));
                self.control(&release).await
            }
        };
        self.ended = match &answer {
            Ok(()) => true,
            // A refused commit ends the transaction too.
            Err(Error::Database(_)) => certain,
            Err(_) => false,
        };
        match answer {
            Err(error) if error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION) => Err(Error::RolledBack),
            answer => answer,
        }
    }

    /// Rolls back. Dropping the transaction does the same without waiting.
    ///
    /// # Errors
    ///
    /// See [`Error`]. Even then nothing was committed.
    pub async fn rollback(mut self) -> Result<()> {
        let answer = self.control(&self.undo()).await;
        self.ended = answer.is_ok();
        answer
    }

    fn undo(&self) -> Cow<'static, str> {
        match self.depth {
            0 => "ROLLBACK".into(),
            depth => {
                let name = name(depth);
                format!("ROLLBACK TO SAVEPOINT {name}; RELEASE SAVEPOINT {name}").into()
            }
        }
    }
}

/// Returns the name of a savepoint. A later one of the same depth may reuse it: the earlier one has ended then.
fn name(depth: u32) -> String {
    format!("cenote_{depth}")
}

impl Deref for ConnectionRef<'_> {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        match self {
            Self::Borrowed(connection) => connection,
            Self::Owned(connection) => connection,
        }
    }
}

impl DerefMut for ConnectionRef<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        match self {
            Self::Borrowed(connection) => connection,
            Self::Owned(connection) => connection,
        }
    }
}

impl Deref for Transaction<'_> {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.connection.send(&self.undo());
        }
        self.connection.set_command_timeout(self.limit_before);
    }
}
