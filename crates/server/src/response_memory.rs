//! Bounds the memory that responses take (`HTTP_ANSWER_MEMORY`).
//!
//! Invariant: the bytes of a large response are claimed before its values are loaded, or as soon as its size is known. They
//! are released when the kernel has taken the last byte, or when the client has gone.
//!
//! Small responses claim nothing: the limit of connections bounds their number, and they fit into the kernel's buffers.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// A response of up to this many bytes claims nothing. A larger value is [loaded separately](crate::store), after its
/// memory was claimed.
pub(crate) const SMALL: usize = 32 * 1024;

/// How long a claim waits.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(5);
/// Memory is counted in units of this many bytes, because a semaphore has at most `u32::MAX` permits.
const UNIT: usize = 1024;

/// The memory of responses, for all cores together.
#[derive(Clone, Debug)]
pub(crate) struct ResponseMemory {
    /// For responses that are being built or sent. A slow client may keep its part for long.
    pub(crate) responses: Budget,
    /// For the values of many keys while they are looked up. Clients cannot slow this down, so it has its own budget.
    pub(crate) look_ups: Budget,
}

impl ResponseMemory {
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            responses: Budget::new(bytes),
            look_ups: Budget::new(bytes),
        }
    }

    /// Returns the claimed bytes.
    pub(crate) fn claimed(&self) -> usize {
        self.responses.claimed() + self.look_ups.claimed()
    }
}

/// A number of bytes. Claims are granted in the order of their requests.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    free: Arc<Semaphore>,
    /// All units, free or claimed.
    total: u32,
}

/// A claim was not granted in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRoom {
    pub(crate) waited: Duration,
}

impl Budget {
    fn new(bytes: usize) -> Self {
        let total = units(bytes);
        Self {
            free: Arc::new(Semaphore::new(total as usize)),
            total,
        }
    }

    /// Returns the size of the budget in bytes, claimed or not.
    pub(crate) fn bytes(&self) -> usize {
        self.total as usize * UNIT
    }

    fn claimed(&self) -> usize {
        (self.total as usize).saturating_sub(self.free.available_permits()) * UNIT
    }

    /// Claims this number of bytes, or the whole budget if it is smaller. Waits for at most five seconds.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is claimed. The place in the queue is lost.
    pub(crate) async fn claim(&self, bytes: usize) -> Result<Claim, NoRoom> {
        let waited = CLAIM_TIMEOUT;
        let claim = self.free.clone().acquire_many_owned(self.units(bytes));
        match timeout(waited, claim).await {
            // The semaphore is never closed.
            Ok(Ok(permit)) => Ok(Claim(permit)),
            Ok(Err(_)) | Err(_) => Err(NoRoom { waited }),
        }
    }

    /// Like [`Budget::claim`], without waiting.
    pub(crate) fn try_claim(&self, bytes: usize) -> Option<Claim> {
        let claim = self.free.clone().try_acquire_many_owned(self.units(bytes));
        claim.ok().map(Claim)
    }

    /// Attaches a claim to a finished response body if it is large: the given claim if it is large enough, otherwise a new
    /// one. Returns `None` if there is no room now. Then claim the body's length and build the body again.
    pub(crate) fn hold(&self, body: Vec<u8>, claim: Option<Claim>) -> Option<Bytes> {
        if body.len() <= SMALL {
            return Some(body.into());
        }
        let needed = self.units(body.len()) as usize;
        let claim = claim.filter(|claim| claim.0.num_permits() >= needed);
        let claim = claim.or_else(|| self.try_claim(body.len()))?;
        Some(claim.hold(body))
    }

    fn units(&self, bytes: usize) -> u32 {
        units(bytes).min(self.total)
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

/// Claimed bytes. Dropping it releases them.
#[derive(Debug)]
pub(crate) struct Claim(OwnedSemaphorePermit);

impl Claim {
    pub(crate) fn bytes(&self) -> usize {
        self.0.num_permits() * UNIT
    }

    /// Attaches the claim to a response body: releases what the body does not need now, and the rest when the last of its
    /// bytes is dropped.
    pub(crate) fn hold(mut self, body: Vec<u8>) -> Bytes {
        let unused = self.0.num_permits().saturating_sub(body.len().div_ceil(UNIT));
        drop(self.0.split(unused));
        Bytes::from_owner(ClaimedBody { body, _claim: self })
    }
}

struct ClaimedBody {
    body: Vec<u8>,
    _claim: Claim,
}

impl AsRef<[u8]> for ClaimedBody {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_claim_waits_for_earlier_ones_and_times_out() {
        let budget = Budget::new(10 * UNIT);
        let first = budget.claim(6 * UNIT).await.unwrap();
        assert!(budget.try_claim(5 * UNIT).is_none());
        let waited = CLAIM_TIMEOUT;
        assert_eq!(budget.claim(5 * UNIT).await.unwrap_err(), NoRoom { waited });
        let (second, ()) = tokio::join!(budget.claim(5 * UNIT), async { drop(first) });
        drop(second.unwrap());
        let all = budget.claim(1000 * UNIT).await.unwrap().bytes();
        assert_eq!(all, 10 * UNIT, "a claim above the budget takes all of it");
    }

    #[tokio::test]
    async fn a_response_holds_what_it_needs_until_its_last_byte_is_gone() {
        let budget = Budget::new(10 * UNIT);
        let mut body = budget.claim(10 * UNIT).await.unwrap().hold(vec![0; 3 * UNIT]);
        assert_eq!((budget.free.available_permits(), budget.claimed()), (7, 3 * UNIT));
        let part = body.split_to(10);
        drop(body);
        assert_eq!(budget.free.available_permits(), 7);
        drop(part);
        assert_eq!(budget.free.available_permits(), 10);
    }
}
