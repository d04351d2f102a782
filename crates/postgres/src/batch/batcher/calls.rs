//! The requests of one batch and their answers.
//!
//! Invariant: each caller is answered at most once, and a key is released when no open request of the batch has it.

use std::{
    collections::HashSet,
    future::poll_fn,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use cenote_trace::RequestContext;
use tokio::{runtime::Handle, sync::oneshot};

use super::{limits::Weight, queue::Waiting, spans::TracedCaller};
use crate::{Pooled, Result};

/// Serves requests that are sent together. See [`Batcher`](crate::Batcher).
pub trait Batch: Sized + Send + Sync + 'static {
    /// The request of one caller.
    type Request: Send + Sync + 'static;
    /// The answer to one request.
    type Response: Send + 'static;

    /// Returns what a request adds to a statement. The batcher bounds batches and its queue by it.
    fn weight(&self, request: &Self::Request) -> Weight;

    /// Returns a hash of what a request is about, or `None` if its order does not matter.
    ///
    /// Requests with equal hashes are sent in the order in which they were submitted, and are never in two batches at
    /// once.
    fn key(&self, request: &Self::Request) -> Option<u64>;

    /// Serves the requests of a batch and [answers](BatchCalls::answer) each. The caller of a request that is not
    /// answered gets [`Error::Lost`](crate::Error::Lost): its outcome is unknown.
    ///
    /// # Cancel safety
    ///
    /// The future runs in its own task. It is dropped if all callers of the batch have gone, or if the batcher is told
    /// to [`abort`](crate::Batcher::abort).
    fn run(&self, connection: Pooled<'_>, calls: &BatchCalls<Self>) -> impl Future<Output = ()> + Send;
}

/// A request and the channel for its answer.
pub(super) struct Request<B: Batch> {
    pub(super) request: B::Request,
    pub(super) answer: oneshot::Sender<Result<B::Response>>,
    /// The caller is on another runtime than the workers and checks that their runtime still runs.
    pub(super) is_watched: bool,
    /// The request that the caller works for.
    pub(super) context: Option<Arc<RequestContext>>,
    /// Only of a caller that is traced.
    pub(super) trace: Option<Box<TracedCaller>>,
}

/// What a batch needs of the worker that serves it. A trait, so that this module need not import the worker.
pub(super) trait ServingWorker: Send + Sync + 'static {
    /// Releases keys, so that the next requests with them can be taken.
    fn release(&self, keys: Vec<u64>);

    /// Stops counting the batch as running, and releases keys.
    fn step_aside(&self, keys: Vec<u64>);

    /// Starts a worker for waiting requests, if the limits allow one.
    fn start_next(&self);
}

/// The requests of one batch, for [`Batch::run`] to answer.
pub struct BatchCalls<B: Batch> {
    open: Arc<Mutex<OpenCalls<B>>>,
    worker: Arc<dyn ServingWorker>,
    requests: Vec<B::Request>,
}

/// The channel for the answer to one request.
type Answer<B> = oneshot::Sender<Result<<B as Batch>::Response>>;

/// The unanswered callers and unreleased keys of a batch. The worker shares them, so that they can be told if the
/// worker's runtime stops.
pub(super) struct OpenCalls<B: Batch> {
    pub(super) callers: Vec<Option<Answer<B>>>,
    /// The key of each request, until it is released.
    pub(super) keys: Vec<Option<u64>>,
}

impl<B: Batch> Default for OpenCalls<B> {
    fn default() -> Self {
        Self {
            callers: Vec::new(),
            keys: Vec::new(),
        }
    }
}

impl<B: Batch> BatchCalls<B> {
    pub(super) fn new(
        worker: Arc<dyn ServingWorker>,
        shared: Arc<Mutex<OpenCalls<B>>>,
        taken: Vec<Waiting<Request<B>>>,
    ) -> Self {
        let mut requests = Vec::with_capacity(taken.len());
        let mut open = OpenCalls {
            callers: Vec::with_capacity(taken.len()),
            keys: Vec::with_capacity(taken.len()),
        };
        for Waiting { item, key, .. } in taken {
            requests.push(item.request);
            open.callers.push(Some(item.answer));
            open.keys.push(key);
        }
        *lock(&shared) = open;
        Self {
            open: shared,
            worker,
            requests,
        }
    }

    /// Returns the requests, in the order in which they were submitted.
    pub fn requests(&self) -> &[B::Request] {
        &self.requests
    }

    /// Answers the request at this index. Does nothing if it was answered before.
    pub fn answer(&self, index: usize, answer: Result<B::Response>) {
        let caller = self.open().callers.get_mut(index).and_then(Option::take);
        if let Some(caller) = caller {
            // A caller that has gone needs no answer.
            let _gone = caller.send(answer);
        }
    }

    /// Answers all requests that were not answered before. `answer` gets the index of a request and may call other
    /// methods of this batch.
    pub fn answer_all(&self, answer: impl FnMut(usize) -> Result<B::Response>) {
        self.answer_each(0..self.requests.len(), answer);
    }

    /// Like [`answer_all`](Self::answer_all), for the requests with these indices.
    pub fn answer_each(&self, indices: Range<usize>, mut answer: impl FnMut(usize) -> Result<B::Response>) {
        let callers = self.take_callers(indices.clone());
        // The lock is released: `answer` is the user's code. It may be slow, and may call this batch's other methods.
        for (index, caller) in indices.zip(callers) {
            if let Some(caller) = caller {
                // A caller that has gone needs no answer.
                let _gone = caller.send(answer(index));
            }
        }
    }

    /// Takes the callers with these indices. There are none if the worker was abandoned.
    fn take_callers(&self, indices: Range<usize>) -> Vec<Option<Answer<B>>> {
        let mut open = self.open();
        indices.map(|index| open.callers.get_mut(index)?.take()).collect()
    }

    /// Tells the batcher that the unanswered requests wait for something slow, such as a lock.
    ///
    /// The batch no longer counts as running, so another can start. Only requests with the keys of unanswered requests
    /// still wait for it.
    pub fn step_aside(&self) {
        let mut open = self.open();
        let OpenCalls { callers, keys } = &mut *open;
        let pending: HashSet<u64> = callers
            .iter()
            .zip(&*keys)
            .filter_map(|(caller, key)| caller.as_ref().and(*key))
            .collect();
        let done = keys.iter_mut().filter_map(|key| {
            let is_done = key.is_some_and(|key| !pending.contains(&key));
            is_done.then(|| key.take()).flatten()
        });
        let done: Vec<u64> = done.collect();
        drop(open);
        self.worker.step_aside(done);
    }

    /// Releases the remaining keys. Returns false if there were none.
    pub(super) fn release(&self) -> bool {
        let mut open = self.open();
        let keys: Vec<u64> = open.keys.iter_mut().filter_map(Option::take).collect();
        drop(open);
        if keys.is_empty() {
            return false;
        }
        self.worker.release(keys);
        true
    }

    /// Completes when all unanswered callers have gone.
    pub(super) async fn all_gone(&self) {
        poll_fn(|context| {
            let mut open = self.open();
            // It is enough to be woken by one caller that still waits: when it goes, all are checked again.
            let mut waiting = open.callers.iter_mut().flatten();
            let waits = waiting.any(|caller| caller.poll_closed(context).is_pending());
            drop(open);
            match waits {
                true => Poll::Pending,
                false => Poll::Ready(()),
            }
        })
        .await;
    }

    fn open(&self) -> MutexGuard<'_, OpenCalls<B>> {
        lock(&self.open)
    }
}

impl<B: Batch> Drop for BatchCalls<B> {
    fn drop(&mut self) {
        if self.release() && Handle::try_current().is_ok() {
            // For requests that waited for one of the keys.
            self.worker.start_next();
        }
    }
}

/// Locks the open calls. The lock is held for a few instructions, never across an await or while an answer is made.
pub(super) fn lock<B: Batch>(open: &Mutex<OpenCalls<B>>) -> MutexGuard<'_, OpenCalls<B>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use tokio::time::Instant;

    use super::*;
    use crate::{batch::batcher::queue::Queue, error::Error};

    struct Doubler;

    impl Batch for Doubler {
        type Request = u32;
        type Response = u32;

        fn weight(&self, _: &u32) -> Weight {
            Weight { rows: 1, bytes: 4 }
        }

        fn key(&self, _: &u32) -> Option<u64> {
            None
        }

        async fn run(&self, _: Pooled<'_>, _: &BatchCalls<Self>) {}
    }

    struct NoWorker;

    impl ServingWorker for NoWorker {
        fn release(&self, _: Vec<u64>) {}

        fn step_aside(&self, _: Vec<u64>) {}

        fn start_next(&self) {}
    }

    fn batch(requests: Range<u32>) -> (BatchCalls<Doubler>, Vec<oneshot::Receiver<Result<u32>>>) {
        let now = Instant::now();
        let (mut queue, mut answers) = (Queue::new(now), Vec::new());
        for request in requests {
            let (answer, answered) = oneshot::channel();
            let is_watched = false;
            let request = Request {
                request,
                answer,
                is_watched,
                context: None,
                trace: None,
            };
            queue.push(request, None, Weight { rows: 1, bytes: 4 }, None, now);
            answers.push(answered);
        }
        let taken = queue.drain(usize::MAX);
        (BatchCalls::new(Arc::new(NoWorker), Arc::default(), taken), answers)
    }

    #[test]
    fn making_an_answer_may_use_the_other_methods_of_the_batch() {
        let (calls, mut answers) = batch(0..3);
        let (ended, end) = mpsc::channel();
        let answering = thread::spawn(move || {
            calls.answer_all(|index| {
                calls.answer(index, Err(Error::RowCount(0)));
                calls.answer_each(0..3, |_| Err(Error::RowCount(1)));
                calls.step_aside();
                Ok(calls.requests()[index] * 2)
            });
            ended.send(()).unwrap();
        });
        end.recv_timeout(Duration::from_secs(10))
            .expect("answering waits for a lock that it holds");
        answering.join().unwrap();
        let told: Vec<u32> = answers
            .iter_mut()
            .map(|answer| answer.try_recv().unwrap().unwrap())
            .collect();
        assert_eq!(told, [0, 2, 4]);
    }
}
