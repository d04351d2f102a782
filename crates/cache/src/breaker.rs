//! Whether a link still works. Invariant: once open, a breaker stays open.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::sync::Notify;

#[derive(Default)]
pub(crate) struct Breaker {
    is_open: AtomicBool,
    opens: Notify,
}

impl Breaker {
    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Relaxed)
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
