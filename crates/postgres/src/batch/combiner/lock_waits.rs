//! Since when rows wait that other sessions have locked. Invariant: a wait is listed until its guard is dropped.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The waits of one combiner. Nothing that is frequent takes this lock: rows get here after a `lock_timeout`.
#[derive(Debug, Default)]
pub(super) struct LockWaits(Mutex<Vec<Instant>>);

/// A wait that goes on.
pub(super) struct LockWait<'a> {
    waits: &'a LockWaits,
    since: Instant,
}

impl LockWaits {
    pub(super) fn begin(&self) -> LockWait<'_> {
        let since = Instant::now();
        self.list().push(since);
        LockWait { waits: self, since }
    }

    /// How long the wait lasts that began first; zero if there is none.
    pub(super) fn longest(&self) -> Duration {
        let first = self.list().iter().min().copied();
        first.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn list(&self) -> MutexGuard<'_, Vec<Instant>> {
        // What it guards is whole after each statement.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LockWait<'_> {
    fn drop(&mut self) {
        let mut list = self.waits.list();
        // Waits that began at the same moment are the same to `longest`.
        if let Some(at) = list.iter().position(|since| *since == self.since) {
            list.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_wait_that_began_first_is_the_longest_until_it_ends() {
        let waits = LockWaits::default();
        assert_eq!(waits.longest(), Duration::ZERO);
        let second = Duration::from_secs(1);
        let first = waits.begin();
        tokio::time::advance(second).await;
        let later = waits.begin();
        tokio::time::advance(second).await;
        assert_eq!(waits.longest(), 2 * second);
        drop(first);
        assert_eq!(waits.longest(), second);
        drop(later);
        assert_eq!(waits.longest(), Duration::ZERO);
    }
}
