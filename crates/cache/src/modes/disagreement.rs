//! Whether instances use different keyspaces. Invariant: a disagreement is remembered for longer than it takes until a keyspace
//! is trusted again.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::protocol::time::{BootTime, Term};

/// In leases: twice as long as the longest wait before a Redis that was given up is trusted again.
const REMEMBERED: u32 = 24;

pub(crate) struct Disagreement {
    remembered: Duration,
    /// Locked for a few instructions.
    noted: Mutex<Option<Term>>,
}

impl Disagreement {
    pub(crate) fn new(lease: Duration) -> Self {
        Self {
            remembered: lease.saturating_mul(REMEMBERED),
            noted: Mutex::new(None),
        }
    }

    /// Notes that another instance trusts a keyspace that this one does not see. Returns whether that is news.
    pub(crate) fn note(&self, now: BootTime) -> bool {
        let is_news = !self.lasts(now);
        *self.noted() = Some(Term::new(now, self.remembered));
        is_news
    }

    pub(crate) fn lasts(&self, now: BootTime) -> bool {
        self.noted().is_some_and(|term| term.is_running(now))
    }

    fn noted(&self) -> MutexGuard<'_, Option<Term>> {
        // No code panics while it holds the lock.
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disagreement_is_reported_once_and_expires() {
        let at = |seconds| BootTime::from_clock(Duration::from_secs(seconds));
        let disagreement = Disagreement::new(Duration::from_secs(2));
        assert!(!disagreement.lasts(at(1)));
        assert!(disagreement.note(at(1)));
        assert!(!disagreement.note(at(31)));
        assert!(disagreement.lasts(at(78)));
        assert!(!disagreement.lasts(at(79)));
    }
}
