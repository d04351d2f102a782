//! Commits behind fences. Invariant: the keys are fenced while the commit is sent, and no caller learns of a commit before its
//! keys are released.

use std::time::Duration;

use cenote_cache::{Cache, Coherence, Fenced, NotFenced, Origin};

use crate::{cached::Cached, database::DatabaseError, release::Release, touched::Touched};

/// A write that has committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a pending write must not be acknowledged as if it were settled"]
pub struct Committed<T> {
    /// What the work returned.
    pub output: T,
    /// Whether every read that begins from now on sees the write.
    pub coherence: Coherence,
}

/// Why a write did not commit, or why that is not known.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError<E> {
    /// Nothing was committed.
    #[error("nothing was committed: {0}")]
    NotCommitted(E),
    /// The keys could not be fenced in the cache; nothing was committed. Try again.
    #[error(transparent)]
    NotFenced(#[from] NotFenced),
    /// The commit was not answered: it may have taken effect, or may yet. Reads of the keys go to the database until the
    /// fences expire.
    #[error("the commit was not answered and may have taken effect: {0}")]
    Unknown(E),
}

impl<E> WriteError<E> {
    /// Whether the write may have taken effect although it did not succeed. Find out before you repeat it.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }
}

/// The last statement of a transaction: it does now what a commit would do otherwise, except to make the changes durable. So
/// the commit is short, and deferred constraints are checked while nothing is fenced. No timeout of PostgreSQL ends a commit.
pub const BEFORE_COMMIT: &str = "SET CONSTRAINTS ALL IMMEDIATE";

/// Fences keys at once, with room for a commit that the database cuts off after `deadline`.
pub(crate) async fn fence<O: Origin>(cache: &Cache<O>, keys: &[&str], deadline: Duration) -> Result<Fenced, NotFenced> {
    let mut fenced = cache.fence_now(keys).await?;
    // Fencing may have taken so much of the fences' lifetime that the commit could outlive them.
    while !fenced.fits(deadline) {
        let again = cache.fence_now(keys).await?;
        let _nothing_was_written = Release::spawn(std::mem::replace(&mut fenced, again));
    }
    Ok(fenced)
}

impl<E: DatabaseError> Cached<E> {
    /// Commits a transaction of any driver that changes these keys: fences them, awaits `commit`, and releases them. Call it
    /// after the last statement: the transaction holds its locks for one more round trip to Redis.
    ///
    /// `is_refused` says whether an error of the commit means that nothing was committed, as an error that the server
    /// reported does. If in doubt return false: then the fences stand until they expire, which costs some reads of the
    /// database.
    ///
    /// Run [`BEFORE_COMMIT`] in the transaction first, so that the commit does not outlast the fences.
    ///
    /// # Errors
    ///
    /// See [`WriteError`]. After `NotFenced`, `commit` was dropped before it was polled.
    ///
    /// # Cancel safety
    ///
    /// After a drop the outcome is unknown. The fences stand until they expire.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn commit<T, F>(
        &self,
        touched: &Touched,
        commit: impl Future<Output = Result<T, F>>,
        is_refused: impl FnOnce(&F) -> bool,
    ) -> Result<Committed<T>, WriteError<F>> {
        let keys = touched.texts();
        let fenced = match keys.is_empty() {
            true => None,
            false => Some(fence(self.cache(), &keys, self.commit_deadline()).await?),
        };
        match commit.await {
            Ok(output) => Ok(acknowledge(output, fenced).await),
            Err(error) if is_refused(&error) => {
                let _nothing_was_written = fenced.map(Release::spawn);
                Err(WriteError::NotCommitted(error))
            }
            // Not released: the commit may still take effect.
            Err(error) => Err(WriteError::Unknown(error)),
        }
    }
}

/// Releases the keys of a commit, and returns what its caller may be told.
pub(crate) async fn acknowledge<T>(output: T, fenced: Option<Fenced>) -> Committed<T> {
    let release = fenced.map_or(Release::nothing(), Release::spawn);
    let coherence = release.coherence().await;
    Committed { output, coherence }
}
