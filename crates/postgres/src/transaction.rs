//! Transactions. Invariant: one that ends in any way but a successful [`Transaction::commit`] is
//! rolled back before anything else runs on its connection.

use std::ops::Deref;

use crate::{Connection, Error, Result};

/// A transaction. Dropping it rolls it back.
///
/// All commands of a [`Connection`] run inside it.
#[derive(Debug)]
#[must_use = "a transaction that is dropped is rolled back"]
pub struct Transaction<'a> {
    connection: &'a mut Connection,
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
        // The server answers a commit of a failed transaction with a rollback and no error.
        if self.connection.is_failed().await {
            self.rollback().await?;
            return Err(Error::RolledBack);
        }
        self.ended = true;
        self.connection.batch_execute("COMMIT").await
    }

    /// Undoes what was done. Dropping does the same, without waiting for it.
    ///
    /// # Errors
    ///
    /// See [`Error`]; whatever it is, nothing was committed.
    pub async fn rollback(mut self) -> Result<()> {
        self.ended = true;
        self.connection.batch_execute("ROLLBACK").await
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
