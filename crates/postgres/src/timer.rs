//! Bounds commands in time with one timer per connection instead of one per command: arming and disarming a
//! timer costs more than the rest of the bookkeeping of a command.
//!
//! Invariant: whoever is bounded is woken no later than its deadline; being woken sooner is harmless.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use tokio::{
    runtime::{self, Handle},
    time::{Instant, Sleep, sleep, sleep_until},
};

/// The moment this long after another; for what is beyond the clock, one that never comes.
pub(crate) fn after(start: Instant, time: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    start.checked_add(time).unwrap_or_else(|| start + NEVER)
}

/// A timer that is left running from one command to the next.
pub(crate) struct Timer {
    /// Whose time it is.
    home: runtime::Id,
    /// Empty while a command uses it. Held for a moment, never across an await.
    sleep: Mutex<Option<Pin<Box<Sleep>>>>,
}

impl Timer {
    /// A timer of the current runtime.
    pub(crate) fn new() -> Self {
        let never = Duration::MAX;
        Self {
            home: Handle::current().id(),
            sleep: Mutex::new(Some(Box::pin(sleep(never)))),
        }
    }

    /// Whether it belongs to the current runtime. That of another may have ended, and then a use of it panics.
    pub(crate) fn is_at_home(&self) -> bool {
        Handle::try_current().is_ok_and(|here| here.id() == self.home)
    }

    /// Runs `work` until the deadline; `None` if it did not end before.
    ///
    /// # Cancel safety
    ///
    /// As safe as `work`.
    pub(crate) async fn bound<T>(
        &self,
        deadline: Instant,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut work = pin!(work);
        let mut lent = self.lend(deadline);
        poll_fn(|context| {
            if let Poll::Ready(output) = work.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            let Some(sleep) = &mut lent.sleep else {
                return Poll::Ready(None);
            };
            // Still armed for an earlier command's deadline, it wakes us too soon, and is moved on then.
            while sleep.as_mut().poll(context).is_ready() {
                if Instant::now() >= deadline {
                    return Poll::Ready(None);
                }
                sleep.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await
    }

    /// The timer, armed for the deadline or sooner; another one if it is in use by a concurrent command.
    fn lend(&self, deadline: Instant) -> Lent<'_> {
        let sleep = self.lock().take();
        let mut sleep = sleep.unwrap_or_else(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        Lent {
            timer: self,
            sleep: Some(sleep),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Pin<Box<Sleep>>>> {
        self.sleep.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A timer in use; it goes back when dropped.
struct Lent<'a> {
    timer: &'a Timer,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let spare = std::mem::replace(&mut *self.timer.lock(), self.sleep.take());
        drop(spare);
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_that_does_not_end_is_given_up_at_its_deadline_however_the_timer_was_left() {
        let timer = Timer::new();
        for seconds in [5, 1, 3, 3, 60] {
            let started = Instant::now();
            let deadline = started + Duration::from_secs(seconds);
            // A command that ends at once leaves the timer armed.
            assert_eq!(timer.bound(deadline, async { 7 }).await, Some(7));
            assert_eq!(timer.bound(deadline, pending::<()>()).await, None);
            assert_eq!(started.elapsed().as_secs(), seconds);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_commands_each_keep_their_own_deadline() {
        let timer = Timer::new();
        let started = Instant::now();
        let give_up = async |seconds| {
            let deadline = started + Duration::from_secs(seconds);
            assert_eq!(timer.bound(deadline, pending::<()>()).await, None);
            started.elapsed().as_secs()
        };
        assert_eq!(tokio::join!(give_up(9), give_up(2), give_up(5)), (9, 2, 5));
    }
}
