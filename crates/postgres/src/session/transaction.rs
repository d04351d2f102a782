//! Transactions. Invariant: one that ends in any way but a successful [`Transaction::commit`] is
//! rolled back before anything else runs on its connection.

use std::{
    borrow::Cow,
    ops::{Deref, DerefMut},
};

use tokio_postgres::error::SqlState;

use super::{connection::Connection, tap::TransactionStatus};
use crate::{Error, Result, manager::OwnedPooled};

/// A transaction, or a savepoint within one. Dropping it rolls it back.
///
/// All commands of a [`Connection`] run inside it.
#[derive(Debug)]
#[must_use = "a transaction that is dropped is rolled back"]
pub struct Transaction<'a> {
    connection: ConnectionRef<'a>,
    /// Transactions around this one; it is a savepoint if there are any.
    depth: u32,
    /// The server has confirmed the end.
    ended: bool,
}

/// What a transaction may do and see. The default is what the database is set to.
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
    /// Which changes of others it sees. `None`: the database's default.
    pub isolation: Option<Isolation>,
    /// It may not change anything.
    pub read_only: bool,
    /// It may wait at its beginning, if it is serializable and read-only, and in return is never aborted by a
    /// conflict.
    pub deferrable: bool,
}

/// Which changes of others a transaction sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Each statement sees what was committed before it.
    ReadCommitted,
    /// All statements see what was committed before the first of them.
    RepeatableRead,
    /// As if no other transaction ran at the same time; one that cannot be kept apart fails with SQLSTATE 40001.
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

/// The connection a transaction runs on.
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
    /// Begins a transaction that is rolled back unless it is committed.
    ///
    /// # Errors
    ///
    /// See [`Error`]; whatever it is, no transaction is left.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves no transaction.
    pub async fn transaction(&mut self) -> Result<Transaction<'_>> {
        self.transaction_with(TransactionOptions::default()).await
    }

    /// As [`transaction`](Self::transaction), with a say in what it may do and see.
    ///
    /// # Errors
    ///
    /// As [`transaction`](Self::transaction).
    pub async fn transaction_with(&mut self, options: TransactionOptions) -> Result<Transaction<'_>> {
        Transaction::begin(self.into(), options).await
    }
}

impl<'a> Transaction<'a> {
    pub(crate) async fn begin(connection: ConnectionRef<'a>, options: TransactionOptions) -> Result<Self> {
        Self::enter(connection, 0, &options.begin()).await
    }

    async fn enter(connection: ConnectionRef<'a>, depth: u32, begin: &str) -> Result<Self> {
        // The guard exists before the command is sent: a begin that is dropped is rolled back.
        let transaction = Self {
            connection,
            depth,
            ended: false,
        };
        match transaction.control(begin).await {
            Ok(()) => Ok(transaction),
            // A transaction whose begin was not answered has no effect.
            Err(Error::Lost { cause }) => Err(Error::Disconnected { cause }),
            Err(error) => Err(error),
        }
    }

    /// Sets a savepoint: a transaction within this one, that can be rolled back without it.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves no savepoint. If an earlier command of this transaction timed out, this one may
    /// have failed by then.
    pub async fn savepoint(&mut self) -> Result<Transaction<'_>> {
        let depth = self.depth + 1;
        let set = format!("SAVEPOINT {}", name(depth));
        let connection: &mut Connection = &mut self.connection;
        Transaction::enter(connection.into(), depth, &set).await
    }

    /// Makes what was done permanent; if this is a savepoint, part of the transaction around it.
    ///
    /// # Errors
    ///
    /// [`Error::RolledBack`] if an earlier statement failed; otherwise see [`Error`]. When
    /// [`Error::is_outcome_unknown`] says so the transaction may have been committed.
    pub async fn commit(mut self) -> Result<()> {
        // The server answers a commit of a failed transaction with a rollback and no error. Where a
        // statement is still running it may yet fail: then the commit goes behind a query, which a
        // failed transaction refuses, and with it what follows.
        let status = self.connection.transaction_status().await;
        if status == Some(TransactionStatus::Failed) {
            // Whatever becomes of the rollback, nothing is committed.
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
            // A commit that is refused ends the transaction all the same.
            Err(Error::Database(_)) => certain,
            Err(_) => false,
        };
        match answer {
            Err(error) if error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION) => Err(Error::RolledBack),
            answer => answer,
        }
    }

    /// Undoes what was done. Dropping does the same, without waiting for it.
    ///
    /// # Errors
    ///
    /// See [`Error`]; whatever it is, nothing was committed.
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

/// A savepoint's name; whoever sets another of that name has left the first.
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
    }
}
