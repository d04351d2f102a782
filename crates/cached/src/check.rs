//! Tries everything that the cache needs. Invariant: when this succeeds, nothing is missing of what a read needs.

use cenote_cache::check_redis;

use crate::{cached::Cached, database::DatabaseError};

/// What the cache needs and lacks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError<E: DatabaseError> {
    /// Redis cannot be reached or used.
    #[error(transparent)]
    Redis(#[from] cenote_cache::CheckError),
    /// The row of the epoch cannot be read. Was [`install`](crate::install) run?
    #[error("the table cache_epoch cannot be used: {0}; run cenote_cached::install, or its MIGRATION")]
    Epoch(E),
    /// This role may read the row of the epoch, and not change it.
    #[error("this role may not change the table cache_epoch: it needs SELECT, INSERT and UPDATE")]
    EpochRights,
    /// The rows of a table cannot be read.
    #[error(transparent)]
    Table(#[from] TableProblem<E>),
}

/// A table whose rows cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the rows of {name} cannot be read: {error}")]
pub struct TableProblem<E: DatabaseError> {
    /// The name of the table in the cache.
    pub name: String,
    /// The database's error.
    pub error: E,
}

impl<E: DatabaseError> Cached<E> {
    /// Tries Redis with everything that the mode does, the row of the epoch, and the statement of each table declared so far.
    /// For the start of a program, or its `--check`.
    ///
    /// # Errors
    ///
    /// The first that is missing.
    ///
    /// # Cancel safety
    ///
    /// Nothing continues after a drop. A cell may be left in Redis for a second.
    pub async fn check(&self) -> Result<(), CheckError<E>> {
        check_redis(self.mode()).await?;
        if self.has_epochs() {
            self.epoch().row().await.map_err(CheckError::Epoch)?;
            if !self.epoch().may_change().await.map_err(CheckError::Epoch)? {
                return Err(CheckError::EpochRights);
            }
        }
        for (name, table) in self.tables() {
            table.check().await.map_err(|error| TableProblem { name, error })?;
        }
        Ok(())
    }
}
