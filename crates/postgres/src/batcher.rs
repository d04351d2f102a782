//! One statement for many callers: what comes while the database is busy goes together.
//!
//! Nothing waits for company: a request that finds a lane free is sent at once. Only what comes while all lanes are
//! at the database gathers, and then goes as one, so the busier the database the more each statement does.
//!
//! Invariant: a request in the queue has a lane that will take it, and every caller gets exactly the answer to its
//! own request.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::{Error, Result};

/// Batches under way at once; more would each carry less.
const LANES: u32 = 2;
/// Requests in one batch.
const MOST_REQUESTS: usize = 512;
/// Bytes in one batch, unless a single request has more.
const MOST_BYTES: usize = 1024 * 1024;

/// What is done with requests that go together.
pub trait Batch: Send + Sync + 'static {
    /// What one caller asks for.
    type Request: Send + 'static;
    /// What it gets.
    type Response: Send + 'static;

    /// About how many bytes a request adds to a statement.
    fn weight(&self, request: &Self::Request) -> usize;

    /// Serves requests together, and answers each in the order in which they are given.
    ///
    /// # Cancel safety
    ///
    /// Runs in a task of its own; a caller that gives up does not drop it.
    fn run(
        &self,
        requests: Vec<Self::Request>,
    ) -> impl Future<Output = Vec<Result<Self::Response>>> + Send;
}

/// Gathers requests while the database is busy and serves them in batches.
///
/// Cloning it gives another handle to the same queue.
pub struct Batcher<B: Batch>(Arc<Shared<B>>);

struct Shared<B: Batch> {
    batch: B,
    most_waiting: usize,
    /// Held to put something in or take a batch out, never across an await.
    queue: Mutex<Queue<B>>,
}

struct Queue<B: Batch> {
    waiting: VecDeque<Waiting<B>>,
    lanes: u32,
}

struct Waiting<B: Batch> {
    request: B::Request,
    answer: oneshot::Sender<Result<B::Response>>,
}

impl<B: Batch> Batcher<B> {
    /// A batcher that lets at most `most_waiting` requests wait.
    pub fn new(batch: B, most_waiting: usize) -> Self {
        let queue = Queue {
            waiting: VecDeque::new(),
            lanes: 0,
        };
        Self(Arc::new(Shared {
            batch,
            most_waiting,
            queue: Mutex::new(queue),
        }))
    }

    /// Serves a request, together with others if the database is busy.
    ///
    /// # Errors
    ///
    /// [`Error::QueueFull`] if too many requests wait; otherwise what [`Batch::run`] answered.
    ///
    /// # Cancel safety
    ///
    /// A request that is dropped while it waits is not sent; afterwards it goes on without its caller. Nobody else
    /// in the same batch is affected.
    pub async fn submit(&self, request: B::Request) -> Result<B::Response> {
        let (answer, answered) = oneshot::channel();
        self.enqueue(Waiting { request, answer })?;
        match answered.await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Lost {
                cause: "the batch was aborted".into(),
            }),
        }
    }

    fn enqueue(&self, waiting: Waiting<B>) -> Result<()> {
        let mut queue = self.0.queue();
        if queue.waiting.len() >= self.0.most_waiting {
            return Err(Error::QueueFull);
        }
        queue.waiting.push_back(waiting);
        if queue.lanes < LANES {
            queue.lanes += 1;
            drop(queue);
            let lane = Lane {
                shared: self.0.clone(),
                counted: true,
            };
            tokio::spawn(lane.run());
        }
        Ok(())
    }
}

impl<B: Batch> Clone for Batcher<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B: Batch> fmt::Debug for Batcher<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue = self.0.queue();
        f.debug_struct("Batcher")
            .field("waiting", &queue.waiting.len())
            .field("lanes", &queue.lanes)
            .finish()
    }
}

impl<B: Batch> Shared<B> {
    fn queue(&self) -> MutexGuard<'_, Queue<B>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what goes together; whoever has given up is left out.
    fn take(&self, queue: &mut Queue<B>) -> Vec<Waiting<B>> {
        let mut batch = Vec::with_capacity(queue.waiting.len().min(MOST_REQUESTS));
        let mut bytes = 0;
        while batch.len() < MOST_REQUESTS
            && let Some(next) = queue.waiting.front()
        {
            bytes += self.batch.weight(&next.request);
            if bytes > MOST_BYTES && !batch.is_empty() {
                break;
            }
            batch.extend(
                queue
                    .waiting
                    .pop_front()
                    .filter(|next| !next.answer.is_closed()),
            );
        }
        batch
    }
}

/// A lane at work. However it ends, it is counted out, and those it was working for learn of it by the loss of
/// their answers.
struct Lane<B: Batch> {
    shared: Arc<Shared<B>>,
    counted: bool,
}

impl<B: Batch> Lane<B> {
    async fn run(mut self) {
        loop {
            // Whoever is ready to ask asks first.
            tokio::task::yield_now().await;
            let batch = {
                let mut queue = self.shared.queue();
                let batch = self.shared.take(&mut queue);
                if batch.is_empty() && queue.waiting.is_empty() {
                    // Counted out under the lock that saw the queue empty: what comes next starts a lane.
                    queue.lanes -= 1;
                    self.counted = false;
                    return;
                }
                batch
            };
            if batch.is_empty() {
                continue;
            }
            let (requests, callers): (Vec<_>, Vec<_>) = batch
                .into_iter()
                .map(|Waiting { request, answer }| (request, answer))
                .unzip();
            let answers = self.shared.batch.run(requests).await;
            for (caller, answer) in callers.into_iter().zip(answers) {
                // A caller that has gone needs no answer.
                let _gone = caller.send(answer);
            }
        }
    }
}

impl<B: Batch> Drop for Lane<B> {
    fn drop(&mut self) {
        if self.counted {
            self.shared.queue().lanes -= 1;
        }
    }
}
