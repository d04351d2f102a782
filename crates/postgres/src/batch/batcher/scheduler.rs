//! Starts the workers of a batcher, counts them, and notices when they or their runtime end.
//!
//! Invariant: a worker that ends, however it ends, is no longer counted, and the callers that it served, or would have
//! served, are answered.
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
    calls::{Batch, OpenCalls, Request, ServingWorker, lock},
    limits::{BatchLimits, BatchSizes},
    queue::{Queue, Taken, Waiting},
};
use crate::{AcquireError, Error, Pool, Reason, runtime_liveness::LivenessCheck, timer::Timer};

pub(super) struct Shared<B: Batch> {
    pub(super) batch: B,
    pub(super) pool: Pool,
    pub(super) limits: BatchLimits,
    pub(super) abort: Notify,
    /// The lock is held to add a request, to take a batch or to count. It is never held across an await, while a
    /// request is dropped, or while a caller is answered: that is the user's code.
    pub(super) state: Mutex<State<B>>,
    /// Starts a worker on a runtime. A function pointer, because the module of workers imports this one.
    pub(super) spawn: fn(&Handle, Arc<WorkerState<B>>, Timer),
}

pub(super) struct State<B: Batch> {
    pub(super) queue: Queue<Request<B>>,
    /// Workers that take one batch after another.
    pub(super) workers: u32,
    /// All batches that run, including those of workers that were replaced because they were slow.
    pub(super) running: u32,
    /// A worker was started and has not taken a batch yet, so another is not needed.
    pub(super) starting: bool,
    /// The timer of the last worker that ended, for the next one.
    pub(super) timer: Option<Timer>,
    /// The runtime for workers: that of the first caller, until it ends.
    pub(super) runtime: Option<Handle>,
    /// All workers that have not been dropped.
    pub(super) worker_states: Vec<Weak<WorkerState<B>>>,
    pub(super) counts: Counts,
    pub(super) last_refusal: Option<Instant>,
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) batches: u64,
    pub(super) batch_sizes: BatchSizes,
    pub(super) refused: u64,
    pub(super) expired: u64,
}

/// How a worker is counted. The flags change only under the lock of [`State`], so `Relaxed` is enough.
pub(super) struct WorkerState<B: Batch> {
    pub(super) shared: Arc<Shared<B>>,
    /// It is counted in [`State::workers`].
    pub(super) counted: AtomicBool,
    /// It is counted in [`State::running`].
    pub(super) running: AtomicBool,
    /// It has not taken a batch yet.
    pub(super) starting: AtomicBool,
    /// The runtime of the worker.
    pub(super) runtime: runtime::Id,
    /// The open calls of the current batch.
    pub(super) open: Arc<Mutex<OpenCalls<B>>>,
}

impl<B: Batch> Shared<B> {
    pub(super) fn state(&self) -> MutexGuard<'_, State<B>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a request to the queue, or refuses it with the time after which to try again, if it can be estimated.
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

    /// Counts one more worker, if the limits allow one. If not, a batch of this queue is running or about to run, and
    /// its end starts a worker.
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

    /// Answers the requests that have waited longer than `queue_timeout`.
    pub(super) fn expire(&self) {
        let Some(before) = Instant::now().checked_sub(self.limits.queue_timeout) else {
            return;
        };
        let expired = self.state().queue.expire(before);
        self.were_late(expired);
    }

    /// Answers requests that were not sent in time.
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

    /// Starts a worker if requests wait and the limits allow one.
    pub(super) fn start_worker(self: &Arc<Self>, mut state: MutexGuard<'_, State<B>>) {
        if state.queue.first_in_line().is_none() || !self.count_in(&mut state) {
            return;
        }
        let timer = state.timer.take();
        // The first worker is always started by a caller, which runs on a runtime.
        let runtime = state.runtime.get_or_insert_with(Handle::current).clone();
        let worker = Arc::new(WorkerState::new(self.clone(), runtime.id()));
        state.worker_states.push(Arc::downgrade(&worker));
        drop(state);
        (self.spawn)(&runtime, worker, timer.unwrap_or_else(Timer::new));
    }

    /// Starts a worker on the current runtime if that of the workers has ended.
    pub(super) fn adopt_workers(self: &Arc<Self>) {
        let mut state = self.state();
        if state.runtime.is_none() {
            state.runtime = Some(Handle::current());
            self.start_worker(state);
        }
    }

    /// Checks that the runtime of the workers is still running. If not, the workers are replaced by one on the current
    /// runtime.
    pub(super) fn look_after_workers(self: &Arc<Self>, liveness: &mut LivenessCheck) {
        self.adopt_workers();
        let Some(runtime) = self.state().runtime.clone() else {
            return;
        };
        let here = Handle::current();
        if runtime.id() == here.id() || !liveness.is_gone(&runtime) {
            return;
        }
        let gone: Vec<_> = {
            let mut state = self.state();
            if state.runtime.as_ref().is_none_or(|at| at.id() != runtime.id()) {
                return;
            }
            state.runtime = Some(here);
            let workers = state.worker_states.iter().filter_map(Weak::upgrade);
            let gone = workers.filter(|worker| worker.runtime == runtime.id()).collect();
            drop(state);
            gone
        };
        tracing::warn!("the runtime that sends batches is not being run; they are sent from that of a caller");
        for worker in gone {
            worker.abandon();
        }
        self.start_worker(self.state());
    }

    /// Answers requests for which no connection could be acquired.
    pub(super) fn not_served(&self, error: &AcquireError) {
        let refused = {
            let mut state = self.state();
            match error.reason() {
                Reason::Timeout { .. } => {
                    let before = Instant::now().checked_sub(self.limits.queue_timeout);
                    before.map_or_else(Vec::new, |before| state.queue.expire(before))
                }
                Reason::Unavailable | Reason::Permanent | Reason::Closed => state.queue.drain(usize::MAX),
                // The pool's queue is too long for these requests, or a hook failed. Those behind them may still be served in
                // time.
                _ => state.queue.drain(self.limits.batch_rows),
            }
        };
        for waiting in refused {
            // A caller that has gone needs no answer.
            let _gone = waiting.item.answer.send(Err(error.clone().into()));
        }
    }

    /// Returns the time until the oldest request has waited too long. Later requests expire later.
    pub(super) fn next_deadline(&self) -> Duration {
        let oldest = self.state().queue.oldest();
        let waited = oldest.map_or(Duration::ZERO, |since| since.elapsed());
        let left = self.limits.queue_timeout.saturating_sub(waited);
        left.max(Duration::from_millis(1))
    }
}

impl<B: Batch> WorkerState<B> {
    /// Creates the state of a worker that is counted already.
    fn new(shared: Arc<Shared<B>>, runtime: runtime::Id) -> Self {
        Self {
            shared,
            counted: AtomicBool::new(true),
            running: AtomicBool::new(true),
            starting: AtomicBool::new(true),
            runtime,
            open: Arc::default(),
        }
    }

    /// Returns how long the first request may still wait; `took` is the duration of the worker's last batch.
    ///
    /// `None` tells the worker to end: nothing waits, or the worker was replaced because it was slow.
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
                // Under the same lock that saw the queue empty: a request that comes next starts a worker.
                self.count_out(&mut state);
                None
            }
            Some(_) => None,
        }
    }

    #[expect(
        clippy::significant_drop_tightening,
        reason = "the guard moves into `start_worker`, which releases it"
    )]
    pub(super) fn take(&self, now: Instant) -> Vec<Waiting<Request<B>>> {
        let shared = &self.shared;
        let mut state = shared.state();
        self.has_started(&mut state);
        let Taken { batch, late } = state.queue.take(&shared.limits, now);
        if !batch.is_empty() {
            state.counts.batches += 1;
            state.counts.batch_sizes.count(batch.len());
            state.counts.requests += batch.len() as u64;
        }
        // For requests that did not fit in this batch.
        shared.start_worker(state);
        shared.were_late(late);
        batch
    }

    /// Lets another worker start because this one's batch is slow.
    pub(super) fn make_way(&self) {
        let mut state = self.shared.state();
        if self.counted.swap(false, Relaxed) {
            state.workers -= 1;
        }
        self.shared.start_worker(state);
    }

    /// Gives up a worker whose runtime is not running. Answers its callers and releases its keys.
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

impl<B: Batch> ServingWorker for WorkerState<B> {
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
        // A panic can only end a worker that was working. One that never ran was dropped because its runtime ended.
        let panicked = std::thread::panicking() && !self.starting.load(Relaxed);
        let stopped = self.counted.load(Relaxed) && !panicked;
        self.count_out(&mut state);
        state.worker_states.retain(|worker| worker.strong_count() > 0);
        if stopped {
            // The runtime is shutting down. Its own callers get an error; callers on other runtimes start workers
            // there.
            if state
                .runtime
                .as_ref()
                .is_some_and(|runtime| runtime.id() == self.runtime)
            {
                state.runtime = None;
            }
            let waiting = state.queue.take_out(|request| !request.is_watched);
            drop(state);
            for waiting in waiting {
                let _gone = waiting.item.answer.send(Err(Error::Disconnected {
                    cause: "the runtime of the batcher has ended".into(),
                }));
            }
        } else if Handle::try_current().is_ok() {
            // The limits allow another worker again.
            self.shared.start_worker(state);
        }
    }
}
