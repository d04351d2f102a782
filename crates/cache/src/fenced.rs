//! A write between its announcement and its acknowledgement. Invariant: from before the write commits until after, no
//! cache stores a value for any of its keys.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    clock,
    modes::{cache_aside::CacheAside, local::Local, redis_writes::RedisFence},
    protocol::time::Term,
    write_outcome::Coherence,
};

/// Keys that are fenced: no cache stores a value for them, so that they can be written.
///
/// Commit while [`fits`](Self::fits) says so, then [`release`](Self::release), then acknowledge. If the outcome of the
/// commit is unknown, drop this without releasing it: reads of the keys then go to the database until the fence expires,
/// and by then the commit can no longer happen.
#[must_use = "without a release, reads of the keys go to the database until the fence expires"]
pub struct Fenced {
    keys: Vec<Box<str>>,
    hold: Hold,
    is_released: bool,
}

/// What keeps the keys out of the cache.
pub(crate) enum Hold {
    /// Nothing: the mode caches nothing.
    Nothing,
    /// Fences in the near cache, which end with the term.
    Local(Arc<Local>, Term),
    /// An epoch, with fences in Redis if it trusts one.
    Redis(RedisFence),
    /// Nothing: a cache-aside deletes the keys after the commit.
    CacheAside(Arc<CacheAside>),
}

impl Fenced {
    pub(crate) fn new(keys: &[&str], hold: Hold) -> Self {
        Self {
            keys: keys.iter().map(|key| Box::from(*key)).collect(),
            hold,
            is_released: false,
        }
    }

    /// Whether a commit that the database cuts off after `deadline` may be sent now: it ends while the fences stand and
    /// the epoch may be acted on. If not, drop this and fence again.
    #[must_use]
    pub fn fits(&self, deadline: Duration) -> bool {
        deadline <= self.time_left()
    }

    /// The time left for the commit; zero when it may no longer be sent.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        let now = clock::now();
        match &self.hold {
            Hold::Nothing | Hold::CacheAside(_) => Duration::MAX,
            Hold::Local(_, term) => term.remaining(now),
            Hold::Redis(fence) => fence.time_left(now),
        }
    }

    /// Ends the fence. To be called when the commit is done or has failed for certain; then the write may be answered.
    ///
    /// Waits until Redis has been told or the epoch is over, at most for
    /// [`write_patience`](crate::Config::write_patience).
    ///
    /// # Cancel safety
    /// Dropping the future is like dropping the `Fenced`: the fences stand until they expire.
    pub async fn release(mut self) -> Coherence {
        let keys: Vec<&str> = self.keys.iter().map(|key| &**key).collect();
        let coherence = match &self.hold {
            Hold::Nothing => Coherence::Settled,
            Hold::Local(local, _) => {
                for key in &keys {
                    local.near.release(key);
                }
                Coherence::Settled
            }
            Hold::Redis(fence) => fence.release(&keys).await,
            Hold::CacheAside(aside) => {
                // This mode promises nothing if the delete fails.
                let _ = aside.delete(&keys).await;
                Coherence::Settled
            }
        };
        self.is_released = true;
        coherence
    }
}

impl Drop for Fenced {
    fn drop(&mut self) {
        // Fences in Redis expire by themselves; those of this process are counts that somebody must take back.
        if let (Hold::Local(local, term), false) = (&self.hold, self.is_released) {
            let now = clock::now();
            for key in &self.keys {
                local.near.abandon(key, *term, now);
            }
        }
    }
}

impl fmt::Debug for Fenced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fenced")
            .field("keys", &self.keys)
            .field("time_left", &self.time_left())
            .finish_non_exhaustive()
    }
}
