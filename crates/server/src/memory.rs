//! How much memory answers may take. Invariant: the bytes of a large answer are claimed before its values are loaded or as
//! soon as its size is known, and given back when the last of them has been handed to the kernel or the client has gone.
//!
//! Small answers claim nothing: their number is bounded by the connections, and they fit into what the kernel buffers.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// An answer of up to this many bytes claims nothing. A value above that is [loaded by itself](crate::store), once it is claimed.
pub(crate) const SMALL: usize = 32 * 1024;

/// How long a claim is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes that are claimed at a time.
const UNIT: usize = 1024;

/// The memory of answers, on all cores together.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    /// For answers being made or waiting to be taken by their clients, however long that takes.
    pub(crate) answers: Budget,
    /// For values being looked up, many at a time: this turns over quickly, whatever clients do.
    pub(crate) look_ups: Budget,
}

impl Memory {
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            answers: Budget::new(bytes),
            look_ups: Budget::new(bytes),
        }
    }
}

/// A number of bytes. Claims are granted in the order in which they come.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    free: Arc<Semaphore>,
    /// In units.
    whole: u32,
}

/// No room came free in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full {
    pub(crate) waited: Duration,
}

impl Budget {
    fn new(bytes: usize) -> Self {
        let whole = units(bytes);
        Self {
            free: Arc::new(Semaphore::new(whole as usize)),
            whole,
        }
    }

    /// How many bytes there are, claimed or not.
    pub(crate) fn bytes(&self) -> usize {
        self.whole as usize * UNIT
    }

    /// Claims this number of bytes, or all of them if there are fewer.
    ///
    /// # Cancel safety
    ///
    /// Nothing is claimed, and the place in line is lost.
    pub(crate) async fn claim(&self, bytes: usize) -> Result<Claim, Full> {
        let waited = PATIENCE;
        let claim = self.free.clone().acquire_many_owned(self.units(bytes));
        match timeout(waited, claim).await {
            // It is never closed.
            Ok(Ok(permit)) => Ok(Claim(permit)),
            Ok(Err(_)) | Err(_) => Err(Full { waited }),
        }
    }

    /// The same, if it need not be waited for.
    pub(crate) fn try_claim(&self, bytes: usize) -> Option<Claim> {
        let claim = self.free.clone().try_acquire_many_owned(self.units(bytes));
        claim.ok().map(Claim)
    }

    /// A finished answer, with what it has claimed or claims now if it is large; `None` if there is no room for it. Then
    /// claim its length, and make it again.
    pub(crate) fn hold(&self, answer: Vec<u8>, claim: Option<Claim>) -> Option<Bytes> {
        if answer.len() <= SMALL {
            return Some(answer.into());
        }
        let needed = self.units(answer.len()) as usize;
        let claim = claim.filter(|claim| claim.0.num_permits() >= needed);
        let claim = claim.or_else(|| self.try_claim(answer.len()))?;
        Some(claim.hold(answer))
    }

    fn units(&self, bytes: usize) -> u32 {
        units(bytes).min(self.whole)
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

/// Bytes that are claimed, until it is dropped.
#[derive(Debug)]
pub(crate) struct Claim(OwnedSemaphorePermit);

impl Claim {
    pub(crate) fn bytes(&self) -> usize {
        self.0.num_permits() * UNIT
    }

    /// Gives back what an answer of this length does not need, and ends with the last of its bytes.
    pub(crate) fn hold(mut self, answer: Vec<u8>) -> Bytes {
        let unused = self.0.num_permits().saturating_sub(answer.len().div_ceil(UNIT));
        drop(self.0.split(unused));
        Bytes::from_owner(Held { answer, _claim: self })
    }
}

struct Held {
    answer: Vec<u8>,
    _claim: Claim,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_claim_waits_for_the_ones_before_it_and_not_for_ever() {
        let budget = Budget::new(10 * UNIT);
        let first = budget.claim(6 * UNIT).await.unwrap();
        assert!(budget.try_claim(5 * UNIT).is_none());
        let waited = PATIENCE;
        assert_eq!(budget.claim(5 * UNIT).await.unwrap_err(), Full { waited });
        let (second, ()) = tokio::join!(budget.claim(5 * UNIT), async { drop(first) });
        drop(second.unwrap());
        let all = budget.claim(1000 * UNIT).await.unwrap();
        assert_eq!(all.bytes(), 10 * UNIT, "more than there is takes all");
    }

    #[tokio::test]
    async fn an_answer_holds_what_it_needs_until_its_last_byte_is_gone() {
        let budget = Budget::new(10 * UNIT);
        let claim = budget.claim(10 * UNIT).await.unwrap();
        let mut answer = claim.hold(vec![0; 3 * UNIT]);
        assert_eq!(budget.free.available_permits(), 7);
        let part = answer.split_to(10);
        drop(answer);
        assert_eq!(budget.free.available_permits(), 7);
        drop(part);
        assert_eq!(budget.free.available_permits(), 10);
    }
}
