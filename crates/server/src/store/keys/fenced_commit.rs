//! Runs a statement that changes keys: fence the keys in the cache, commit, release the fences.
//!
//! Invariant: a statement is sent only while the fences outlast it, and no caller learns of its commit before the keys are
//! released.
//!
//! The connection is held for the commit and, before it, for one round trip to Redis. A change that must wait longer for
//! Redis waits without a connection, in [`Keys::change`](super::Keys::change).

use std::{mem, time::Duration};

use cenote_cache::{Cache, Coherence, Fenced};
use cenote_postgres::{
    Connection,
    tokio_postgres::{Row, types::ToSql},
};
use tokio::sync::watch;

use super::{change::WriteError, values::Values};

/// Runs statements that change keys.
#[derive(Clone)]
pub(super) struct FencedCommit {
    /// `None` where nothing is cached.
    pub(super) cache: Option<Cache<Values>>,
    /// After this time the server itself ends a statement (`statement_timeout`).
    pub(super) statement_timeout: Duration,
}

/// A statement that changes some keys, and is a commit by itself.
pub(super) struct FencedStatement<'a> {
    pub(super) keys: &'a [&'a str],
    pub(super) sql: &'a str,
    pub(super) parameters: &'a [&'a (dyn ToSql + Sync)],
}

/// The release of a commit's keys, finished or in progress. Clones share it.
#[derive(Clone)]
pub(super) struct Release(Option<watch::Receiver<Option<Coherence>>>);

impl Release {
    /// Releases the keys in a task, whether or not anyone waits for it.
    fn spawn(fenced: Fenced) -> Self {
        let (released, release) = watch::channel(None);
        tokio::spawn(async move { released.send_replace(Some(fenced.release().await)) });
        Self(Some(release))
    }

    /// Waits until the keys are released, or until that takes too long.
    pub(super) async fn coherence(self) -> Coherence {
        match self.0 {
            None => Coherence::Settled,
            Some(mut release) => match release.wait_for(Option::is_some).await {
                Ok(released) => released.unwrap_or(Coherence::Pending),
                // The runtime is shutting down: nobody knows whether Redis was told.
                Err(_) => Coherence::Pending,
            },
        }
    }
}

impl FencedCommit {
    /// Sends a statement and returns its rows. If Redis does not answer, it does not wait, and the keys are not fenced.
    ///
    /// # Cancel safety
    ///
    /// If dropped, the outcome is unknown. The fences then stay until they expire, which is after the statement ended.
    pub(super) async fn run(
        &self,
        connection: &Connection,
        statement: &FencedStatement<'_>,
    ) -> Result<(Vec<Row>, Release), WriteError> {
        let FencedStatement { keys, sql, parameters } = statement;
        let Some(cache) = &self.cache else {
            return Ok((connection.query(sql, parameters).await?, Release(None)));
        };
        let mut fenced = cache.fence_now(keys).await?;
        // Fencing may have taken so much of the fences' lifetime that the statement could outlive them. Fence again.
        while !fenced.fits(self.statement_timeout) {
            let _nothing_was_written = Release::spawn(mem::replace(&mut fenced, cache.fence_now(keys).await?));
        }
        match connection.query(sql, parameters).await {
            // Not released: the statement may still commit.
            Err(error) if error.is_outcome_unknown() => Err(error.into()),
            Err(error) => {
                let _nothing_was_written = Release::spawn(fenced);
                Err(error.into())
            }
            Ok(rows) => Ok((rows, Release::spawn(fenced))),
        }
    }
}
