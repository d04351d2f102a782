//! The pause of the pool, with a deadline. Invariant: a pause ends by itself, so a forgotten one cannot hold callers for
//! ever; and a deadline ends only the pause that it belongs to.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cenote_postgres::Pool;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep_until, timeout},
};

/// Pauses and resumes one pool.
#[derive(Debug)]
pub(super) struct Pause {
    shared: Arc<Shared>,
    /// Runs the timers that resume.
    runtime: Handle,
}

#[derive(Debug)]
struct Shared {
    pool: Pool,
    /// When the pause in force ends. Held while the pool is paused or resumed, so that both agree.
    until: Mutex<Option<Instant>>,
}

impl Pause {
    pub(super) fn of(pool: &Pool, runtime: &Handle) -> Self {
        Self {
            shared: Arc::new(Shared {
                pool: pool.clone(),
                until: Mutex::default(),
            }),
            runtime: runtime.clone(),
        }
    }

    /// Pauses the pool for this time. A pause in force gets the new deadline. Waits at most `patience` until no
    /// connection is in use.
    ///
    /// # Cancel safety
    ///
    /// The pause stays, with its deadline, when the future is dropped.
    #[expect(
        clippy::significant_drop_tightening,
        reason = "the deadline and the pause change together"
    )]
    pub(super) async fn begin(&self, time: Duration, patience: Duration) {
        let end = Instant::now() + time;
        let quiet = {
            let mut until = self.shared.until();
            *until = Some(end);
            // From this call on, not from the first poll.
            self.shared.pool.pause()
        };
        let shared = Arc::clone(&self.shared);
        self.runtime.spawn(async move {
            sleep_until(end).await;
            shared.end_if(
                |until| until == end,
                "the pause has reached its deadline: the pool resumes",
            );
        });
        // Connections that stay in use are visible in the state.
        let _quiet = timeout(patience, quiet).await;
    }

    /// Resumes the pool. Does nothing if it is not paused.
    pub(super) fn end(&self) {
        self.shared.end_if(|_| true, "the pool resumes");
    }

    /// When the pause ends; `None` if the pool is not paused.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        *self.shared.until()
    }
}

impl Shared {
    #[expect(
        clippy::significant_drop_tightening,
        reason = "the deadline and the pause change together"
    )]
    fn end_if(&self, is_meant: impl FnOnce(Instant) -> bool, message: &str) {
        let mut until = self.until();
        if until.is_some_and(is_meant) {
            *until = None;
            self.pool.resume();
            tracing::info!("{message}");
        }
    }

    fn until(&self) -> MutexGuard<'_, Option<Instant>> {
        // What it guards is whole after each statement.
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
