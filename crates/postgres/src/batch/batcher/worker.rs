//! Takes one batch after another to the database. Invariant: a batch is taken only with a connection in hand, so that
//! nothing is taken that cannot be sent at once.

use std::{panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{
    runtime::Handle,
    task::yield_now,
    time::{Instant, sleep},
};

use super::{
    calls::{Batch, BatchCalls},
    scheduler::WorkerState,
};
use crate::{Error, Pooled, error::panic_text, timer::Timer};

/// A batch that takes longer makes way for another worker.
const PATIENCE: Duration = Duration::from_millis(20);

/// One worker at work.
struct Worker<B: Batch> {
    state: Arc<WorkerState<B>>,
    /// For the patience with batches.
    timer: Timer,
}

/// Starts a worker on this runtime.
pub(super) fn spawn<B: Batch>(runtime: &Handle, state: Arc<WorkerState<B>>, timer: Timer) {
    runtime.spawn(Worker { state, timer }.run());
}

impl<B: Batch> Worker<B> {
    async fn run(self) {
        let shared = &*self.state.shared;
        let mut took = None;
        while let Some(left) = self.state.time_left(took.take()) {
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
            let batch = self.state.take(now);
            if !batch.is_empty() {
                let calls = BatchCalls::new(self.state.clone(), self.state.open.clone(), batch);
                self.serve(connection, &calls, now).await;
                took = Some(now.elapsed());
            }
        }
        // What it replaces is dropped after the lock is let go.
        let _before = shared.state().timer.replace(self.timer);
    }

    async fn serve(&self, connection: Pooled<'_>, calls: &BatchCalls<B>, now: Instant) {
        let shared = &*self.state.shared;
        let mut aborted = pin!(shared.abort.notified());
        // A panic is the end of the batch, not of the worker: those who were not answered learn of it.
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
                    // All workers may be as slow as this one: then nobody else sees to those that wait.
                    () = sleep(shared.next_deadline()) => shared.expire(),
                }
            }
        }
        // Before the worker looks whether anything waits.
        calls.release();
    }
}
