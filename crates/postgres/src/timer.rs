//! Bounds commands in time with one timer per connection. One per command would cost more to arm and disarm than the
//! rest of a command's bookkeeping.
//!
//! Invariant: a bounded future is woken no later than its deadline, on whichever runtime it is polled. Being woken
//! earlier is harmless.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    runtime::{self, Handle},
    time::{Instant, Sleep, sleep_until},
};

/// Returns `start + time`. If that is beyond the clock, a moment that never comes.
pub(crate) fn after(start: Instant, time: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    start.checked_add(time).unwrap_or_else(|| start + NEVER)
}

/// A sleep that moves to the runtime that polls it. A timer of a runtime that is not run wakes nobody, and one of a
/// runtime that has ended panics.
pub(crate) struct LocalSleep {
    /// The runtime of the timer.
    runtime: runtime::Id,
    sleep: Pin<Box<Sleep>>,
}

impl LocalSleep {
    pub(crate) fn until(deadline: Instant) -> Self {
        Self {
            runtime: Handle::current().id(),
            sleep: Box::pin(sleep_until(deadline)),
        }
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.sleep.deadline()
    }

    pub(crate) fn reset(&mut self, deadline: Instant) {
        self.sleep.as_mut().reset(deadline);
    }

    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if Handle::try_current().is_ok_and(|here| here.id() != self.runtime) {
            *self = Self::until(self.deadline());
        }
        self.sleep.as_mut().poll(context)
    }
}

/// A timer that stays armed from one command to the next.
pub(crate) struct Timer {
    /// Empty while a command uses the timer. The lock is held for a few instructions, never across an await.
    sleep: Mutex<Option<LocalSleep>>,
}

impl Timer {
    /// Creates a timer on the current runtime.
    pub(crate) fn new() -> Self {
        let never = after(Instant::now(), Duration::MAX);
        Self {
            sleep: Mutex::new(Some(LocalSleep::until(never))),
        }
    }

    /// Runs `work` until the deadline. Returns `None` if it did not end before.
    ///
    /// # Cancel safety
    ///
    /// As safe as `work`.
    pub(crate) async fn bound<T>(&self, deadline: Instant, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let mut lent = self.lend(deadline);
        poll_fn(|context| {
            if let Poll::Ready(output) = work.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            let Some(sleep) = &mut lent.sleep else {
                return Poll::Ready(None);
            };
            // The timer may still be armed for an earlier deadline, of another command. Then it is moved.
            while sleep.poll(context).is_ready() {
                if Instant::now() >= deadline {
                    return Poll::Ready(None);
                }
                sleep.reset(deadline);
            }
            Poll::Pending
        })
        .await
    }

    /// Takes the timer, armed for the deadline or earlier. A concurrent command gets a new one.
    fn lend(&self, deadline: Instant) -> Lent<'_> {
        let sleep = self.lock().take();
        let mut sleep = sleep.unwrap_or_else(|| LocalSleep::until(deadline));
        if sleep.deadline() > deadline {
            sleep.reset(deadline);
        }
        Lent {
            timer: self,
            sleep: Some(sleep),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<LocalSleep>> {
        self.sleep.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A timer in use. Dropping it puts it back.
struct Lent<'a> {
    timer: &'a Timer,
    sleep: Option<LocalSleep>,
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

    /// The connection was opened, and the timer armed, on a runtime that nobody runs now or that has ended.
    #[test]
    fn whoever_is_bounded_on_another_runtime_is_woken_there() {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
        let (home, here) = (runtime().unwrap(), runtime().unwrap());
        let soon = || Instant::now() + Duration::from_millis(20);
        let timer = home.block_on(async { Timer::new() });
        assert_eq!(home.block_on(timer.bound(soon(), async { 7 })), Some(7));
        assert_eq!(here.block_on(timer.bound(soon(), pending::<()>())), None);
        assert_eq!(home.block_on(timer.bound(soon(), async { 7 })), Some(7));
        drop(home);
        assert_eq!(here.block_on(timer.bound(soon(), pending::<()>())), None);
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
