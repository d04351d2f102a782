//! Takes one batch after another to the database. Invariant: however a lane ends, it is counted out, and whoever it
//! was working for, or would have, learns of it.

use std::{
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    runtime::{self, Handle},
    task::yield_now,
    time::{Instant, sleep},
};

use super::{
    Batch, Calls, Request, Shared, State,
    calls::Open,
    queue::{Taken, Waiting},
};
use crate::{AcquireError, Error, Pooled, Reason, error::panic_text, timer::Timer};

/// A batch that takes longer makes way for another lane.
const PATIENCE: Duration = Duration::from_millis(20);

/// One lane at work.
pub(super) struct Lane<B: Batch> {
    pub(super) place: Arc<Place<B>>,
    /// For the patience with batches.
    timer: Timer,
}

/// What a lane counts as. The flags change under the lock of the counters.
pub(super) struct Place<B: Batch> {
    pub(super) shared: Arc<Shared<B>>,
    /// In `lanes`.
    counted: AtomicBool,
    /// In `running`.
    running: AtomicBool,
    /// Has taken nothing yet.
    starting: AtomicBool,
    /// Where the lane is.
    pub(super) home: runtime::Id,
    /// What is open of the batch under way. Held for a moment, never across an await.
    open: Mutex<Open<B>>,
}

impl<B: Batch> Lane<B> {
    /// One that is counted already.
    pub(super) fn new(shared: Arc<Shared<B>>, timer: Timer, home: runtime::Id) -> Self {
        let place = Place {
            shared,
            counted: AtomicBool::new(true),
            running: AtomicBool::new(true),
            starting: AtomicBool::new(true),
            home,
            open: Mutex::default(),
        };
        Self {
            place: Arc::new(place),
            timer,
        }
    }

    pub(super) async fn run(self) {
        let shared = &*self.place.shared;
        let mut took = None;
        while let Some(left) = self.place.time_left(took.take()) {
            let connection = match shared.pool.get_within(left).await {
                Ok(connection) => connection,
                Err(error) => {
                    shared.not_served(&error);
                    continue;
                }
            };
            // Whoever is ready to ask asks first.
            yield_now().await;
            let now = Instant::now();
            let batch = self.place.take(now);
            if !batch.is_empty() {
                let calls = Calls::new(self.place.clone(), batch);
                self.serve(connection, &calls, now).await;
                took = Some(now.elapsed());
            }
        }
        // What it replaces is dropped after the lock is let go.
        let _before = shared.state().timer.replace(self.timer);
    }

    async fn serve(&self, connection: Pooled<'_>, calls: &Calls<B>, now: Instant) {
        let shared = &*self.place.shared;
        let mut aborted = pin!(shared.abort.notified());
        // A panic is the end of the batch, not of the lane: those who were not answered learn of it.
        let running = AssertUnwindSafe(shared.batch.run(connection, calls)).catch_unwind();
        let mut running = pin!(running.map(|ran| {
            if let Err(panic) = ran {
                let error = Error::Panicked(panic_text(&*panic).into());
                calls.answer_all(|_| Err(error.clone()));
            }
        }));
        let either = async {
            tokio::select! {
                biased;
                () = &mut running => {}
                () = &mut aborted => {}
            }
        };
        if self.timer.bound(now + PATIENCE, either).await.is_none() {
            self.place.make_way();
            loop {
                tokio::select! {
                    biased;
                    () = &mut running => break,
                    () = &mut aborted => break,
                    () = calls.all_gone() => break,
                    // All lanes may be as slow as this one: then nobody else sees to those that wait.
                    () = sleep(shared.next_deadline()) => shared.expire(),
                }
            }
        }
        // Before the lane looks whether anything waits.
        calls.release();
    }
}

impl<B: Batch> Place<B> {
    /// How long the first in line is still willing to wait. `None` if nobody waits, or the lane has made way: it is
    /// counted out then. The lane's last batch took so long.
    fn time_left(&self, took: Option<Duration>) -> Option<Duration> {
        let mut state = self.shared.state();
        if let Some(took) = took {
            state.queue.finished(took);
        }
        match state.queue.first_in_line() {
            Some(since) if self.counted.load(Relaxed) => {
                drop(state);
                Some(self.shared.limits.wait.saturating_sub(since.elapsed()))
            }
            None => {
                // Under the lock that saw the line empty: what comes next starts a lane.
                self.count_out(&mut state);
                None
            }
            Some(_) => None,
        }
    }

    fn take(&self, now: Instant) -> Vec<Waiting<Request<B>>> {
        let shared = &self.shared;
        let mut state = shared.state();
        self.has_started(&mut state);
        let Taken { batch, late } = state.queue.take(&shared.limits, now);
        if !batch.is_empty() {
            state.counts.batches += 1;
            state.counts.requests += batch.len() as u64;
        }
        // For what is too much for this one.
        shared.start_lane(state);
        shared.were_late(late);
        batch
    }

    /// Lets another lane have this one's place.
    fn make_way(&self) {
        let mut state = self.shared.state();
        if self.counted.swap(false, Relaxed) {
            state.lanes -= 1;
        }
        self.shared.start_lane(state);
    }

    /// What is left of its batch does not count any more, and these keys are free.
    pub(super) fn step_aside(&self, keys: Vec<u64>) {
        let mut state = self.shared.state();
        state.queue.release(keys.into_iter());
        self.count_out(&mut state);
        self.shared.start_lane(state);
    }

    pub(super) fn open(&self) -> MutexGuard<'_, Open<B>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does without this lane: nobody runs it. Its callers learn that, and its keys are free.
    pub(super) fn abandon(&self) {
        let Open { callers, keys } = std::mem::take(&mut *self.open());
        let mut state = self.shared.state();
        state.queue.release(keys.into_iter().flatten());
        self.count_out(&mut state);
        drop(state);
        for caller in callers.into_iter().flatten() {
            let _gone = caller.send(Err(Error::Lost {
                cause: "the runtime on which the batch was sent is not being run".into(),
            }));
        }
    }

    fn has_started(&self, state: &mut State<B>) {
        if self.starting.swap(false, Relaxed) {
            state.starting = false;
        }
    }

    fn count_out(&self, state: &mut State<B>) {
        self.has_started(state);
        if self.counted.swap(false, Relaxed) {
            state.lanes -= 1;
        }
        if self.running.swap(false, Relaxed) {
            if state.running > self.shared.limits.lanes {
                self.shared.limits.spare.give_back();
            }
            state.running -= 1;
        }
    }
}

impl<B: Batch> Drop for Place<B> {
    fn drop(&mut self) {
        let mut state: MutexGuard<'_, _> = self.shared.state();
        // A panic ends a lane at work; one that never got to work can only have met the end of its runtime.
        let panicked = std::thread::panicking() && !self.starting.load(Relaxed);
        let stopped = self.counted.load(Relaxed) && !panicked;
        self.count_out(&mut state);
        state.places.retain(|place| place.strong_count() > 0);
        if stopped {
            // The runtime is shutting down. Those who wait on it must learn of it; others take over.
            if state.home.as_ref().is_some_and(|home| home.id() == self.home) {
                state.home = None;
            }
            let waiting = state.queue.take_out(|request| !request.is_watched);
            drop(state);
            for waiting in waiting {
                let _gone = waiting.item.answer.send(Err(Error::Disconnected {
                    cause: "the runtime of the batcher has ended".into(),
                }));
            }
        } else if Handle::try_current().is_ok() {
            // A place is free again, be it that this batch panicked or that it had made way.
            self.shared.start_lane(state);
        }
    }
}

impl<B: Batch> Shared<B> {
    /// No connection was to be had.
    fn not_served(&self, error: &AcquireError) {
        let refused = {
            let mut state = self.state();
            match error.reason() {
                Reason::Timeout { .. } => {
                    let before = Instant::now().checked_sub(self.limits.wait);
                    before.map_or_else(Vec::new, |before| state.queue.expire(before))
                }
                // The line for connections is too long for these; those behind them have more patience.
                Reason::Overloaded => state.queue.drain(self.limits.batch),
                Reason::Unavailable | Reason::Permanent | Reason::Closed => state.queue.drain(usize::MAX),
            }
        };
        for waiting in refused {
            // A caller that has gone needs no answer.
            let _gone = waiting.item.answer.send(Err(error.clone().into()));
        }
    }

    /// When the next in line will have waited for too long. Whoever comes meanwhile will wait longer.
    fn next_deadline(&self) -> Duration {
        let oldest = self.state().queue.oldest();
        let waited = oldest.map_or(Duration::ZERO, |since| since.elapsed());
        let left = self.limits.wait.saturating_sub(waited);
        left.max(Duration::from_millis(1))
    }
}
