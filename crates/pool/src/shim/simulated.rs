//! Locks and tasks of the model checker, and a clock that a test advances.
//!
//! Invariant: the checker's schedule and random numbers decide everything here, so a failed schedule fails again.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    ops::{Deref, DerefMut},
    pin::{Pin, pin},
    sync::{LockResult, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use shuttle::{
    current::{TaskId, me},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
};

/// A lock of the checker, at which it may also switch after an unlock. By itself it would not switch between the unlock
/// and a wake-up, or a registration for one.
pub(crate) struct Mutex<T> {
    inner: shuttle::sync::Mutex<T>,
    unlocked: AtomicBool,
}

pub(crate) struct MutexGuard<'a, T> {
    /// Empty only while the guard is being dropped.
    inner: Option<shuttle::sync::MutexGuard<'a, T>>,
    unlocked: &'a AtomicBool,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            inner: shuttle::sync::Mutex::new(value),
            unlocked: AtomicBool::new(false),
        }
    }

    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        let guard = |inner| MutexGuard {
            inner: Some(inner),
            unlocked: &self.unlocked,
        };
        match self.inner.lock() {
            Ok(inner) => Ok(guard(inner)),
            Err(poisoned) => Err(PoisonError::new(guard(poisoned.into_inner()))),
        }
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        match &self.inner {
            Some(inner) => inner,
            None => unreachable!("BUG: a guard was used after its drop"),
        }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.inner {
            Some(inner) => inner,
            None => unreachable!("BUG: a guard was used after its drop"),
        }
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        drop(self.inner.take());
        // Any access to an atomic is a point where the checker may switch.
        self.unlocked.store(true, SeqCst);
    }
}

/// Spawns tasks of the checker, which has one runtime.
#[derive(Clone)]
pub struct Handle;

/// Identifies a runtime. There is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RuntimeId;

/// Never returned: every task of the checker has the runtime.
#[derive(Debug)]
pub(crate) struct NoRuntime;

impl Handle {
    pub(crate) fn current() -> Self {
        Self
    }

    #[allow(clippy::unnecessary_wraps, reason = "as tokio's")]
    pub(crate) fn try_current() -> Result<Self, NoRuntime> {
        Ok(Self)
    }

    #[allow(clippy::unused_self, reason = "as tokio's")]
    pub(crate) fn id(&self) -> RuntimeId {
        RuntimeId
    }

    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        drop(shuttle::future::spawn(Mortal(Some(Box::pin(future)))));
    }
}

thread_local! {
    static DOOMED: Cell<Option<TaskId>> = const { Cell::new(None) };
    static CLOCK: RefCell<Clock> = const { RefCell::new(Clock::new()) };
}

/// True while the checker unwinds the tasks that are left at the end of an execution. They must not block then.
pub(crate) fn is_unwinding() -> bool {
    std::thread::panicking()
}

/// Ends the current spawned task at this await, as a panic or the end of the runtime does, unless a timeout ends the
/// await first.
pub(crate) async fn die() {
    DOOMED.set(Some(me()));
    std::future::pending().await
}

/// A task that may [`die`].
struct Mortal<F>(Option<Pin<Box<F>>>);

impl<F: Future<Output = ()>> Future for Mortal<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(future) = &mut self.0 else {
            return Poll::Ready(());
        };
        let polled = future.as_mut().poll(context);
        if polled.is_ready() || DOOMED.get() == Some(me()) {
            self.0 = None;
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

struct Clock {
    now: Duration,
    armed: u64,
    /// Wakers by deadline. The second part of the key makes it unique.
    sleepers: BTreeMap<(Duration, u64), Waker>,
}

impl Clock {
    const fn new() -> Self {
        Self {
            now: Duration::ZERO,
            armed: 0,
            sleepers: BTreeMap::new(),
        }
    }
}

/// Resets the clock and the doomed task, for the next execution.
pub(crate) fn reset() {
    DOOMED.set(None);
    let before = CLOCK.replace(Clock::new());
    drop(before);
}

/// Advances the clock to the next deadline.
pub(crate) fn advance() {
    let woken = CLOCK.with_borrow_mut(|clock| {
        let ((deadline, _), waker) = clock.sleepers.pop_first()?;
        clock.now = clock.now.max(deadline);
        Some(waker)
    });
    if let Some(waker) = woken {
        waker.wake();
    }
}

/// A time of the simulated clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(Duration);

impl Instant {
    pub(crate) fn now() -> Self {
        Self(CLOCK.with_borrow(|clock| clock.now))
    }

    pub(crate) fn elapsed(self) -> Duration {
        Self::now().saturating_duration_since(self)
    }

    pub(crate) fn saturating_duration_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<Duration> for Instant {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

struct Sleep {
    until: Duration,
    key: Option<(Duration, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        CLOCK.with_borrow_mut(|clock| {
            if clock.now >= self.until {
                return Poll::Ready(());
            }
            let until = self.until;
            let key = *self.key.get_or_insert_with(|| {
                clock.armed += 1;
                (until, clock.armed)
            });
            clock.sleepers.insert(key, context.waker().clone());
            Poll::Pending
        })
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            CLOCK.with_borrow_mut(|clock| clock.sleepers.remove(&key));
        }
    }
}

pub(crate) async fn sleep_until(deadline: Instant) {
    Sleep {
        until: deadline.0,
        key: None,
    }
    .await;
}

/// The time ran out.
#[derive(Debug)]
pub(crate) struct Elapsed;

pub(crate) async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    timeout_at(Instant::now() + limit, future).await
}

pub(crate) async fn timeout_at<F: Future>(deadline: Instant, future: F) -> Result<F::Output, Elapsed> {
    let (mut future, mut late) = (pin!(future), pin!(sleep_until(deadline)));
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => late.as_mut().poll(context).map(|()| Err(Elapsed)),
    })
    .await
}
