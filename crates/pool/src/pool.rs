//! The handle and the guards. Invariant: a connection outside the pool is always inside a guard,
//! and a guard always gives it back.

use std::{
    borrow::Borrow,
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    panic::Location,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    AcquireError, Config, ConnectError, InvalidConfig, Manager, Phase, Reason, Snapshot, Stats,
    lifecycle::Shared,
    runtime::{Handle, Instant, timeout_at},
    slots::{Delivery, Joined, Live, Refusal},
    stats::Retired,
    waiters::{Left, Ticket},
};

/// A pool of connections. Cloning it gives another handle to the same pool.
///
/// When the last handle and the last guard are gone, idle connections are dropped without waiting;
/// [`close`](Self::close) ends them in good order.
pub struct Pool<M: Manager> {
    shared: Arc<Shared<M>>,
}

/// A connection on loan, borrowed from its [`Pool`] handle. Dropping it gives the connection back.
pub type Pooled<'pool, M> = Guard<M, &'pool Arc<Shared<M>>>;

/// A connection on loan that keeps the pool alive by itself. Dropping it gives the connection back.
pub type OwnedPooled<M> = Guard<M, Arc<Shared<M>>>;

impl<M: Manager> Pool<M> {
    /// Builds a pool and starts opening `min_size` connections in the background, on the current
    /// tokio runtime, where all connects and closes of this pool will run.
    ///
    /// # Errors
    ///
    /// The configuration contradicts itself.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, or in one without timers.
    pub fn new(manager: M, config: Config) -> Result<Self, InvalidConfig> {
        config.validate()?;
        let shared = Shared::start(manager, config, Handle::current());
        Ok(Self { shared })
    }

    /// Takes a connection, waiting in line for at most `acquire_timeout`.
    ///
    /// # Errors
    ///
    /// The time ran out, too many callers are waiting, or the pool is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the line; a connection handed over in that moment goes to the
    /// next in line.
    #[track_caller]
    pub fn get(
        &self,
    ) -> impl Future<Output = Result<Pooled<'_, M>, AcquireError<M::Error>>> + Send {
        self.get_within(self.shared.config.acquire_timeout)
    }

    /// The same with another bound on the wait.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    #[track_caller]
    pub fn get_within(
        &self,
        limit: Duration,
    ) -> impl Future<Output = Result<Pooled<'_, M>, AcquireError<M::Error>>> + Send {
        acquire(&self.shared, limit, Location::caller())
    }

    /// As [`get`](Self::get), with a guard that does not borrow from this handle.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    #[track_caller]
    pub fn get_owned(
        &self,
    ) -> impl Future<Output = Result<OwnedPooled<M>, AcquireError<M::Error>>> + Send + use<M> {
        let limit = self.shared.config.acquire_timeout;
        acquire(self.shared.clone(), limit, Location::caller())
    }

    /// Takes a connection if one is idle, without waiting.
    #[track_caller]
    pub fn try_get(&self) -> Option<Pooled<'_, M>> {
        let (live, _) = take(&self.shared, Location::caller())?;
        Some(Guard::new(&self.shared, live))
    }

    /// What the pool has done and is doing.
    pub fn stats(&self) -> Stats {
        let now = self.shared.now();
        let config = &self.shared.config;
        let core = self.shared.core();
        let (census, tally) = (core.census(), core.tally().clone());
        let failures = core.failures();
        let (longest_wait, open) = (core.longest_wait(now), core.is_open());
        drop(core);

        let mut waiting_times = tally.waiting_times;
        waiting_times.record_many(Duration::ZERO, tally.acquired_at_once);
        Stats {
            min_size: config.min_size,
            max_size: config.max_size,
            max_overflow: config.max_overflow,
            idle: census.idle,
            in_use: census.in_use,
            connecting: census.connecting,
            cleaning: census.cleaning,
            closing: census.closing,
            waiting: census.waiting,
            longest_wait,
            open,
            acquired: waiting_times.count() + tally.connecting_times.count(),
            timeouts: tally.timeouts,
            refused: tally.refused,
            connects: tally.connect_times.count(),
            connect_failures: tally.connect_failures,
            connect_failures_in_a_row: failures,
            cleaned: tally.cleaned,
            retired: tally.retired,
            waiting_times,
            connecting_times: tally.connecting_times,
            connect_times: tally.connect_times,
        }
    }

    /// Why the most recent connect failed, if none has succeeded since.
    pub fn last_connect_error(&self) -> Option<Arc<ConnectError<M::Error>>> {
        self.shared.core().last_error()
    }

    /// The pool's manager.
    pub fn manager(&self) -> &M {
        &self.shared.manager
    }

    /// The pool's configuration.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Refuses newcomers, serves whoever is in line, and completes when every connection has come
    /// back and is closed.
    ///
    /// # Cancel safety
    ///
    /// The drain goes on when the future is dropped; calling again waits for its end.
    pub async fn drain(&self) {
        self.shared.shut(true).await;
    }

    /// As [`drain`](Self::drain), but refuses those in line too.
    ///
    /// # Cancel safety
    ///
    /// As [`drain`](Self::drain).
    pub async fn close(&self) {
        self.shared.shut(false).await;
    }
}

impl<M: Manager> Clone for Pool<M> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<M: Manager> fmt::Debug for Pool<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let census = self.shared.core().census();
        f.debug_tuple("Pool").field(&census).finish()
    }
}

/// A connection on loan. See [`Pooled`] and [`OwnedPooled`].
pub struct Guard<M: Manager, P: Borrow<Arc<Shared<M>>>> {
    pool: P,
    /// Empty only while the guard is being taken apart.
    live: Option<Live<M::Connection>>,
    manager: PhantomData<fn() -> M>,
}

impl<M: Manager, P: Borrow<Arc<Shared<M>>>> Guard<M, P> {
    fn new(pool: P, live: Live<M::Connection>) -> Self {
        Self {
            pool,
            live: Some(live),
            manager: PhantomData,
        }
    }

    /// Closes the connection instead of giving it back.
    pub fn discard(self) {
        self.retire(Retired::Discarded);
    }

    fn retire(mut self, reason: Retired) {
        if let Some(live) = self.live.take() {
            self.pool.borrow().retire(live, reason);
        }
    }
}

impl<M: Manager, P: Borrow<Arc<Shared<M>>>> Drop for Guard<M, P> {
    #[inline]
    fn drop(&mut self) {
        if let Some(live) = self.live.take() {
            self.pool.borrow().give_back(live);
        }
    }
}

impl<M: Manager, P: Borrow<Arc<Shared<M>>>> Deref for Guard<M, P> {
    type Target = M::Connection;
    #[inline]
    fn deref(&self) -> &M::Connection {
        match &self.live {
            Some(live) => &live.connection,
            None => unreachable!("a guard is emptied only when it ends"),
        }
    }
}

impl<M: Manager, P: Borrow<Arc<Shared<M>>>> DerefMut for Guard<M, P> {
    #[inline]
    fn deref_mut(&mut self) -> &mut M::Connection {
        match &mut self.live {
            Some(live) => &mut live.connection,
            None => unreachable!("a guard is emptied only when it ends"),
        }
    }
}

impl<M: Manager, P: Borrow<Arc<Shared<M>>>> fmt::Debug for Guard<M, P>
where
    M::Connection: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pooled").field(&**self).finish()
    }
}

/// An idle connection that is clean, and whether it is due for a check. Those found dirty or broken
/// on the way are dealt with.
#[inline]
fn take<M: Manager>(
    shared: &Arc<Shared<M>>,
    caller: &'static Location<'static>,
) -> Option<(Live<M::Connection>, bool)> {
    loop {
        let (live, idle_for) = shared.core().take(caller)?;
        if let Some(live) = shared.sort_out(live) {
            let limit = shared.config.check_after;
            return Some((live, limit.is_some_and(|limit| idle_for >= limit)));
        }
    }
}

async fn acquire<M: Manager, P: Borrow<Arc<Shared<M>>>>(
    pool: P,
    limit: Duration,
    caller: &'static Location<'static>,
) -> Result<Guard<M, P>, AcquireError<M::Error>> {
    // The common case first, before any future, timer or clock is touched.
    let taken = take(pool.borrow(), caller);
    if let Some((live, false)) = taken {
        return Ok(Guard::new(pool, live));
    }
    let live = acquire_slowly(pool.borrow(), taken, limit, caller).await?;
    Ok(Guard::new(pool, live))
}

async fn acquire_slowly<M: Manager>(
    shared: &Arc<Shared<M>>,
    mut taken: Option<(Live<M::Connection>, bool)>,
    limit: Duration,
    caller: &'static Location<'static>,
) -> Result<Live<M::Connection>, AcquireError<M::Error>> {
    let started = Instant::now();
    let deadline = started + limit;
    loop {
        match taken.take().or_else(|| take(shared, caller)) {
            Some((live, false)) => return Ok(live),
            Some((live, true)) => match check(shared, live, deadline).await {
                Some(live) => return Ok(live),
                None if Instant::now() < deadline => {}
                None => return Err(timed_out(shared, Some(Phase::Checking), started)),
            },
            None => {
                let queued = Queued {
                    shared,
                    caller,
                    deadline: deadline.saturating_duration_since(shared.built),
                    ticket: None,
                };
                let live = match queued.await {
                    Ok(live) => live,
                    Err(Sent::Refused(refusal)) => return Err(refused(shared, refusal)),
                    Err(Sent::Late) => return Err(timed_out(shared, None, started)),
                };
                if let Some(live) = shared.sort_out(live) {
                    return Ok(live);
                }
            }
        }
    }
}

/// Asks the manager whether a connection that has long been idle is still there.
async fn check<M: Manager>(
    shared: &Arc<Shared<M>>,
    live: Live<M::Connection>,
    deadline: Instant,
) -> Option<Live<M::Connection>> {
    // In a guard, so that it goes back through inspection if this future is dropped.
    let mut guard = Guard::new(shared, live);
    let limit = Instant::now() + shared.config.check_timeout;
    let checked = timeout_at(deadline.min(limit), shared.manager.check(&mut guard)).await;
    match checked {
        Ok(Ok(())) => guard.live.take(),
        // It was the caller that had no more time: nothing is known against the connection.
        Err(_) if deadline < limit => None,
        _ => {
            guard.retire(Retired::Broken);
            None
        }
    }
}

/// A place in the line. Dropping it leaves the line.
struct Queued<'a, M: Manager> {
    shared: &'a Arc<Shared<M>>,
    caller: &'static Location<'static>,
    /// Since the pool was built.
    deadline: Duration,
    ticket: Option<Ticket>,
}

/// Why a caller was sent away.
enum Sent {
    Refused(Refusal),
    Late,
}

impl<M: Manager> Queued<'_, M> {
    fn leave(&mut self) -> Option<Live<M::Connection>> {
        let ticket = self.ticket.take()?;
        let (left, over) = {
            let mut core = self.shared.core();
            let left = core.leave(ticket);
            (left, core.is_over())
        };
        if over {
            self.shared.over.notify_waiters();
        }
        match left {
            Left::Delivery(Delivery::Connection { live, .. }) => Some(live),
            Left::Delivery(Delivery::Closed | Delivery::Late) | Left::Queue(_) => None,
        }
    }
}

impl<M: Manager> Future for Queued<'_, M> {
    type Output = Result<Live<M::Connection>, Sent>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let shared = self.shared;
        let now = shared.now();
        let Some(ticket) = self.ticket else {
            let waker = context.waker().clone();
            let joined = shared.core().join(waker, self.caller, now, self.deadline);
            return match joined {
                Joined::Taken(live, _) => Poll::Ready(Ok(live)),
                Joined::Refused(refusal, _) => Poll::Ready(Err(Sent::Refused(refusal))),
                Joined::Queued {
                    ticket,
                    due,
                    is_next,
                } => {
                    self.ticket = Some(ticket);
                    shared.connect(due);
                    if is_next {
                        shared.poke.notify_one();
                    }
                    Poll::Pending
                }
            };
        };
        let mut collected = shared.core().collect(ticket, now);
        if collected.is_none() {
            let waker = context.waker().clone();
            let (spare, served) = {
                let mut core = shared.core();
                (core.rewake(ticket, waker), core.collect(ticket, now))
            };
            drop(spare);
            collected = served;
        }
        let Some(delivery) = collected else {
            return Poll::Pending;
        };
        self.ticket = None;
        Poll::Ready(match delivery {
            Delivery::Connection { live, .. } => Ok(live),
            Delivery::Closed => Err(Sent::Refused(Refusal::Closed)),
            Delivery::Late => Err(Sent::Late),
        })
    }
}

impl<M: Manager> Drop for Queued<'_, M> {
    fn drop(&mut self) {
        if let Some(live) = self.leave() {
            self.shared.give_back(live);
        }
    }
}

fn timed_out<M: Manager>(
    shared: &Arc<Shared<M>>,
    phase: Option<Phase>,
    started: Instant,
) -> AcquireError<M::Error> {
    let snapshot = {
        let mut core = shared.core();
        core.timed_out();
        drop(core);
        snapshot(shared)
    };
    let nobody_can_return_one = snapshot.in_use + snapshot.cleaning + snapshot.idle == 0;
    let phase = phase.unwrap_or(match nobody_can_return_one {
        true => Phase::Connecting,
        false => Phase::Waiting,
    });
    let waited = started.elapsed();
    AcquireError::new(Reason::Timeout { phase, waited }, snapshot)
}

fn refused<M: Manager>(shared: &Arc<Shared<M>>, refusal: Refusal) -> AcquireError<M::Error> {
    let reason = match refusal {
        Refusal::Closed => Reason::Closed,
        Refusal::Full => Reason::Overloaded,
    };
    AcquireError::new(reason, snapshot(shared))
}

fn snapshot<M: Manager>(shared: &Arc<Shared<M>>) -> Snapshot<M::Error> {
    let now = shared.now();
    let core = shared.core();
    let census = core.census();
    Snapshot {
        in_use: census.in_use,
        idle: census.idle,
        connecting: census.connecting,
        cleaning: census.cleaning,
        closing: census.closing,
        waiting: census.waiting,
        capacity: shared.config.capacity(),
        last_connect_error: core.last_error(),
        oldest_holder: core.oldest_holder(now),
    }
}
