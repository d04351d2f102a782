//! Statements that change keys: fence, one commit, release. Invariant: a statement is sent only while the fence outlasts
//! it, and nobody is told of a write before its keys are released.

use std::{mem, time::Duration};

use cenote_cache::{
    cache::Cache,
    fenced::{Coherence, NotFenced},
};
use cenote_postgres::{
    AcquireError, Connection, Error,
    tokio_postgres::{Row, types::ToSql},
};

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
    /// Sends a statement, and returns its rows.
    ///
    /// # Cancel safety
    ///
    /// After a drop the outcome is unknown, and the keys stay out of the cache until it is certain.
    pub(super) async fn commit(
        &self,
        connection: &Connection,
        statement: &Statement<'_>,
    ) -> Result<(Vec<Row>, Coherence), WriteError> {
        let Statement {
            keys,
            sql,
            parameters,
        } = statement;
        let Some(cache) = &self.cache else {
            return Ok((connection.query(sql, parameters).await?, Coherence::Settled));
        };
        let mut fenced = cache.fence(keys).await?;
        // Putting it up may have taken what the statement needs.
        while !fenced.fits(self.deadline) {
            let expiring = mem::replace(&mut fenced, cache.fence(keys).await?);
            let _nothing_was_written = expiring.release().await;
        }
        match connection.query(sql, parameters).await {
            // Unreleased: it may still happen.
            Err(error) if error.is_outcome_unknown() => Err(error.into()),
            Err(error) => {
                let _nothing_was_written = fenced.release().await;
                Err(error.into())
            }
            Ok(rows) => Ok((rows, fenced.release().await)),
        }
    }
}
