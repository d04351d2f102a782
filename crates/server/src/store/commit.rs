//! Statements that change keys: fence, one commit, release. Invariant: a statement is sent only while the fence outlasts
//! it, and nobody is told of a write before its keys are released.

use std::{mem, time::Duration};

use cenote_cache::{
    cache::Cache,
    fenced::{Coherence, Fenced, NotFenced},
};
use cenote_postgres::{
    AcquireError, Error, Pool,
    tokio_postgres::{Row, types::ToSql},
};
use tokio::time::Instant;

use super::origin::Values;

/// Why a write was not made, or is not known to be.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum WriteError {
    #[error(transparent)]
    Database(#[from] Error),
    /// Nothing was sent.
    #[error(transparent)]
    NotFenced(#[from] NotFenced),
}

impl From<AcquireError> for WriteError {
    fn from(error: AcquireError) -> Self {
        Self::Database(error.into())
    }
}

/// Sends statements that change keys.
#[derive(Clone)]
pub(super) struct Committer {
    pub(super) pool: Pool,
    /// None where nothing is cached.
    pub(super) cache: Option<Cache<Values>>,
    /// After what time the server itself ends a statement.
    pub(super) deadline: Duration,
}

/// A statement that changes some keys, and is a commit of its own.
pub(super) struct Statement<'a> {
    pub(super) keys: &'a [&'a str],
    pub(super) sql: &'a str,
    pub(super) parameters: &'a [&'a (dyn ToSql + Sync)],
}

impl Committer {
    /// Sends a statement, again if it certainly had no effect and that may pass, and returns its rows. Its caller has
    /// waited so long already.
    ///
    /// # Cancel safety
    ///
    /// After a drop the outcome is unknown, and the keys stay out of the cache until it is certain.
    pub(super) async fn commit(
        &self,
        statement: &Statement<'_>,
        waited: Duration,
    ) -> Result<(Vec<Row>, Coherence), WriteError> {
        let tried = self.pool.retry(|| async {
            match self.attempt(statement, waited).await {
                Ok(done) => Ok(Ok(done)),
                Err(WriteError::NotFenced(error)) => Ok(Err(error)),
                Err(WriteError::Database(error)) => Err(error),
            }
        });
        Ok(tried.await??)
    }

    async fn attempt(
        &self,
        statement: &Statement<'_>,
        waited: Duration,
    ) -> Result<(Vec<Row>, Coherence), WriteError> {
        let Some(cache) = &self.cache else {
            let connection = self.pool.get_after(waited).await?;
            let rows = connection
                .query(statement.sql, statement.parameters)
                .await?;
            return Ok((rows, Coherence::Settled));
        };
        let started = Instant::now();
        let mut fenced = cache.fence(statement.keys).await?;
        let waited = waited + started.elapsed();
        match self.send(cache, &mut fenced, statement, waited).await {
            // Unreleased: it may still happen.
            Err(WriteError::Database(error)) if error.is_outcome_unknown() => Err(error.into()),
            Err(error) => {
                let _nothing_was_written = fenced.release().await;
                Err(error)
            }
            Ok(rows) => Ok((rows, fenced.release().await)),
        }
    }

    async fn send(
        &self,
        cache: &Cache<Values>,
        fenced: &mut Fenced,
        statement: &Statement<'_>,
        waited: Duration,
    ) -> Result<Vec<Row>, WriteError> {
        let connection = self.pool.get_after(waited).await?;
        // The wait for the connection may have taken what the statement needs.
        while !fenced.fits(self.deadline) {
            let expiring = mem::replace(fenced, cache.fence(statement.keys).await?);
            let _nothing_was_written = expiring.release().await;
        }
        Ok(connection
            .query(statement.sql, statement.parameters)
            .await?)
    }
}
