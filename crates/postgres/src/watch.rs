//! Looks after the connections nobody is using. Invariant: it gives nothing up by itself; it has names looked up and
//! what was given up closed.

use std::time::Duration;

use tokio::task::AbortHandle;

use crate::Postgres;

/// The task that watches for a pool. Dropping this ends it.
#[derive(Debug)]
pub(crate) struct Watch(AbortHandle);

impl Watch {
    /// Starts to watch, looking names up so often.
    pub(crate) fn start(pool: cenote_pool::Pool<Postgres>, interval: Option<Duration>) -> Self {
        Self(tokio::spawn(watch(pool, interval)).abort_handle())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn watch(pool: cenote_pool::Pool<Postgres>, interval: Option<Duration>) {
    let router = pool.manager().router();
    let interval = interval.filter(|_| router.has_names());
    loop {
        tokio::select! {
            // What was given up goes at once, however long the names take.
            () = router.alarmed() => pool.sweep(),
            () = elapsed(interval) => {}
        }
        if router.look_up_names().await {
            pool.sweep();
        }
    }
}

async fn elapsed(interval: Option<Duration>) {
    match interval {
        Some(interval) => tokio::time::sleep(interval).await,
        None => std::future::pending().await,
    }
}
