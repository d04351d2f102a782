//! The command timeout of a connection. Invariant: each holder of the connection begins with that of the configuration.

use std::{
    future::poll_fn,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// For "no limit". As a limit it would be 584 years.
const NONE: u64 = u64::MAX;

/// The longest time for a command, in nanoseconds. Relaxed: it guards nothing.
#[derive(Debug)]
pub(super) struct CommandLimit(AtomicU64);

impl CommandLimit {
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self(AtomicU64::new(nanoseconds(limit)))
    }

    pub(super) fn set(&self, limit: Option<Duration>) {
        self.0.store(nanoseconds(limit), Relaxed);
    }

    pub(super) fn get(&self) -> Option<Duration> {
        let limit = self.0.load(Relaxed);
        (limit != NONE).then(|| Duration::from_nanos(limit))
    }

    /// Runs `work`, which finds this limit. It is set only while `work` is polled, because a command reads it in its own poll: so
    /// other commands do not find it, and a drop has nothing to restore.
    pub(super) fn during<F: Future>(&self, limit: Option<Duration>, work: F) -> impl Future<Output = F::Output> {
        // Boxed, because an async function would hold the future of a command twice.
        let mut work = Box::pin(work);
        poll_fn(move |context| {
            let _restored = Restored(&self.0, self.0.swap(nanoseconds(limit), Relaxed));
            work.as_mut().poll(context)
        })
    }
}

/// Restores a limit when it is dropped, also by a panic.
struct Restored<'a>(&'a AtomicU64, u64);

impl Drop for Restored<'_> {
    fn drop(&mut self) {
        self.0.store(self.1, Relaxed);
    }
}

fn nanoseconds(limit: Option<Duration>) -> u64 {
    let limit = limit.map(|limit| u64::try_from(limit.as_nanos()));
    limit.and_then(Result::ok).unwrap_or(NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_limit_for_some_work_is_found_by_that_work_alone() {
        let limit = CommandLimit::new(Some(Duration::from_secs(5)));
        let found = async |expected: Option<u64>| {
            for _ in 0..3 {
                assert_eq!(limit.get(), expected.map(Duration::from_secs));
                tokio::task::yield_now().await;
            }
        };
        let inner = limit.during(Some(Duration::from_secs(1)), found(Some(1)));
        let outer = limit.during(None, async {
            found(None).await;
            inner.await;
            found(None).await;
        });
        tokio::join!(outer, found(Some(5)));
        let mut dropped = Box::pin(limit.during(None, found(None)));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(dropped.as_mut().poll(&mut context).is_pending());
        drop(dropped);
        found(Some(5)).await;
    }

    #[test]
    fn a_limit_is_kept_to_the_nanosecond_and_an_endless_one_is_none() {
        let limit = CommandLimit::new(Some(Duration::new(5, 1)));
        assert_eq!(limit.get(), Some(Duration::new(5, 1)));
        for endless in [None, Some(Duration::MAX)] {
            limit.set(endless);
            assert_eq!(limit.get(), None);
        }
        limit.set(Some(Duration::ZERO));
        assert_eq!(limit.get(), Some(Duration::ZERO));
    }
}
