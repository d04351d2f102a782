//! The release of a commit's keys. Invariant: once begun it goes on, whether or not anyone waits for it.

use cenote_cache::{Coherence, Fenced};
use tokio::sync::watch;

/// The release of a commit's keys, finished or in progress. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Release(Option<watch::Receiver<Option<Coherence>>>);

impl Release {
    /// The release of no keys.
    #[must_use]
    pub(crate) const fn nothing() -> Self {
        Self(None)
    }

    /// Releases the keys in a task of the current runtime.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub(crate) fn spawn(fenced: Fenced) -> Self {
        let (released, release) = watch::channel(None);
        tokio::spawn(async move { released.send_replace(Some(fenced.release().await)) });
        Self(Some(release))
    }

    /// Waits until the keys are released, or until that takes too long.
    ///
    /// # Cancel safety
    ///
    /// The release goes on when the future is dropped.
    pub(crate) async fn coherence(self) -> Coherence {
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
