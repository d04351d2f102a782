//! How a caller comes to a connection. Invariant: whoever has a place in the line or a connection
//! in hand is a value whose `Drop` gives it up, so a caller may stop at any await.

use std::{
    borrow::Borrow,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::sync::oneshot;

use crate::{
    AcquireError, Holder, Manager, Phase, Reason, Snapshot,
    guard::Guard,
    holder::Caller,
    house::vigil,
    lifecycle::{Delivery, Failure, Shared},
    runtime::{Handle, timeout},
    slots::{Joined, Live, Refusal},
    stats::Retired,
    waiters::{Place, Ticket},
};

/// An idle connection that is clean, and whether it is due for a check. Those found dirty or broken
/// on the way are dealt with.
#[inline]
pub(crate) fn take<M: Manager>(shared: &Arc<Shared<M>>, caller: Caller) -> Option<(Live<M::Connection>, bool)> {
    loop {
        let (live, idle_for) = shared.core().take(caller)?;
        if let Some(live) = shared.sort_out(live) {
            let limit = shared.config.check_after;
            let rested = limit.is_some_and(|limit| idle_for >= limit);
            let due = rested || is_in_doubt(shared, &live);
            return Some((live, due));
        }
    }
}

/// Whether a connection has to be checked, however short it was idle.
fn is_in_doubt<M: Manager>(shared: &Shared<M>, live: &Live<M::Connection>) -> bool {
    if !live.unknown || live.suspect {
        return live.suspect;
    }
    let trust = shared.config.trust_check_for;
    trust.is_zero() || live.is_fresh() || shared.now().saturating_sub(live.proven) >= trust
}

pub(crate) async fn acquire<M: Manager, P: Borrow<Arc<Shared<M>>>>(
    pool: P,
    limit: Duration,
    caller: Caller,
) -> Result<Guard<M, P>, AcquireError<M::Error>> {
    // The common case first, before any future, timer or clock is touched.
    let taken = match pool.borrow().nothing_idle() {
        true => None,
        false => take(pool.borrow(), caller),
    };
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
    caller: Caller,
) -> Result<Live<M::Connection>, AcquireError<M::Error>> {
    let since = shared.now();
    let place = Place {
        caller,
        since,
        deadline: since.saturating_add(limit),
    };
    let mut served_before = false;
    loop {
        match taken {
            Some((live, false)) => return Ok(live),
            Some((live, true)) => match check(shared, live, place.deadline).await {
                Some(live) => return Ok(live),
                None if shared.now() < place.deadline => {}
                None => return Err(timed_out(shared, Some(Phase::Checking), place)),
            },
            None => {
                let queued = Queued {
                    shared,
                    place,
                    served_before,
                    waiting: None,
                    vigil: None,
                };
                let live = match queued.await {
                    Ok(live) => live,
                    Err(Sent::Refused(refusal)) => return Err(refused(shared, refusal)),
                    Err(Sent::Shed) => return Err(shed(shared)),
                    Err(Sent::InVain(failure)) => return Err(in_vain(shared, failure)),
                    Err(Sent::Late) => return Err(timed_out(shared, None, place)),
                };
                served_before = true;
                if let Some(mut live) = shared.sort_out(live) {
                    // Nobody has to ask whether a connection works that was opened just now.
                    let due = !live.is_fresh() && is_in_doubt(shared, &live);
                    if live.is_fresh() {
                        live.proven = shared.now();
                    }
                    taken = Some((live, due));
                    continue;
                }
            }
        }
        taken = take(shared, caller);
    }
}

/// Asks the manager whether a connection that has long been idle is still there.
async fn check<M: Manager>(
    shared: &Arc<Shared<M>>,
    live: Live<M::Connection>,
    deadline: Duration,
) -> Option<Live<M::Connection>> {
    // In a guard, so that it goes back through inspection if this future is dropped.
    let mut guard = Guard::new(shared, live);
    let patience = deadline.saturating_sub(shared.now());
    let limit = shared.config.check_timeout;
    match timeout(patience.min(limit), shared.manager.check(&mut guard)).await {
        Ok(Ok(())) => {
            let mut live = guard.live.take()?;
            (live.proven, live.suspect) = (shared.now(), false);
            Some(live)
        }
        // It was the caller that had no more time: nothing is known against the connection.
        Err(_) if patience < limit => None,
        _ => {
            guard.retire(Retired::Broken);
            None
        }
    }
}

/// A place in the line. Dropping it leaves the line.
struct Queued<'a, M: Manager> {
    shared: &'a Arc<Shared<M>>,
    place: Place,
    /// It stood in line already, and what it was handed was broken.
    served_before: bool,
    waiting: Option<(Ticket, oneshot::Receiver<Delivery<M>>)>,
    /// Kept where the housekeeper is not: it could be gone without this caller's noticing.
    vigil: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// Why a caller was sent away.
enum Sent<M: Manager> {
    Refused(Refusal),
    Late,
    Shed,
    InVain(Failure<M>),
}

impl<M: Manager> Queued<'_, M> {
    /// Stands in line, unless there is no need to or no way.
    fn join(&mut self) -> Option<Result<Live<M::Connection>, Sent<M>>> {
        let shared = self.shared;
        let (seat, receiver) = oneshot::channel();
        let joined = match self.served_before {
            false => shared.core().join(seat, self.place, self.place.since),
            true => {
                let now = shared.now();
                shared.core().rejoin(seat, self.place, now)
            }
        };
        match joined {
            Joined::Taken(live, _) => Some(Ok(live)),
            Joined::Refused(refusal, _) => Some(Err(Sent::Refused(refusal))),
            Joined::Queued {
                ticket,
                due,
                is_next,
                holds,
                kept_on,
            } => {
                self.waiting = Some((ticket, receiver));
                let here = Handle::try_current();
                if here.is_ok_and(|here| kept_on != Some(here.id())) {
                    shared.household();
                    let vigil = vigil(Arc::downgrade(shared), Some(self.place.deadline));
                    self.vigil = Some(Box::pin(vigil));
                }
                shared.connect(due);
                if is_next {
                    shared.poke.notify_one();
                }
                warn_of_nested(self.place.caller, holds);
                None
            }
        }
    }
}

impl<M: Manager> Future for Queued<'_, M> {
    type Output = Result<Live<M::Connection>, Sent<M>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.waiting.is_none()
            && let Some(answer) = self.join()
        {
            return Poll::Ready(answer);
        }
        let Some((_, receiver)) = &mut self.waiting else {
            unreachable!("whoever has no answer yet is in line");
        };
        let Poll::Ready(delivery) = Pin::new(receiver).poll(context) else {
            return match &mut self.vigil {
                Some(vigil) => vigil.as_mut().poll(context).map(|()| Err(Sent::Late)),
                None => Poll::Pending,
            };
        };
        self.waiting = None;
        Poll::Ready(match delivery {
            Ok(Delivery::Connection(live)) => Ok(live),
            Ok(Delivery::Late) => Err(Sent::Late),
            Ok(Delivery::Shed) => Err(Sent::Shed),
            Ok(Delivery::InVain(failure)) => Err(Sent::InVain(failure)),
            Ok(Delivery::Closed) | Err(_) => Err(Sent::Refused(Refusal::Closed)),
        })
    }
}

impl<M: Manager> Drop for Queued<'_, M> {
    fn drop(&mut self) {
        let Some((ticket, mut receiver)) = self.waiting.take() else {
            return;
        };
        let (left, over) = {
            let mut core = self.shared.core();
            (core.leave(ticket), core.is_over())
        };
        if over {
            self.shared.milestone.notify_waiters();
        }
        if left.is_none() {
            // What is on its way goes back to whoever sends it, what has arrived goes back now.
            receiver.close();
            if let Ok(Delivery::Connection(live)) = receiver.try_recv() {
                self.shared.give_back(live);
            }
        }
    }
}

fn timed_out<M: Manager>(shared: &Arc<Shared<M>>, phase: Option<Phase>, place: Place) -> AcquireError<M::Error> {
    let holds = shared.core().timed_out(place.caller);
    warn_of_nested(place.caller, holds);
    let snapshot = snapshot(shared);
    let nobody_can_return_one = snapshot.in_use + snapshot.cleaning + snapshot.idle == 0;
    let phase = phase.unwrap_or(match nobody_can_return_one {
        true => Phase::Connecting,
        false => Phase::Waiting,
    });
    let waited = shared.now().saturating_sub(place.since);
    AcquireError::new(Reason::Timeout { phase, waited }, None, snapshot)
}

fn warn_of_nested(caller: Caller, holds: Option<Holder>) {
    if let Some(holds) = holds {
        tracing::warn!(
            caller = %caller.at,
            %holds,
            "a task waits for a connection while it holds one; if all holders do, none of them is \
             ever served"
        );
    }
}

fn refused<M: Manager>(shared: &Arc<Shared<M>>, refusal: Refusal) -> AcquireError<M::Error> {
    let (reason, retry_after) = match refusal {
        Refusal::Closed => (Reason::Closed, None),
        Refusal::Full(wait) => (Reason::Overloaded, wait),
        Refusal::Hopeless(excess) => (Reason::Overloaded, Some(excess)),
        Refusal::Unavailable(retry_after) => (Reason::Unavailable, Some(retry_after)),
        Refusal::InVain(retry_after) => (Reason::Permanent, Some(retry_after)),
    };
    AcquireError::new(reason, retry_after, snapshot(shared))
}

fn shed<M: Manager>(shared: &Arc<Shared<M>>) -> AcquireError<M::Error> {
    let wait = shared.core().expected_wait(shared.now());
    AcquireError::new(Reason::Overloaded, wait, snapshot(shared))
}

/// The error of whoever waits for what fails for good. The cause is that of the connect that said so:
/// another may have succeeded meanwhile.
pub(crate) fn in_vain<M: Manager>(shared: &Arc<Shared<M>>, failure: Failure<M>) -> AcquireError<M::Error> {
    let mut snapshot = snapshot(shared);
    snapshot.last_connect_error = Some(failure);
    let retry_after = shared.core().next_news(shared.now());
    AcquireError::new(Reason::Permanent, Some(retry_after), snapshot)
}

pub(crate) fn snapshot<M: Manager>(shared: &Arc<Shared<M>>) -> Snapshot<M::Error> {
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
        capacity: core.config().capacity(),
        last_connect_error: core.last_error(),
        oldest_holder: core.oldest_holder(now),
    }
}
