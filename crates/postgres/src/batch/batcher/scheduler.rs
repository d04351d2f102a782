//! When a batcher's workers start and end, and what they count as.
//!
//! Invariant: however a worker ends, it is counted out, and the callers it was working for, or would have worked for,
//! are told.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    runtime::{self, Handle},
    sync::Notify,
    time::Instant,
};

use super::{
    calls::{Batch, OpenCalls, Request, Server, lock},
    limits::BatchLimits,
    queue::{Queue, Taken, Waiting},
};
use crate::{AcquireError, Error, Pool, Reason, runtime_liveness::LivenessCheck, timer::Timer};

pub(super) struct Shared<B: Batch> {
    pub(super) batch: B,
    pub(super) pool: Pool,
    pub(super) limits: BatchLimits,
    pub(super) abort: Notify,
    /// Held to put something in, take a batch out or count, never across an await.
    pub(super) state: Mutex<State<B>>,
    /// Starts a worker on a runtime. Set by the batcher, as workers know this module and not the other way round.
    pub(super) spawn: fn(&Handle, Arc<WorkerState<B>>, Timer),
}

pub(super) struct State<B: Batch> {
    pub(super) queue: Queue<Request<B>>,
    /// Lanes that serve one batch after another.
    pub(super) workers: u32,
    /// All batches under way, those of workers that made way included.
    pub(super) running: u32,
    /// A worker was started and has not taken anything yet: no need for another.
    pub(super) starting: bool,
    /// That of the last worker that ended, still armed.
    pub(super) timer: Option<Timer>,
    /// Where workers are started: where the first caller was, until that runtime is gone.
    pub(super) home: Option<Handle>,
    /// Those of all workers.
    pub(super) worker_states: Vec<Weak<WorkerState<B>>>,
    pub(super) counts: Counts,
    pub(super) last_refusal: Option<Instant>,
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) batches: u64,
    pub(super) refused: u64,
    pub(super) expired: u64,
}

/// What a worker counts as. The flags change under the lock of the counters.
pub(super) struct WorkerState<B: Batch> {
    pub(super) shared: Arc<Shared<B>>,
    /// In `workers`.
    pub(super) counted: AtomicBool,
    /// In `running`.
    pub(super) running: AtomicBool,
    /// Has taken nothing yet.
    pub(super) starting: AtomicBool,
    /// Where the worker is.
    pub(super) home: runtime::Id,
    /// What is open of the batch under way. Held for a moment, never across an await.
    pub(super) open: Arc<Mutex<OpenCalls<B>>>,
}

impl<B: Batch> Shared<B> {
    pub(super) fn state(&self) -> MutexGuard<'_, State<B>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more may wait; if not, when to try again, as far as that can be said.
    pub(super) fn admit(
        &self,
        state: &State<B>,
        key: Option<u64>,
        bytes: usize,
        patience: Duration,
        now: Instant,
    ) -> std::result::Result<(), Option<Duration>> {
        let queue = &state.queue;
        if self.may_have_room(state) && !queue.is_held(key) {
            return Ok(());
        }
        let about_to_go = match state.starting {
            true => self.limits.batch_rows,
            false => 0,
        };
        queue.room(key, bytes, patience, about_to_go, &self.limits, now)
    }

    pub(super) fn may_have_room(&self, state: &State<B>) -> bool {
        let BatchLimits { workers, extra, .. } = &self.limits;
        !state.starting && state.workers < *workers && (state.running < *workers || extra.is_left())
    }

    /// Counts one more worker, if there is a place for it. If not, a batch of this queue is under way, or about to be,
    /// whose end gives its place on.
    pub(super) fn count_in(&self, state: &mut State<B>) -> bool {
        let BatchLimits { workers, extra, .. } = &self.limits;
        if state.starting || state.workers >= *workers || state.running >= *workers && !extra.take() {
            return false;
        }
        state.workers += 1;
        state.running += 1;
        state.starting = true;
        true
    }

    /// Tells those that have waited for too long that they were not sent.
    pub(super) fn expire(&self) {
        let Some(before) = Instant::now().checked_sub(self.limits.queue_timeout) else {
            return;
        };
        let expired = self.state().queue.expire(before);
        self.were_late(expired);
    }

    /// Tells them that they were not sent in time.
    pub(super) fn were_late(&self, late: Vec<Waiting<Request<B>>>) {
        if late.is_empty() {
            return;
        }
        self.state().counts.expired += late.len() as u64;
        for waiting in late {
            let error = Error::Deadline {
                waited: waiting.since.elapsed(),
                sent: false,
            };
            // A caller that has gone needs no answer.
            let _gone = waiting.item.answer.send(Err(error));
        }
    }

    /// Starts a worker for what waits, if there is a place.
    pub(super) fn start_worker(self: &Arc<Self>, mut state: MutexGuard<'_, State<B>>) {
        if state.queue.first_in_line().is_none() || !self.count_in(&mut state) {
            return;
        }
        let timer = state.timer.take();
        // The caller that starts the first worker is on a runtime.
        let home = state.home.get_or_insert_with(Handle::current).clone();
        let worker = Arc::new(WorkerState::new(self.clone(), home.id()));
        state.worker_states.push(Arc::downgrade(&worker));
        drop(state);
        (self.spawn)(&home, worker, timer.unwrap_or_else(Timer::new));
    }

    /// Starts workers on the current runtime if that of the others has ended.
    pub(super) fn adopt_workers(self: &Arc<Self>) {
        let mut state = self.state();
        if state.home.is_none() {
            state.home = Some(Handle::current());
            self.start_worker(state);
        }
    }

    /// Looks whether the runtime of the workers is still run, and does without it if not.
    pub(super) fn look_after_workers(self: &Arc<Self>, liveness: &mut LivenessCheck) {
        self.adopt_workers();
        let Some(home) = self.state().home.clone() else {
            return;
        };
        let here = Handle::current();
        if home.id() == here.id() || !liveness.is_gone(&home) {
            return;
        }
        let gone: Vec<_> = {
            let mut state = self.state();
            if state.home.as_ref().is_none_or(|at| at.id() != home.id()) {
                return;
            }
            state.home = Some(here);
            let workers = state.worker_states.iter().filter_map(Weak::upgrade);
            workers.filter(|worker| worker.home == home.id()).collect()
        };
        tracing::warn!("the runtime that sends batches is not being run; they are sent from that of a caller");
        for worker in gone {
            worker.abandon();
        }
        self.start_worker(self.state());
    }

    /// No connection was to be had.
    pub(super) fn not_served(&self, error: &AcquireError) {
        let refused = {
            let mut state = self.state();
            match error.reason() {
                Reason::Timeout { .. } => {
                    let before = Instant::now().checked_sub(self.limits.queue_timeout);
                    before.map_or_else(Vec::new, |before| state.queue.expire(before))
                }
                // The line for connections is too long for these; those behind them have more patience.
                Reason::Overloaded => state.queue.drain(self.limits.batch_rows),
                Reason::Unavailable | Reason::Permanent | Reason::Closed => state.queue.drain(usize::MAX),
            }
        };
        for waiting in refused {
            // A caller that has gone needs no answer.
            let _gone = waiting.item.answer.send(Err(error.clone().into()));
        }
    }

    /// When the next in line will have waited for too long. Whoever comes meanwhile will wait longer.
    pub(super) fn next_deadline(&self) -> Duration {
        let oldest = self.state().queue.oldest();
        let waited = oldest.map_or(Duration::ZERO, |since| since.elapsed());
        let left = self.limits.queue_timeout.saturating_sub(waited);
        left.max(Duration::from_millis(1))
    }
}

impl<B: Batch> WorkerState<B> {
    /// Of a worker that is counted already.
    fn new(shared: Arc<Shared<B>>, home: runtime::Id) -> Self {
        Self {
            shared,
            counted: AtomicBool::new(true),
            running: AtomicBool::new(true),
            starting: AtomicBool::new(true),
            home,
            open: Arc::default(),
        }
    }

    /// How long the first in line is still willing to wait. `None` if nobody waits, or the worker has made way: it is
    /// counted out then. The worker's last batch took so long.
    pub(super) fn time_left(&self, took: Option<Duration>) -> Option<Duration> {
        let mut state = self.shared.state();
        if let Some(took) = took {
            state.queue.finished(took);
        }
        match state.queue.first_in_line() {
            Some(since) if self.counted.load(Relaxed) => {
                drop(state);
                Some(self.shared.limits.queue_timeout.saturating_sub(since.elapsed()))
            }
            None => {
                // Under the lock that saw the line empty: what comes next starts a worker.
                self.count_out(&mut state);
                None
            }
            Some(_) => None,
        }
    }

    pub(super) fn take(&self, now: Instant) -> Vec<Waiting<Request<B>>> {
        let shared = &self.shared;
        let mut state = shared.state();
        self.has_started(&mut state);
        let Taken { batch, late } = state.queue.take(&shared.limits, now);
        if !batch.is_empty() {
            state.counts.batches += 1;
            state.counts.requests += batch.len() as u64;
        }
        // For what is too much for this one.
        shared.start_worker(state);
        shared.were_late(late);
        batch
    }

    /// Lets another worker have this one's place.
    pub(super) fn make_way(&self) {
        let mut state = self.shared.state();
        if self.counted.swap(false, Relaxed) {
            state.workers -= 1;
        }
        self.shared.start_worker(state);
    }

    /// Does without this worker: nobody runs it. Its callers learn that, and its keys are free.
    pub(super) fn abandon(&self) {
        let OpenCalls { callers, keys } = std::mem::take(&mut *lock(&self.open));
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
            state.workers -= 1;
        }
        if self.running.swap(false, Relaxed) {
            if state.running > self.shared.limits.workers {
                self.shared.limits.extra.give_back();
            }
            state.running -= 1;
        }
    }
}

impl<B: Batch> Server for WorkerState<B> {
    fn release(&self, keys: Vec<u64>) {
        self.shared.state().queue.release(keys.into_iter());
    }

    fn step_aside(&self, keys: Vec<u64>) {
        let mut state = self.shared.state();
        state.queue.release(keys.into_iter());
        self.count_out(&mut state);
        self.shared.start_worker(state);
    }

    fn start_next(&self) {
        self.shared.start_worker(self.shared.state());
    }
}

impl<B: Batch> Drop for WorkerState<B> {
    fn drop(&mut self) {
        let mut state: MutexGuard<'_, _> = self.shared.state();
        // A panic ends a worker at work; one that never got to work can only have met the end of its runtime.
        let panicked = std::thread::panicking() && !self.starting.load(Relaxed);
        let stopped = self.counted.load(Relaxed) && !panicked;
        self.count_out(&mut state);
        state.worker_states.retain(|worker| worker.strong_count() > 0);
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
            self.shared.start_worker(state);
        }
    }
}
