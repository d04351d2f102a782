//! Whether a session still works. Invariant: once open, a breaker stays open.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio::sync::Notify;

use crate::redis::problem::RedisProblem;

#[derive(Default)]
pub(crate) struct Breaker {
    /// Relaxed: it orders nothing. A caller that still sees it closed sends a request that then fails.
    is_open: AtomicBool,
    /// Wakes the one task that watches the session.
    opens: Notify,
    /// The first reason that was given. Locked for a few instructions.
    reason: Mutex<Option<RedisProblem>>,
}

impl Breaker {
    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Relaxed)
    }

    /// Breaks the session for all its users, for this reason.
    pub(crate) fn open_for(&self, reason: RedisProblem) {
        let mut known = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        known.get_or_insert(reason);
        // Set before the breaker opens, so that a reader that finds it open also finds the reason.
        drop(known);
        self.open();
    }

    /// Why it opened, if that is known.
    pub(crate) fn reason(&self) -> Option<RedisProblem> {
        let known = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    /// Breaks the session for all its users.
    pub(crate) fn open(&self) {
        self.is_open.store(true, Relaxed);
        // `notify_one` keeps the wake-up for a task that does not wait yet.
        self.opens.notify_one();
    }

    /// Waits until it is open. For one task only.
    pub(crate) async fn opened(&self) {
        self.opens.notified().await;
    }
}
