//! The modes with Redis: writes. Invariant: a fence stands in the trusted keyspace from before the commit, and a write is
//! settled only once the epoch that is acted on has released it.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    clock,
    modes::redis_mode::RedisMode,
    protocol::{
        cell::WriterId,
        epoch::View,
        time::{BootTime, Term},
    },
    redis::keyspace::Keyspace,
    stats::CacheEvent,
    write_outcome::{Coherence, NotFenced, Obstacle},
};

/// An announced write.
pub(crate) struct RedisFence {
    mode: Arc<RedisMode>,
    /// The view under which the fences were set.
    view: View,
    writer: WriterId,
    /// How long the fences stand.
    term: Term,
}

impl RedisFence {
    /// Fences keys as soon as a view has room for a statement and the Redis that it trusts answers; tries for
    /// `write_patience`.
    pub(crate) async fn set(mode: &Arc<RedisMode>, keys: &[&str]) -> Result<Self, NotFenced> {
        let start = Instant::now();
        let deadline = clock::after(start, mode.write_patience);
        let mut changes = mode.epoch_view.changes();
        // One id for all tries: a try whose answer was lost may have set the fence, and the same id joins it.
        let writer = mode.ids.writer();
        loop {
            // Before the try, so that a change during it is not missed.
            changes.borrow_and_update();
            let reason = match Self::try_set(mode, keys, writer).await {
                Ok(fence) => return Ok(fence),
                Err(reason) => reason,
            };
            if reason.is_permanent() || timeout_at(deadline, changes.changed()).await.is_err() {
                let waited = start.elapsed();
                return Err(NotFenced { waited, reason });
            }
        }
    }

    /// Fences keys now or not at all.
    pub(crate) async fn set_now(mode: &Arc<RedisMode>, keys: &[&str]) -> Result<Self, NotFenced> {
        let start = Instant::now();
        let fence = Self::try_set(mode, keys, mode.ids.writer()).await;
        fence.map_err(|reason| {
            let waited = start.elapsed();
            NotFenced { waited, reason }
        })
    }

    async fn try_set(mode: &Arc<RedisMode>, keys: &[&str], writer: WriterId) -> Result<Self, Obstacle> {
        // The fence expires no earlier than this plus its time to live: Redis counts from when it gets the command.
        let sent = clock::now();
        let (view, keyspace) = fence_conditions(mode, sent)?;
        let lasts = mode.timing.fence();
        if let Some(keyspace) = keyspace {
            let fenced = keyspace.fence(keys, writer, lasts).await;
            fenced.map_err(|_| Obstacle::Unreachable)?;
            mode.counters.add(CacheEvent::Fence, keys.len());
        }
        Ok(Self {
            mode: mode.clone(),
            view,
            writer,
            term: Term::new(sent, lasts),
        })
    }

    /// The time left for the commit.
    pub(crate) fn time_left(&self, now: BootTime) -> Duration {
        // Later polls extend the view as long as the epoch stays the same.
        let newest = self.mode.epoch_view.newest();
        let renewed = newest.filter(|newest| newest.epoch == self.view.epoch);
        let acted_on = renewed.unwrap_or(self.view).term.remaining(now);
        match self.view.keyspace {
            Some(_) => acted_on.min(self.term.remaining(now)),
            // Without Redis there is no fence that could expire.
            None => acted_on,
        }
    }

    /// Releases the fences, and waits for that at most for `write_patience`.
    pub(crate) async fn release(&self, keys: &[&str]) -> Coherence {
        let mode = &self.mode;
        let settled = timeout(mode.write_patience, settle(mode, self.writer, keys)).await;
        // Also after a timeout: no read of this instance may find what the write replaced.
        mode.forget_near(keys);
        match settled {
            Ok(()) => Coherence::Settled,
            Err(_) => {
                mode.counters.add(CacheEvent::Pending, 1);
                let keys = keys.iter().map(|key| Box::from(*key)).collect();
                settle_in_background(mode, self.writer, keys);
                Coherence::Pending
            }
        }
    }
}

/// Returns when nothing is known to prevent a fence.
pub(crate) async fn unobstructed(mode: &RedisMode, deadline: Instant) -> Result<(), NotFenced> {
    // Without subscribing, because this is the case that every write meets.
    if fence_conditions(mode, clock::now()).is_ok() {
        return Ok(());
    }
    let start = Instant::now();
    let mut changes = mode.epoch_view.changes();
    loop {
        changes.borrow_and_update();
        let Err(reason) = fence_conditions(mode, clock::now()) else {
            return Ok(());
        };
        if reason.is_permanent() || timeout_at(deadline, changes.changed()).await.is_err() {
            let waited = start.elapsed();
            return Err(NotFenced { waited, reason });
        }
    }
}

/// The conditions of a fence: a view with room for a statement and, if it trusts a Redis, the keyspace there.
fn fence_conditions(mode: &RedisMode, now: BootTime) -> Result<(View, Option<Arc<Keyspace>>), Obstacle> {
    let view = mode
        .epoch_view
        .valid(now)
        .filter(|view| view.term.fits(now, mode.timing.deadline()))
        .ok_or_else(|| match mode.epoch_view.unreadable() {
            Some(why) => Obstacle::UnreadableEpoch(why),
            None => Obstacle::UnknownEpoch,
        })?;
    match (view.keyspace, mode.keyspace(&view)) {
        (None, _) => Ok((view, None)),
        (Some(_), Some(keyspace)) => Ok((view, Some(keyspace))),
        (Some(_), None) => Err(Obstacle::Unreachable),
    }
}

/// Releases the fences in the current epoch, even if it changed since they were set: a commit may take longer than its
/// view, and values stored in the new epoch meanwhile are then older than the commit.
async fn settle(mode: &RedisMode, writer: WriterId, keys: &[&str]) {
    let mut changes = mode.epoch_view.changes();
    loop {
        changes.borrow_and_update();
        // The view is checked again after Redis answered: if it ended in between, another epoch may already be in use,
        // and there the fences are not released.
        if let Some(view) = mode.epoch_view.valid(clock::now())
            && release_in(mode, &view, writer, keys).await
            && mode.acts_on(&view, clock::now())
        {
            return;
        }
        // Never fails: `mode` owns the sender.
        let _changed = changes.changed().await;
    }
}

/// Releases the fences in the keyspace that a view trusts. Returns whether that is done, or the view trusts none.
async fn release_in(mode: &RedisMode, view: &View, writer: WriterId, keys: &[&str]) -> bool {
    match (view.keyspace, mode.keyspace(view)) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(_), Some(keyspace)) => keyspace.release(keys, writer).await.is_ok(),
    }
}

/// Continues until the fences are released, or until everything stored in Redis has expired.
fn settle_in_background(mode: &Arc<RedisMode>, writer: WriterId, keys: Arc<[Box<str>]>) {
    let settling = || settle_or_expire(mode.clone(), writer, keys.clone());
    let settled = mode.runtime.spawn(settling());
    // A runtime that has shut down drops a task at once. A release that reaches Redis twice does no harm.
    if settled.is_finished()
        && let Ok(here) = Handle::try_current()
    {
        here.spawn(settling());
    }
}

async fn settle_or_expire(mode: Arc<RedisMode>, writer: WriterId, keys: Arc<[Box<str>]>) {
    let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
    let longest = mode.ttl.present.max(mode.ttl.absent);
    if timeout(longest, settle(&mode, writer, &keys)).await.is_err() {
        tracing::warn!("Redis was never told of a write; the values that it held before the write have expired");
    }
    mode.forget_near(&keys);
}
