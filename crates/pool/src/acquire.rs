//! How a caller acquires a connection.
//!
//! Invariant: a position in the queue and a connection in hand are values whose `Drop` gives them up, so a caller may
//! be dropped at any await.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::sync::oneshot;

use crate::{
    AcquireError, Acquisition, Decision, Holder, Manager, Phase, Pooled, Reason, Snapshot,
    caller::Caller,
    delivery::{ConnectFailure, Delivery},
    inner::PoolInner,
    pooled::PoolRef,
    retired::Retired,
    runtime_binding::liveness::probe_maintenance,
    shim::{Handle, timeout},
    slots::{
        Live,
        wait_queue::{Joined, Refusal},
    },
    waiters::{Ticket, Waiter},
};

/// Takes an idle connection that is clean, and says whether it is due for a check. Dirty and broken connections on the
/// way are cleaned and closed.
#[inline]
pub(crate) fn take<M: Manager>(inner: &Arc<PoolInner<M>>, caller: Caller) -> Option<(Live<M::Connection>, bool)> {
    loop {
        // The clock is a good part of the cost of an acquire, so the core is told the time only if it measures uses.
        let (live, idle_for) = match inner.config.time_uses {
            true => inner.core_now().take(caller)?,
            false => inner.core().take(caller)?,
        };
        if let Some(live) = inner.keep_if_clean(live) {
            let limit = inner.config.check_after;
            let rested = limit.is_some_and(|limit| idle_for >= limit);
            let due = rested || is_in_doubt(inner, &live);
            return Some((live, due));
        }
    }
}

/// True if a connection needs a check, however short it was idle.
fn is_in_doubt<M: Manager>(inner: &PoolInner<M>, live: &Live<M::Connection>) -> bool {
    if !live.unknown || live.suspect {
        return live.suspect;
    }
    let trust = inner.config.trust_check_for;
    trust.is_zero() || live.is_fresh() || inner.now().saturating_sub(live.proven) >= trust
}

pub(crate) async fn acquire<M: Manager>(
    pool: PoolRef<'_, M>,
    limit: Duration,
    caller: Caller,
) -> Result<Pooled<'_, M>, AcquireError<M::Error>> {
    // The common case first, before any future, timer or clock is touched.
    let taken = match pool.nothing_idle() {
        true => None,
        false => take(&pool, caller),
    };
    let taken = match taken {
        Some((live, false)) if pool.hooks.before_acquire.is_none() => {
            return Ok(handed(pool, live, caller, Duration::ZERO));
        }
        taken => taken,
    };
    let since = pool.now();
    let live = acquire_slowly(&pool, taken, since, limit, caller).await?;
    let waited = pool.now().saturating_sub(since);
    Ok(handed(pool, live, caller, waited))
}

/// Puts a connection into the hands of its caller.
#[inline]
pub(crate) fn handed<M: Manager>(
    pool: PoolRef<'_, M>,
    live: Live<M::Connection>,
    caller: Caller,
    waited: Duration,
) -> Pooled<'_, M> {
    let caller = caller.at;
    Pooled::new(pool, live).acquired(Acquisition::new(caller, waited))
}

async fn acquire_slowly<M: Manager>(
    inner: &Arc<PoolInner<M>>,
    mut taken: Option<(Live<M::Connection>, bool)>,
    since: Duration,
    limit: Duration,
    caller: Caller,
) -> Result<Live<M::Connection>, AcquireError<M::Error>> {
    let waiter = Waiter {
        caller,
        since,
        deadline: since.saturating_add(limit),
    };
    let mut served_before = false;
    loop {
        match taken {
            Some((live, is_due)) => {
                let good = match is_due {
                    true => check(inner, live, waiter.deadline).await,
                    false => Some(live),
                };
                let admitted = match good {
                    Some(live) => admit(inner, live, waiter).await?,
                    None if inner.now() < waiter.deadline => None,
                    None => return Err(timed_out(inner, Some(Phase::Checking), waiter)),
                };
                if let Some(live) = admitted {
                    return Ok(live);
                }
            }
            None => {
                let wait = Wait {
                    inner,
                    waiter,
                    served_before,
                    queued: None,
                    probing: None,
                };
                let live = match wait.await {
                    Ok(live) => live,
                    Err(WaitError::Refused(refusal)) => return Err(refused(inner, refusal)),
                    Err(WaitError::Shed) => return Err(shed(inner)),
                    Err(WaitError::Permanent(failure)) => return Err(permanent(inner, failure)),
                    Err(WaitError::TimedOut) => return Err(timed_out(inner, None, waiter)),
                };
                served_before = true;
                if let Some(mut live) = inner.keep_if_clean(live) {
                    // A connection that was opened just now is known to work.
                    let due = !live.is_fresh() && is_in_doubt(inner, &live);
                    if live.is_fresh() {
                        live.proven = inner.now();
                    }
                    taken = Some((live, due));
                    continue;
                }
            }
        }
        taken = take(inner, caller);
    }
}

/// Asks the manager whether the far side of a connection still answers.
async fn check<M: Manager>(
    inner: &Arc<PoolInner<M>>,
    live: Live<M::Connection>,
    deadline: Duration,
) -> Option<Live<M::Connection>> {
    let mut checked = Checked {
        inner,
        live: Some(live),
    };
    let live = checked.live.as_mut()?;
    let patience = deadline.saturating_sub(inner.now());
    let limit = inner.config.check_timeout;
    match timeout(patience.min(limit), inner.manager.check(&mut live.connection)).await {
        Ok(Ok(())) => {
            (live.proven, live.suspect) = (inner.now(), false);
            checked.live.take()
        }
        // The caller's deadline ended the check early, which says nothing against the connection.
        Err(_) if patience < limit => None,
        _ => {
            inner.retire(checked.live.take()?, Retired::Broken);
            None
        }
    }
}

/// A connection that is being checked, and that its caller has not seen yet. Dropping it releases the connection, without the
/// hook after a release.
struct Checked<'a, M: Manager> {
    inner: &'a Arc<PoolInner<M>>,
    live: Option<Live<M::Connection>>,
}

impl<M: Manager> Drop for Checked<'_, M> {
    fn drop(&mut self) {
        if let Some(live) = self.live.take() {
            self.inner.release(live);
        }
    }
}

/// Runs the hook before an acquire, if there is one. `None` if it had the connection closed.
async fn admit<M: Manager>(
    inner: &Arc<PoolInner<M>>,
    live: Live<M::Connection>,
    waiter: Waiter,
) -> Result<Option<Live<M::Connection>>, AcquireError<M::Error>> {
    let Some(hook) = &inner.hooks.before_acquire else {
        return Ok(Some(live));
    };
    let info = inner.describe(live.slot);
    let is_new = info.uses <= 1;
    // A drop releases it as if the caller had had it.
    let mut pooled = Pooled::new(PoolRef::Borrowed(inner), live);
    let decided = timeout(inner.config.check_timeout, hook(&mut pooled, info)).await;
    if let Ok(Ok(Decision::Keep)) = decided {
        return Ok(pooled.live.take());
    }
    pooled.retire(match decided {
        Ok(Ok(_)) => Retired::Discarded,
        _ => Retired::Broken,
    });
    match decided {
        // A hook that wants every connection closed would have the pool connect without end.
        Ok(Ok(_)) if is_new => Err(AcquireError::rejected(None, snapshot(inner))),
        Ok(Ok(_)) => Ok(None),
        Ok(Err(error)) => Err(AcquireError::rejected(Some(error), snapshot(inner))),
        Err(_) => Err(timed_out(inner, Some(Phase::Hook), waiter)),
    }
}

/// A wait in the queue. Dropping it leaves the queue.
struct Wait<'a, M: Manager> {
    inner: &'a Arc<PoolInner<M>>,
    waiter: Waiter,
    /// It was served before, with a connection that turned out to be broken.
    served_before: bool,
    /// `None` before the first poll and after the delivery.
    queued: Option<(Ticket, oneshot::Receiver<Delivery<M>>)>,
    /// Only on another runtime than the maintenance task's, which might end unnoticed.
    probing: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// Why a wait ended without a connection.
enum WaitError<M: Manager> {
    Refused(Refusal),
    TimedOut,
    Shed,
    Permanent(ConnectFailure<M>),
}

impl<M: Manager> Wait<'_, M> {
    /// Joins the queue, unless a connection is idle or the caller is refused.
    fn join(&mut self) -> Option<Result<Live<M::Connection>, WaitError<M>>> {
        let inner = self.inner;
        let (sender, receiver) = oneshot::channel();
        let joined = match self.served_before {
            false => inner.core().join(sender, self.waiter, self.waiter.since),
            true => {
                let now = inner.now();
                inner.core().rejoin(sender, self.waiter, now)
            }
        };
        match joined {
            Joined::Taken(live, _) => Some(Ok(live)),
            Joined::Refused(refusal, _) => Some(Err(WaitError::Refused(refusal))),
            Joined::Queued {
                ticket,
                due,
                is_next,
                holds,
                maintenance_runtime,
            } => {
                self.queued = Some((ticket, receiver));
                let here = Handle::try_current();
                if here.is_ok_and(|here| maintenance_runtime != Some(here.id())) {
                    inner.maintenance_runtime();
                    let probing = probe_maintenance(Arc::downgrade(inner), Some(self.waiter.deadline));
                    self.probing = Some(Box::pin(probing));
                }
                inner.connect(due);
                if is_next {
                    inner.wake_maintenance.notify_one();
                }
                warn_of_nested_wait(self.waiter.caller, holds);
                None
            }
        }
    }
}

impl<M: Manager> Future for Wait<'_, M> {
    type Output = Result<Live<M::Connection>, WaitError<M>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.queued.is_none()
            && let Some(answer) = self.join()
        {
            return Poll::Ready(answer);
        }
        let Some((_, receiver)) = &mut self.queued else {
            unreachable!("BUG: a wait without an answer is in the queue");
        };
        let Poll::Ready(delivery) = Pin::new(receiver).poll(context) else {
            return match &mut self.probing {
                Some(probing) => probing.as_mut().poll(context).map(|()| Err(WaitError::TimedOut)),
                None => Poll::Pending,
            };
        };
        self.queued = None;
        Poll::Ready(match delivery {
            Ok(Delivery::Connection(live)) => Ok(live),
            Ok(Delivery::TimedOut) => Err(WaitError::TimedOut),
            Ok(Delivery::Shed) => Err(WaitError::Shed),
            Ok(Delivery::Permanent(failure)) => Err(WaitError::Permanent(failure)),
            Ok(Delivery::Closed) | Err(_) => Err(WaitError::Refused(Refusal::Closed)),
        })
    }
}

impl<M: Manager> Drop for Wait<'_, M> {
    fn drop(&mut self) {
        let Some((ticket, mut receiver)) = self.queued.take() else {
            return;
        };
        let (left, is_terminated) = {
            let mut core = self.inner.core();
            (core.leave(ticket), core.is_terminated())
        };
        if is_terminated {
            self.inner.state_changed.notify_waiters();
        }
        if left.is_none() {
            // A delivery was made in the same moment. One that is still being sent returns to its sender once the
            // receiver is closed; one that has arrived is released here.
            receiver.close();
            if let Ok(Delivery::Connection(live)) = receiver.try_recv() {
                self.inner.release(live);
            }
        }
    }
}

fn timed_out<M: Manager>(inner: &Arc<PoolInner<M>>, phase: Option<Phase>, waiter: Waiter) -> AcquireError<M::Error> {
    let holds = inner.core().timed_out(waiter.caller);
    warn_of_nested_wait(waiter.caller, holds);
    let snapshot = snapshot(inner);
    let nobody_can_return_one = snapshot.in_use + snapshot.cleaning + snapshot.idle == 0;
    let phase = phase.unwrap_or(match nobody_can_return_one {
        true => Phase::Connecting,
        false => Phase::Waiting,
    });
    let waited = inner.now().saturating_sub(waiter.since);
    AcquireError::new(Reason::Timeout { phase, waited }, None, snapshot)
}

fn warn_of_nested_wait(caller: Caller, holds: Option<Holder>) {
    if let Some(holds) = holds {
        tracing::warn!(
            caller = %caller.at,
            %holds,
            "a task waits for a connection while it holds one; if all holders do, none of them is ever served"
        );
    }
}

fn refused<M: Manager>(inner: &Arc<PoolInner<M>>, refusal: Refusal) -> AcquireError<M::Error> {
    let (reason, retry_after) = match refusal {
        Refusal::Closed => (Reason::Closed, None),
        Refusal::Full(wait) => (Reason::Overloaded, wait),
        Refusal::WouldTimeOut(excess) => (Reason::Overloaded, Some(excess)),
        Refusal::Unavailable(retry_after) => (Reason::Unavailable, Some(retry_after)),
        Refusal::Permanent(retry_after) => (Reason::Permanent, Some(retry_after)),
    };
    AcquireError::new(reason, retry_after, snapshot(inner))
}

fn shed<M: Manager>(inner: &Arc<PoolInner<M>>) -> AcquireError<M::Error> {
    let wait = inner.core().expected_wait(inner.now());
    AcquireError::new(Reason::Overloaded, wait, snapshot(inner))
}

/// The error of a wait that was ended because connecting fails for good. Its cause is the connect that ended it: a
/// later connect may have succeeded, and so cleared the error that the core remembers.
pub(crate) fn permanent<M: Manager>(inner: &Arc<PoolInner<M>>, failure: ConnectFailure<M>) -> AcquireError<M::Error> {
    let mut snapshot = snapshot(inner);
    snapshot.last_connect_error = Some(failure);
    let retry_after = inner.core().retry_after(inner.now());
    AcquireError::new(Reason::Permanent, Some(retry_after), snapshot)
}

pub(crate) fn snapshot<M: Manager>(inner: &Arc<PoolInner<M>>) -> Snapshot<M::Error> {
    let now = inner.now();
    let core = inner.core();
    let occupancy = core.occupancy();
    Snapshot {
        in_use: occupancy.in_use,
        idle: occupancy.idle,
        connecting: occupancy.connecting,
        cleaning: occupancy.cleaning,
        closing: occupancy.closing,
        waiting: occupancy.waiting,
        capacity: core.config().capacity(),
        last_connect_error: core.last_error(),
        oldest_holder: core.oldest_holder(now),
    }
}
