//! Gathers the requests of many callers while the database is busy, and sends them together.
//!
//! A request never waits for others: if a worker is free, it is sent as soon as there is a connection. Only requests
//! that come while all workers are busy, or while no connection is free, gather and go in one batch. So the busier the
//! database, the more each statement does.
//!
//! Invariant: a worker exists for every request in the queue, and every caller gets the answer to its own request.

mod calls;
mod limits;
mod queue;
mod scheduler;
mod spans;
mod worker;

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
    time::{Instant, timeout},
};

use self::{
    calls::Request,
    queue::{Queue, Ticket},
    scheduler::{Counts, Shared, State},
    spans::TracedCaller,
};
pub use self::{
    calls::{Batch, BatchCalls},
    limits::{BatchLimits, BatchSizes, ByteBound, ExtraBatches, QueueStats, Weight},
};
use crate::{
    Error, Pool, Result,
    runtime_liveness::{CHECK_INTERVAL, LivenessCheck},
};

/// A queue counts as overloaded for this long after a refusal.
const REFUSING: Duration = Duration::from_secs(10);

/// Gathers requests while the database is busy and serves them in batches.
///
/// [`Loader`](crate::Loader) and [`Combiner`](crate::Combiner) are built on it, for reads and writes by key.
///
/// Requests are served first come, first served, regardless of the caller: a large request delays others by no more
/// than the time to serve what was submitted before them.
///
/// A clone is another handle to the same queue. A batcher costs little: one for each core, all over one pool, is fine.
/// Its work runs on the tokio runtime that submitted the first request; when that runtime has ended or is not run, it
/// continues on the runtime of a caller.
///
/// ```no_run
/// use cenote_postgres::{Batch, Batcher, BatchCalls, Pool, Pooled, Result, Weight};
///
/// /// Counts visits: one statement and one commit for all that come while the database is busy.
/// struct Visits;
///
/// impl Batch for Visits {
///     type Request = String;
///     type Response = ();
///
///     fn weight(&self, page: &String) -> Weight {
///         Weight { rows: 1, bytes: page.len() }
///     }
///
///     fn key(&self, _: &String) -> Option<u64> {
///         None // their order does not matter
///     }
///
///     async fn run(&self, connection: Pooled<'_>, calls: &BatchCalls<Self>) {
///         let insert = "INSERT INTO visit (page) SELECT * FROM unnest($1::text[])";
///         let written = connection.execute(insert, &[&calls.requests()]).await;
///         calls.answer_all(|_| written.clone().map(drop));
///     }
/// }
///
/// # async fn example(pool: Pool) -> Result<()> {
/// let visits = Batcher::new(Visits, &pool);
/// visits.submit("/".to_owned()).await?; // answered after the commit
/// # Ok(())
/// # }
/// ```
pub struct Batcher<B: Batch>(Arc<Shared<B>>);

impl<B: Batch> Batcher<B> {
    /// Creates a batcher for work on this pool, with the [default limits](BatchLimits::of).
    pub fn new(batch: B, pool: &Pool) -> Self {
        Self::with_limits(batch, pool, BatchLimits::of(pool))
    }

    /// Creates a batcher with these limits. At least one worker and one row a batch are used, even if the limits say
    /// less.
    pub fn with_limits(batch: B, pool: &Pool, limits: BatchLimits) -> Self {
        let state = State {
            queue: Queue::new(Instant::now()),
            workers: 0,
            running: 0,
            starting: false,
            timer: None,
            runtime: None,
            worker_states: Vec::new(),
            counts: Counts::default(),
            last_refusal: None,
        };
        Self(Arc::new(Shared {
            batch,
            pool: pool.clone(),
            limits: limits.at_least_one(),
            abort: Notify::new(),
            state: Mutex::new(state),
            spawn: worker::spawn,
        }))
    }

    /// Creates a batcher for each of the pool's [runtimes](Pool::per_runtime), each with its own queue, so that a
    /// request stays on one thread.
    ///
    /// `limits` are usually [`BatchLimits::per_runtime`]. All batchers together take one connection each and the extra
    /// batches that they share.
    pub fn per_runtime(pool: &Pool, limits: &BatchLimits, batch: impl Fn(Pool) -> B) -> Vec<Self> {
        let runtimes = pool.per_runtime();
        runtimes
            .map(|pool| Self::with_limits(batch(pool.clone()), &pool, limits.clone()))
            .collect()
    }

    /// Serves a request, together with others if the database is busy.
    ///
    /// # Errors
    ///
    /// [`Error::QueueFull`] at once if the queue is full, or if the request would probably not be sent in time.
    /// [`Error::Acquire`] or [`Error::Deadline`] if it was not sent in time. Otherwise the answer of [`Batch::run`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before the request was sent, it is not sent. A batch that was sent continues as long as
    /// one of its callers waits. Other requests in the batch are not affected.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn submit(&self, request: B::Request) -> Result<B::Response> {
        let mut caller = self.enqueue(request, None)?;
        let answer = self.answer_for(&mut caller).await;
        caller.ticket = None;
        understood(answer)
    }

    /// Waits for the answer. If the workers are on another runtime, checks from time to time that it still runs.
    async fn answer_for(
        &self,
        caller: &mut Caller<'_, B>,
    ) -> std::result::Result<Result<B::Response>, oneshot::error::RecvError> {
        if !caller.is_watching {
            return (&mut caller.answered).await;
        }
        let mut liveness = LivenessCheck::new();
        loop {
            if let Ok(answer) = timeout(CHECK_INTERVAL, &mut caller.answered).await {
                return answer;
            }
            self.0.look_after_workers(&mut liveness);
        }
    }

    /// Like [`submit`](Self::submit), with a deadline: waits for at most `limit`, whatever the batcher's limits say.
    ///
    /// # Errors
    ///
    /// Those of [`submit`](Self::submit), and [`Error::Deadline`] when `limit` has passed. It says whether the request
    /// was sent; if not, it never is.
    ///
    /// # Cancel safety
    ///
    /// As [`submit`](Self::submit).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn submit_within(&self, request: B::Request, limit: Duration) -> Result<B::Response> {
        let mut caller = self.enqueue(request, Some(limit))?;
        if let Ok(answer) = timeout(limit, self.answer_for(&mut caller)).await {
            caller.ticket = None;
            return understood(answer);
        }
        let sent = !caller.leave();
        // The answer may have come between the timeout and `leave`.
        match caller.answered.try_recv() {
            Ok(answer) => answer,
            Err(_) => {
                let waited = limit;
                self.0.state().counts.expired += u64::from(!sent);
                Err(Error::Deadline { waited, sent })
            }
        }
    }

    /// Drops the batches that run, which cancels their statements on the server. Callers that still wait get
    /// [`Error::Lost`]: the outcome is unknown.
    pub fn abort(&self) {
        self.0.abort.notify_waiters();
    }

    /// Returns the limits.
    pub fn limits(&self) -> &BatchLimits {
        &self.0.limits
    }

    /// Returns statistics.
    pub fn stats(&self) -> QueueStats {
        let now = Instant::now();
        let state = self.0.state();
        let Counts {
            requests,
            batches,
            batch_sizes,
            refused,
            expired,
        } = state.counts;
        let since = state.queue.first_in_line();
        QueueStats {
            waiting: state.queue.len(),
            waiting_bytes: state.queue.bytes(),
            longest_wait: since.map_or(Duration::ZERO, |since| now - since),
            longest_lock_wait: Duration::ZERO,
            running: state.running,
            requests,
            batches,
            batch_sizes,
            refused,
            expired,
            refusing: state.last_refusal.is_some_and(|at| now - at < REFUSING),
        }
    }

    #[expect(
        clippy::significant_drop_tightening,
        reason = "the guard moves into `start_worker`, which releases it"
    )]
    fn enqueue(&self, request: B::Request, limit: Option<Duration>) -> Result<Caller<'_, B>> {
        let shared = &self.0;
        let weight = shared.batch.weight(&request);
        let key = shared.batch.key(&request);
        let (answer, answered) = oneshot::channel();
        let context = cenote_trace::current();
        let trace = TracedCaller::enqueued();
        let now = Instant::now();
        let deadline = limit.and_then(|limit| now.checked_add(limit));
        let patience = limit.unwrap_or(shared.limits.queue_timeout);
        let here = Handle::current();
        let mut state = shared.state();
        if let Err(retry_after) = shared.admit(&state, key, weight.bytes, patience, now) {
            state.counts.refused += 1;
            state.last_refusal = Some(now);
            return Err(Error::QueueFull {
                waiting: state.queue.len(),
                bytes: state.queue.bytes(),
                retry_after,
            });
        }
        let is_watched = state.runtime.as_ref().is_some_and(|runtime| runtime.id() != here.id());
        let request = Request {
            request,
            answer,
            is_watched,
            context,
            trace,
        };
        let ticket = state.queue.push(request, key, weight, deadline, now);
        if !is_watched {
            state.runtime = Some(here);
        }
        shared.start_worker(state);
        let caller = Caller {
            shared,
            ticket: Some(ticket),
            answered,
            is_watching: is_watched,
        };
        if is_watched {
            // If the runtime of the workers has ended, no worker was started.
            shared.adopt_workers();
        }
        Ok(caller)
    }
}

impl<B: Batch> Clone for Batcher<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B: Batch> fmt::Debug for Batcher<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Batcher").field(&self.stats()).finish()
    }
}

/// A caller that waits for its answer. If dropped before its request was sent, it takes the request out of the queue.
struct Caller<'a, B: Batch> {
    shared: &'a Shared<B>,
    ticket: Option<Ticket>,
    answered: oneshot::Receiver<Result<B::Response>>,
    is_watching: bool,
}

impl<B: Batch> Caller<'_, B> {
    /// Takes the request out of the queue. Returns false if it was sent.
    fn leave(&mut self) -> bool {
        let ticket = self.ticket.take();
        // Dropped after the lock is released: dropping a request runs the user's code.
        let left = ticket.and_then(|ticket| self.shared.state().queue.leave(ticket));
        left.is_some()
    }
}

impl<B: Batch> Drop for Caller<'_, B> {
    fn drop(&mut self) {
        self.leave();
    }
}

fn understood<T>(answer: std::result::Result<Result<T>, oneshot::error::RecvError>) -> Result<T> {
    answer.unwrap_or_else(|_| {
        Err(Error::Lost {
            cause: "the batch was aborted".into(),
        })
    })
}
