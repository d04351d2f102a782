//! Transactions. Invariant: one that ends in any way but a successful [`Transaction::commit`] is
//! rolled back before anything else runs on its connection.

use std::ops::Deref;

use tokio_postgres::error::SqlState;

use crate::{Connection, Error, Result, tap::Transaction as Standing};

/// A transaction. Dropping it rolls it back.
///
/// All commands of a [`Connection`] run inside it.
#[derive(Debug)]
#[must_use = "a transaction that is dropped is rolled back"]
pub struct Transaction<'a> {
    connection: &'a mut Connection,
    /// The server has confirmed the end.
    ended: bool,
}

impl<'a> Transaction<'a> {
    pub(crate) async fn begin(connection: &'a mut Connection) -> Result<Self> {
        // The guard exists before the command is sent: a begin that is dropped is rolled back.
        let transaction = Self {
            connection,
            ended: false,
        };
        transaction.connection.batch_execute("BEGIN").await?;
        Ok(transaction)
    }

    /// Makes what was done permanent.
    ///
    /// # Errors
    ///
    /// [`Error::RolledBack`] if an earlier statement failed; otherwise see [`Error`]. When
    /// [`Error::is_outcome_unknown`] says so the transaction may have been committed.
    pub async fn commit(mut self) -> Result<()> {
        // The server answers a commit of a failed transaction with a rollback and no error. Where a
        // statement is still running it may yet fail: then the commit goes behind a query, which a
        // failed transaction refuses, and with it what follows.
        let (commit, certain) = match self.connection.standing().await {
            Some(Standing::Failed) => {
                // Whatever becomes of the rollback, nothing is committed.
                let _rolled_back = self.rollback().await;
                return Err(Error::RolledBack);
            }
            Some(_) => ("COMMIT", true),
            None => ("SELECT 1; COMMIT", false),
        };
        let answer = self.connection.batch_execute(commit).await;
        self.ended = match &answer {
            Ok(()) => true,
            // A commit that is refused ends the transaction all the same.
            Err(Error::Database(_)) => certain,
            Err(_) => false,
        };
        match answer {
            Err(error) if error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION) => {
                Err(Error::RolledBack)
            }
            answer => answer,
        }
    }

    /// Undoes what was done. Dropping does the same, without waiting for it.
    ///
    /// # Errors
    ///
    /// See [`Error`]; whatever it is, nothing was committed.
    pub async fn rollback(mut self) -> Result<()> {
        let answer = self.connection.batch_execute("ROLLBACK").await;
        self.ended = answer.is_ok();
        answer
    }
}

impl Deref for Transaction<'_> {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        self.connection
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.connection.send("ROLLBACK");
        }
    }
}
