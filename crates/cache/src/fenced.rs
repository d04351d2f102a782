//! The other half of a write. Invariant: from before a write commits until after, none of its keys can be filled in; and
//! a write is settled only once no reader can find what it replaced.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    cell::WriterId,
    cells::Cells,
    clock,
    epoch::View,
    local::Local,
    moment::{Moment, Term},
    shared::Shared,
    stats::Event,
};

/// Keys that nothing is filled in for, so that they can be written.
///
/// Commit while [`fits`](Self::fits) says so, then [`release`](Self::release), then acknowledge. Drop it without
/// releasing when the outcome of the commit is unknown: its keys are then read from the database until the fence
/// falls, after which the commit can no longer happen.
#[must_use = "without release the keys stay out of the cache until the fence falls"]
pub struct Fenced {
    keys: Vec<Box<str>>,
    hold: Hold,
    /// For how long the fence stands.
    term: Term,
    is_over: bool,
}

/// What holds the keys.
pub(crate) enum Hold {
    /// Nothing is cached.
    Nothing,
    Local(Arc<Local>),
    /// An epoch, with fences in Redis if it trusts one.
    Shared {
        shared: Arc<Shared>,
        view: View,
        writer: WriterId,
    },
    /// No fence; the keys are deleted afterwards, as the plain cache-aside does.
    Plain(Arc<Shared>),
}

/// How a write stands after its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a pending write must not be acknowledged as if it were settled"]
pub enum Coherence {
    /// No read that begins from now on misses the write.
    Settled,
    /// It is committed, but Redis could not be told in time, and the epoch has not moved on: for a while yet it cannot
    /// be promised that no read misses it. Telling it goes on in the background. Say so to whoever wrote.
    Pending,
}

/// A write that may not be made now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the write could not be announced within {waited:?}: {reason}; nothing was written, try again")]
pub struct NotFenced {
    /// How long it has been tried.
    pub waited: Duration,
    /// What was in the way at last.
    pub reason: Obstacle,
}

/// Why a write cannot be announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// The database has not told which epoch it is.
    UnknownEpoch,
    /// The database cannot tell which epoch it is until someone changes something; this is its error. It is not waited
    /// for.
    UnreadableEpoch(Arc<str>),
    /// Redis is trusted and does not answer.
    Unreachable,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownEpoch => f.write_str("the epoch is not known"),
            Self::UnreadableEpoch(why) => write!(f, "the row of the epoch cannot be read: {why}"),
            Self::Unreachable => f.write_str("Redis does not answer"),
        }
    }
}

impl Fenced {
    pub(crate) fn new(keys: &[&str], hold: Hold, term: Term) -> Self {
        Self {
            keys: keys.iter().map(|key| Box::from(*key)).collect(),
            hold,
            term,
            is_over: false,
        }
    }

    /// Fences keys, as soon as there is a view with room for a statement, and the Redis it trusts answers.
    pub(crate) async fn shared(shared: &Arc<Shared>, keys: &[&str]) -> Result<Self, NotFenced> {
        let start = Instant::now();
        let deadline = clock::after(start, shared.write_patience);
        let mut pulse = shared.views.pulse();
        let writer = shared.ids.writer();
        loop {
            pulse.borrow_and_update();
            let reason = match try_fence(shared, keys, writer).await {
                Ok(fenced) => return Ok(fenced),
                Err(reason) => reason,
            };
            if is_in_vain(&reason) || timeout_at(deadline, pulse.changed()).await.is_err() {
                let waited = start.elapsed();
                return Err(NotFenced { waited, reason });
            }
        }
    }

    /// Fences keys now, or not at all.
    pub(crate) async fn shared_now(shared: &Arc<Shared>, keys: &[&str]) -> Result<Self, NotFenced> {
        let start = Instant::now();
        let fenced = try_fence(shared, keys, shared.ids.writer()).await;
        fenced.map_err(|reason| {
            let waited = start.elapsed();
            NotFenced { waited, reason }
        })
    }

    /// Whether a commit may be sent now that the database cuts off after `deadline`: it would certainly be over while
    /// the fences stand and the epoch may be acted on. If not, drop this and fence again.
    #[must_use]
    pub fn fits(&self, deadline: Duration) -> bool {
        deadline <= self.time_left()
    }

    /// What is left for the commit; zero when it may no longer be sent.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        let now = clock::now();
        let fence = self.term.remaining(now);
        match &self.hold {
            Hold::Nothing | Hold::Plain(_) => Duration::MAX,
            Hold::Local(_) => fence,
            Hold::Shared { shared, view, .. } => {
                let newest = shared.views.newest();
                let renewed = newest.filter(|newest| newest.epoch == view.epoch);
                let acted_on = renewed.unwrap_or(*view).term.remaining(now);
                match view.keyspace {
                    Some(_) => acted_on.min(fence),
                    None => acted_on,
                }
            }
        }
    }

    /// To be called when the commit is done, or has failed for certain; then the write may be answered.
    ///
    /// Waits until Redis has been told, or the epoch is over: the configured patience at most.
    ///
    /// # Cancel safety
    /// Dropping the future is like dropping the `Fenced`: the fences stand until they fall.
    pub async fn release(mut self) -> Coherence {
        let keys: Vec<&str> = self.keys.iter().map(|key| &**key).collect();
        let coherence = match &self.hold {
            Hold::Nothing => Coherence::Settled,
            Hold::Local(local) => {
                for key in &keys {
                    local.near.release(key);
                }
                Coherence::Settled
            }
            Hold::Plain(shared) => {
                if let Some(cells) = shared.plain_cells() {
                    let _ = cells.invalidate(&keys).await; // nothing more is promised
                }
                Coherence::Settled
            }
            Hold::Shared { shared, writer, .. } => {
                let settled = timeout(shared.write_patience, settle(shared, *writer, &keys)).await;
                shared.forget_near(&keys);
                match settled {
                    Ok(()) => Coherence::Settled,
                    Err(_) => {
                        shared.counters.count(Event::Pending);
                        settle_later(shared.clone(), *writer, self.keys.clone());
                        Coherence::Pending
                    }
                }
            }
        };
        self.is_over = true;
        coherence
    }
}

impl Drop for Fenced {
    fn drop(&mut self) {
        if let (Hold::Local(local), false) = (&self.hold, self.is_over) {
            let now = clock::now();
            for key in &self.keys {
                local.near.abandon(key, self.term, now);
            }
        }
    }
}

impl fmt::Debug for Fenced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fenced")
            .field("keys", &self.keys)
            .field("time_left", &self.time_left())
            .finish_non_exhaustive()
    }
}

/// Returns when there is nothing known to be in the way of a fence.
pub(crate) async fn unobstructed(shared: &Shared, deadline: Instant) -> Result<(), NotFenced> {
    if footing(shared, clock::now()).is_ok() {
        return Ok(());
    }
    let start = Instant::now();
    let mut pulse = shared.views.pulse();
    loop {
        pulse.borrow_and_update();
        let Err(reason) = footing(shared, clock::now()) else {
            return Ok(());
        };
        if is_in_vain(&reason) || timeout_at(deadline, pulse.changed()).await.is_err() {
            let waited = start.elapsed();
            return Err(NotFenced { waited, reason });
        }
    }
}

/// Whether waiting does not take an obstacle away.
fn is_in_vain(obstacle: &Obstacle) -> bool {
    matches!(obstacle, Obstacle::UnreadableEpoch(_))
}

/// What a fence stands on: a view with room for a statement and, if it trusts a Redis, its cells.
fn footing(shared: &Shared, now: Moment) -> Result<(View, Option<Arc<Cells>>), Obstacle> {
    let view = shared
        .views
        .valid(now)
        .filter(|view| view.term.fits(now, shared.timing.deadline()))
        .ok_or_else(|| match shared.views.unreadable() {
            Some(why) => Obstacle::UnreadableEpoch(why),
            None => Obstacle::UnknownEpoch,
        })?;
    match (view.keyspace, shared.cells(&view)) {
        (None, _) => Ok((view, None)),
        (Some(_), Some(cells)) => Ok((view, Some(cells))),
        (Some(_), None) => Err(Obstacle::Unreachable),
    }
}

async fn try_fence(shared: &Arc<Shared>, keys: &[&str], writer: WriterId) -> Result<Fenced, Obstacle> {
    let sent = clock::now();
    let (view, cells) = footing(shared, sent)?;
    let lasts = shared.timing.fence();
    if let Some(cells) = cells {
        let fenced = cells.fence(keys, writer, lasts).await;
        fenced.map_err(|_| Obstacle::Unreachable)?;
        shared.counters.add(Event::Fence, keys.len());
    }
    let hold = Hold::Shared {
        shared: shared.clone(),
        view,
        writer,
    };
    Ok(Fenced::new(keys, hold, Term::new(sent, lasts)))
}

/// Takes the fences down in the epoch that is acted on, be it the one in which they were put up or a later one: a
/// commit may take longer than its view, and what others have stored meanwhile is then older than it.
async fn settle(shared: &Shared, writer: WriterId, keys: &[&str]) {
    let mut pulse = shared.views.pulse();
    loop {
        pulse.borrow_and_update();
        if let Some(view) = shared.views.valid(clock::now())
            && is_told(shared, &view, writer, keys).await
            && shared.acts_on(&view, clock::now())
        {
            return;
        }
        // It cannot end: the sender is part of what is borrowed here.
        let _changed = pulse.changed().await;
    }
}

/// Goes on until Redis is told, or until what could be found there has ended by itself.
fn settle_later(shared: Arc<Shared>, writer: WriterId, keys: Vec<Box<str>>) {
    let keys: Arc<[Box<str>]> = keys.into();
    let settling = || settling(shared.clone(), writer, keys.clone());
    let settled = shared.runtime.spawn(settling());
    // A runtime that has ended drops a task at once. To tell Redis twice does no harm.
    if settled.is_finished()
        && let Ok(here) = Handle::try_current()
    {
        here.spawn(settling());
    }
}

async fn settling(shared: Arc<Shared>, writer: WriterId, keys: Arc<[Box<str>]>) {
    let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
    let longest = shared.ttl.present.max(shared.ttl.absent);
    if timeout(longest, settle(&shared, writer, &keys)).await.is_err() {
        tracing::warn!("Redis was never told of a write; what it held of it has ended by now");
    }
    shared.forget_near(&keys);
}

/// Whether the Redis that a view trusts, if there is one, has taken the writer's fences down.
async fn is_told(shared: &Shared, view: &View, writer: WriterId, keys: &[&str]) -> bool {
    match (view.keyspace, shared.cells(view)) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(_), Some(cells)) => cells.release(keys, writer).await.is_ok(),
    }
}
