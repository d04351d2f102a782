//! Whether a link still works. Invariant: once open, a breaker stays open.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio::sync::Notify;

use crate::problem::RedisProblem;

#[derive(Default)]
pub(crate) struct Breaker {
    is_open: AtomicBool,
    opens: Notify,
    /// Why, if that is known: the first reason given. Locked for a few instructions.
    reason: Mutex<Option<RedisProblem>>,
}

impl Breaker {
    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Relaxed)
    }

    /// Ends the link for everybody, for this reason.
    pub(crate) fn open_for(&self, reason: RedisProblem) {
        let mut known = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        known.get_or_insert(reason);
        drop(known);
        self.open();
    }

    pub(crate) fn reason(&self) -> Option<RedisProblem> {
        let known = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    /// Ends the link for everybody.
    pub(crate) fn open(&self) {
        self.is_open.store(true, Relaxed);
        self.opens.notify_one();
    }

    /// Returns when it is open; for one to wait.
    pub(crate) async fn opened(&self) {
        self.opens.notified().await;
    }
}
