//! One statement for many callers: what comes while the database is busy goes together.
//!
//! Nothing waits for company: a request that finds a worker free is sent as soon as there is a connection. Only what
//! comes while all workers are at the database, or no connection is free, gathers, and then goes as one, so the busier
//! the database the more each statement does.
//!
//! Invariant: a request in the queue has a worker that will take it, and every caller gets exactly the answer to its
//! own request.

mod calls;
mod limits;
mod queue;
mod scheduler;
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
};
pub use self::{
    calls::{Batch, BatchCalls},
    limits::{BatchLimits, ExtraBatches, QueueStats, Weight},
};
use crate::{
    Error, Pool, Result,
    runtime_liveness::{CHECK_INTERVAL, LivenessCheck},
};

/// After a refusal a queue counts as overloaded for this long.
const REFUSING: Duration = Duration::from_secs(10);

/// Gathers requests while the database is busy and serves them in batches.
///
/// [`Loader`](crate::Loader) and [`Combiner`](crate::Combiner) are made of it, for reads and writes by key.
///
/// First come, first served, whoever asks: a caller that asks for much delays another by no more than it takes to
/// serve what came before. Cloning it gives another handle to the same queue. It costs little: one for each core, all
/// over one pool, is fine. Its work runs on the tokio runtime from which it was first submitted; when that has ended, or
/// nobody runs it, on that of a caller.
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
    /// A batcher for work on this pool, within the [usual limits](BatchLimits::of).
    pub fn new(batch: B, pool: &Pool) -> Self {
        Self::with_limits(batch, pool, BatchLimits::of(pool))
    }

    /// A batcher with limits of its own. It needs at least one worker, and one row a batch.
    pub fn with_limits(batch: B, pool: &Pool, limits: BatchLimits) -> Self {
        let state = State {
            queue: Queue::new(Instant::now()),
            workers: 0,
            running: 0,
            starting: false,
            timer: None,
            home: None,
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

    /// A batcher for each of the pool's [runtimes](Pool::per_runtime), each with a queue of its own: nothing crosses from one
    /// thread to another for them. The limits are usually [those for this](BatchLimits::per_runtime); together they take no
    /// more connections than one worker each and what these have to spare.
    pub fn per_runtime(pool: &Pool, limits: &BatchLimits, batch: impl Fn(Pool) -> B) -> Vec<Self> {
        let homes = pool.per_runtime();
        homes
            .map(|home| Self::with_limits(batch(home.clone()), &home, limits.clone()))
            .collect()
    }

    /// Serves a request, together with others if the database is busy.
    ///
    /// # Errors
    ///
    /// [`Error::QueueFull`] at once if too much waits already, or it would not be sent in time; [`Error::Acquire`] or
    /// [`Error::Deadline`] if it was not; otherwise what [`Batch::run`] answered.
    ///
    /// # Cancel safety
    ///
    /// A request whose future is dropped while it waits is not sent. One that was sent goes on as long as anyone waits
    /// for its batch. Nobody else in the same batch is affected.
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

    /// Waits for the answer, and looks after the workers if they are on another runtime.
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

    /// As [`submit`](Self::submit), for a caller that waits for so long at most, whatever the limits say.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit), and [`Error::Deadline`] when the time is over. A request that has not been sent by
    /// then is not sent later.
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
        // It may have been answered in this very moment.
        match caller.answered.try_recv() {
            Ok(answer) => answer,
            Err(_) => {
                let waited = limit;
                self.0.state().counts.expired += u64::from(!sent);
                Err(Error::Deadline { waited, sent })
            }
        }
    }

    /// Gives up the batches under way, so that their statements are cancelled. Whoever still waits for them is told
    /// that the outcome is unknown.
    pub fn abort(&self) {
        self.0.abort.notify_waiters();
    }

    /// The limits within which it works.
    pub fn limits(&self) -> &BatchLimits {
        &self.0.limits
    }

    /// What it has done and is doing.
    pub fn stats(&self) -> QueueStats {
        let now = Instant::now();
        let state = self.0.state();
        let Counts {
            requests,
            batches,
            refused,
            expired,
        } = state.counts;
        let since = state.queue.first_in_line();
        QueueStats {
            waiting: state.queue.len(),
            waiting_bytes: state.queue.bytes(),
            longest_wait: since.map_or(Duration::ZERO, |since| now - since),
            running: state.running,
            requests,
            batches,
            refused,
            expired,
            refusing: state.last_refusal.is_some_and(|at| now - at < REFUSING),
        }
    }

    fn enqueue(&self, request: B::Request, limit: Option<Duration>) -> Result<Caller<'_, B>> {
        let shared = &self.0;
        let weight = shared.batch.weight(&request);
        let key = shared.batch.key(&request);
        let (answer, answered) = oneshot::channel();
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
        let is_watched = state.home.as_ref().is_some_and(|home| home.id() != here.id());
        let request = Request {
            request,
            answer,
            is_watched,
        };
        let ticket = state.queue.push(request, key, weight, deadline, now);
        if !is_watched {
            state.home = Some(here);
        }
        shared.start_worker(state);
        let caller = Caller {
            shared,
            ticket: Some(ticket),
            answered,
            is_watching: is_watched,
        };
        if is_watched {
            // If their runtime has ended, there are none.
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

/// Who waits for an answer. One that is dropped before its request was sent takes it back.
struct Caller<'a, B: Batch> {
    shared: &'a Shared<B>,
    ticket: Option<Ticket>,
    answered: oneshot::Receiver<Result<B::Response>>,
    is_watching: bool,
}

impl<B: Batch> Caller<'_, B> {
    /// Takes the request back; false if it was sent.
    fn leave(&mut self) -> bool {
        let ticket = self.ticket.take();
        // Dropped after the lock is let go: it is somebody else's code.
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
