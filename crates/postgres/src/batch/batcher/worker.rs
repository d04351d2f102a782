//! A worker takes one batch after another from the queue and serves it.
//!
//! Invariant: a batch is taken only with a connection in hand, so that every request that is taken can be sent at once.

use std::{panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Duration};

use cenote_trace::{RequestContext, scope};
use futures_util::FutureExt;
use tokio::{
    runtime::Handle,
    task::yield_now,
    time::{Instant, sleep},
};

use super::{
    calls::{Batch, BatchCalls, Request},
    queue::Waiting,
    scheduler::WorkerState,
    spans::begin_batch,
};
use tracing::Instrument;

use crate::{Error, Pooled, error::panic_text, timer::Timer};

/// After this time another worker may start beside a slow batch. A few times the duration of a usual batch.
const PATIENCE: Duration = Duration::from_millis(20);

/// A worker.
struct Worker<B: Batch> {
    state: Arc<WorkerState<B>>,
    /// Bounds a batch by [`PATIENCE`]. Kept from batch to batch, because arming a timer costs more than the rest.
    timer: Timer,
}

/// Starts a worker on this runtime.
pub(super) fn spawn<B: Batch>(runtime: &Handle, state: Arc<WorkerState<B>>, timer: Timer) {
    runtime.spawn(Worker { state, timer }.run());
}

/// Returns the request that a batch works for, if it works for one alone.
fn context_of<B: Batch>(batch: &[Waiting<Request<B>>]) -> Option<Arc<RequestContext>> {
    match batch {
        [one] => one.item.context.clone(),
        _ => None,
    }
}

impl<B: Batch> Worker<B> {
    async fn run(self) {
        let shared = &*self.state.shared;
        let mut took = None;
        while let Some(left) = self.state.time_left(took.take()) {
            let mut connection = match shared.pool.acquire_within(left).await {
                Ok(connection) => connection,
                Err(error) => {
                    shared.not_served(&error);
                    continue;
                }
            };
            // Callers that are ready to run submit their requests first, so they share this batch.
            yield_now().await;
            let now = Instant::now();
            let mut batch = self.state.take(now);
            if let Some(first) = batch.first() {
                let requests = batch.len();
                connection.usage_mut().set_batch(now - first.since, requests);
                let context = context_of(&batch);
                let traced = batch.iter_mut().filter_map(|waiting| waiting.item.trace.take());
                let span = begin_batch(traced, requests);
                let calls = BatchCalls::new(self.state.clone(), self.state.open.clone(), batch);
                scope(context, self.serve(connection, &calls, now).instrument(span)).await;
                took = Some(now.elapsed());
            }
        }
        // The replaced timer is dropped after the lock is released.
        let _before = shared.state().timer.replace(self.timer);
    }

    async fn serve(&self, connection: Pooled<'_>, calls: &BatchCalls<B>, now: Instant) {
        let shared = &*self.state.shared;
        let mut aborted = pin!(shared.abort.notified());
        // A panic of the user's code ends the batch, not the worker. Unanswered callers get the panic's text.
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
            self.state.make_way();
            loop {
                tokio::select! {
                    biased;
                    () = &mut running => break,
                    () = &mut aborted => break,
                    () = calls.all_gone() => break,
                    // If all workers are this slow, nothing else answers the requests whose time is over.
                    () = sleep(shared.next_deadline()) => shared.expire(),
                }
            }
        }
        // Before the worker looks for the next requests: some may wait for these keys.
        calls.release();
    }
}
