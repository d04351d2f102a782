//! What the tests share: the program as a process, an HTTP client, databases. Invariant: nothing waits without
//! a bound, and no process outlives its test.

mod cache;
mod client;
mod database;
mod load;
mod process;
mod service;

use std::time::Duration;

use tokio::time::{Instant, sleep};

pub(crate) use cache::{redis, source};
pub(crate) use client::{Answer, Connection, resolve};
pub(crate) use database::{Database, Session, server, shared_server};
pub(crate) use load::{Load, nothing_is_lost, rate};
pub(crate) use process::{Ended, Launch, Process};
pub(crate) use service::{Service, encoded};

/// Long enough for anything that is going to happen at all on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Asks again and again until there is an answer; fails after [`SOON`].
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) const fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
