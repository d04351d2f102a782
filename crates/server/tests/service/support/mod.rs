//! What the tests share: the program as a process, an HTTP client, databases.
//!
//! Invariant: nothing waits without a bound, and no process outlives its test.

pub(crate) mod alerts;
mod cache;
mod client;
pub(crate) mod collector;
mod database;
mod events;
pub(crate) mod exposition;
mod load;
mod process;
mod service;
pub(crate) mod tls;
pub(crate) mod tokens;

use std::time::Duration;

use tokio::time::{Instant, sleep};

pub(crate) use cache::{redis, source};
pub(crate) use client::{Answer, Connection, resolve};
pub(crate) use database::{Database, Session, server, shared_server};
pub(crate) use events::Events;
pub(crate) use load::{Load, nothing_is_lost};
pub(crate) use process::{Ended, Launch, Process};
pub(crate) use service::{Service, create_key, encoded};

/// A bound against hanging: far more than anything takes, even on a slow machine that does other work.
pub(crate) const SOON: Duration = secs(60);

/// What a slow machine that does other work may add to a bound that the service promises.
pub(crate) const SLACK: Duration = secs(10);

/// Less than the 30 s for which the program waits by default, and more than a slow machine needs to start and end it.
pub(crate) const AT_ONCE: Duration = secs(20);

/// Looks again and again until there is something to see, and returns it; fails after [`SOON`].
pub(crate) async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(SOON, what, look).await
}

/// Like [`eventually`], with a bound of its own.
pub(crate) async fn eventually_within<T>(limit: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        // Between two looks the machine is left to what is waited for.
        sleep(millis(10)).await;
    }
}

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) const fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
