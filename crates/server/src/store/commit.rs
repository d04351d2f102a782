//! Statements that change keys: fence, one commit, release. Invariant: a statement is sent only while the fence outlasts
//! it, and nobody is told of a write before its keys are released. The connection is held for the commit and, before it,
//! for one round trip to Redis; who has to wait for Redis longer than that waits without one.

use std::{mem, time::Duration};

use cenote_cache::{
    cache::Cache,
    fenced::{Coherence, Fenced, NotFenced},
};
use cenote_postgres::{
    AcquireError, Connection, Error,
    tokio_postgres::{Row, types::ToSql},
};
use tokio::sync::watch;

use super::origin::Values;

/// Why a write was not made, or is not known to be.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum WriteError {
    #[error(transparent)]
    Database(#[from] Error),
    /// Nothing was sent.
    #[error(transparent)]
    NotFenced(#[from] NotFenced),
    /// The database is a standby; nothing was sent.
    #[error("the database is a standby, which accepts no writes")]
    Standby,
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

/// How the keys of a commit stand: released, or on their way to it. Clones tell the same.
#[derive(Clone)]
pub(super) struct Release(Option<watch::Receiver<Option<Coherence>>>);

impl Release {
    /// Has the keys released, whether anybody waits for that or not.
    fn of(fenced: Fenced) -> Self {
        let (released, release) = watch::channel(None);
        tokio::spawn(async move { released.send_replace(Some(fenced.release().await)) });
        Self(Some(release))
    }

    /// What it has come to.
    pub(super) async fn coherence(self) -> Coherence {
        match self.0 {
            None => Coherence::Settled,
            Some(mut release) => match release.wait_for(Option::is_some).await {
                Ok(released) => released.unwrap_or(Coherence::Pending),
                Err(_) => Coherence::Pending,
            },
        }
    }
}

impl Committer {
    /// Sends a statement, and returns its rows. Does not wait for Redis to come back: then the keys are not fenced.
    ///
    /// # Cancel safety
    ///
    /// After a drop the outcome is unknown, and the keys stay out of the cache until it is certain.
    pub(super) async fn commit(
        &self,
        connection: &Connection,
        statement: &Statement<'_>,
    ) -> Result<(Vec<Row>, Release), WriteError> {
        let Statement { keys, sql, parameters } = statement;
        let Some(cache) = &self.cache else {
            return Ok((connection.query(sql, parameters).await?, Release(None)));
        };
        let mut fenced = cache.fence_now(keys).await?;
        // Putting it up may have taken what the statement needs.
        while !fenced.fits(self.deadline) {
            let _nothing_was_written = Release::of(mem::replace(&mut fenced, cache.fence_now(keys).await?));
        }
        match connection.query(sql, parameters).await {
            // Unreleased: it may still happen.
            Err(error) if error.is_outcome_unknown() => Err(error.into()),
            Err(error) => {
                let _nothing_was_written = Release::of(fenced);
                Err(error.into())
            }
            Ok(rows) => Ok((rows, Release::of(fenced))),
        }
    }
}
