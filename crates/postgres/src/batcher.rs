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
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep},
};

use crate::{Error, Pool, Result};

/// Batches under way at once while the database is quick; more would each carry less. Where each core has a queue of
/// its own, one for each is enough.
const LANES: u32 = 2;
/// A batch that takes longer no longer counts, as long as there are extra ones: what came after it is not held up by a
/// lock that it waits for.
const PATIENCE: Duration = Duration::from_millis(20);
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

    /// About how many bytes a request adds to a statement. Called under the queue's lock.
    fn weight(&self, request: &Self::Request) -> usize;

    /// Serves requests together, and answers each in the order in which they are given. One of them has waited this
    /// long already, the others less: that much of the patience for a connection is used up.
    ///
    /// # Cancel safety
    ///
    /// Runs in a task of its own. It is dropped if all its callers have given up, or the batcher is told to
    /// [`abort`](Batcher::abort).
    fn run(
        &self,
        requests: Vec<Self::Request>,
        waited: Duration,
    ) -> impl Future<Output = Vec<Result<Self::Response>>> + Send;
}

/// Gathers requests while the database is busy and serves them in batches.
///
/// Cloning it gives another handle to the same queue.
///
/// ```no_run
/// use std::time::Duration;
///
/// use cenote_postgres::{Batch, Batcher, Pool, Result};
///
/// /// Counts visits: one statement and one commit for all that come while the database is busy.
/// struct Visits(Pool);
///
/// impl Batch for Visits {
///     type Request = String;
///     type Response = ();
///
///     fn weight(&self, page: &String) -> usize {
///         page.len()
///     }
///
///     async fn run(&self, pages: Vec<String>, waited: Duration) -> Vec<Result<()>> {
///         let written = async {
///             let connection = self.0.get_after(waited).await?;
///             let insert = "INSERT INTO visit (page) SELECT * FROM unnest($1::text[])";
///             connection.execute(insert, &[&pages]).await
///         };
///         let answer = written.await.map(drop);
///         pages.iter().map(|_| answer.clone()).collect() // one for each, in their order
///     }
/// }
///
/// # async fn example(pool: Pool) -> Result<()> {
/// let visits = Batcher::new(Visits(pool.clone()), &pool);
/// visits.submit("/".to_owned()).await?; // answered after the commit
/// # Ok(())
/// # }
/// ```
pub struct Batcher<B: Batch>(Arc<Shared<B>>);

struct Shared<B: Batch> {
    batch: B,
    most_waiting: usize,
    lanes: u32,
    /// Batches that may be under way beyond `lanes`, here or at another batcher that shares this.
    extra: Arc<AtomicU32>,
    abort: Notify,
    /// Held to put something in or take a batch out, never across an await.
    queue: Mutex<Queue<B>>,
}

struct Queue<B: Batch> {
    waiting: VecDeque<Waiting<B>>,
    /// Lanes that serve one batch after another.
    lanes: u32,
    /// All batches under way, those of lanes that made way included.
    running: u32,
}

struct Waiting<B: Batch> {
    request: B::Request,
    since: Instant,
    answer: oneshot::Sender<Result<B::Response>>,
}

impl<B: Batch> Batcher<B> {
    /// A batcher for work on this pool. While all its lanes are busy at most the pool's `max_waiters` requests wait, and
    /// its batches never take more than a third of the pool's connections, but may always take two.
    pub fn new(batch: B, pool: &Pool) -> Self {
        let most_waiting = pool.config().pool.max_waiters as usize;
        Self::bounded(batch, most_waiting, third(pool).max(LANES))
    }

    /// A batcher with bounds of its own.
    pub fn bounded(batch: B, most_waiting: usize, most_running: u32) -> Self {
        let lanes = LANES.min(most_running.max(1));
        let extra = Arc::new(AtomicU32::new(most_running.saturating_sub(lanes)));
        Self::with(batch, most_waiting, lanes, extra)
    }

    /// A batcher for each of the pool's [homes](Pool::homes), each with a queue of its own: nothing crosses from one
    /// thread to another for them. Together they take at most a third of the pool's connections, but each may always
    /// take one.
    pub fn per_home(pool: &Pool, batch: impl Fn(Pool) -> B) -> Vec<Self> {
        let homes: Vec<Pool> = pool.homes().collect();
        let count = homes.len() as u32;
        let extra = Arc::new(AtomicU32::new(third(pool).saturating_sub(count)));
        let most_waiting = pool.config().pool.max_waiters.div_ceil(count) as usize;
        let homes = homes.into_iter();
        homes
            .map(|home| Self::with(batch(home), most_waiting, 1, extra.clone()))
            .collect()
    }

    fn with(batch: B, most_waiting: usize, lanes: u32, extra: Arc<AtomicU32>) -> Self {
        let queue = Queue {
            waiting: VecDeque::new(),
            lanes: 0,
            running: 0,
        };
        Self(Arc::new(Shared {
            batch,
            most_waiting,
            lanes,
            extra,
            abort: Notify::new(),
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
    /// A request that is dropped while it waits is not sent; afterwards it goes on as long as anyone waits for its
    /// batch. Nobody else
    /// in the same batch is affected.
    pub async fn submit(&self, request: B::Request) -> Result<B::Response> {
        let (answer, answered) = oneshot::channel();
        let since = Instant::now();
        self.enqueue(Waiting {
            request,
            since,
            answer,
        })?;
        match answered.await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Lost {
                cause: "the batch was aborted".into(),
            }),
        }
    }

    /// Gives up the batches under way, so that their statements are cancelled. Whoever still waits for them is told
    /// that the outcome is unknown.
    pub fn abort(&self) {
        self.0.abort.notify_waiters();
    }

    fn enqueue(&self, waiting: Waiting<B>) -> Result<()> {
        let mut queue = self.0.queue();
        if !self.0.may_have_place(&queue) && queue.waiting.len() >= self.0.most_waiting {
            return Err(Error::QueueFull);
        }
        queue.waiting.push_back(waiting);
        self.0.start_lane(queue);
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

    /// Starts a lane for what waits, if there is a place.
    fn start_lane(self: &Arc<Self>, mut queue: MutexGuard<'_, Queue<B>>) {
        if queue.waiting.is_empty() || !self.take_place(&mut queue) {
            return;
        }
        drop(queue);
        let lane = Lane {
            shared: self.clone(),
            counted: true,
            running: true,
        };
        tokio::spawn(lane.run());
    }

    fn may_have_place(&self, queue: &Queue<B>) -> bool {
        let free = queue.running < self.lanes || self.extra.load(Relaxed) > 0;
        queue.lanes < self.lanes && free
    }

    /// Counts one more lane, if there is a place for it. If not, a batch of this queue is under way, whose end gives its
    /// place on.
    fn take_place(&self, queue: &mut Queue<B>) -> bool {
        if queue.lanes >= self.lanes {
            return false;
        }
        let take = |extra: u32| extra.checked_sub(1);
        if queue.running >= self.lanes && self.extra.fetch_update(Relaxed, Relaxed, take).is_err() {
            return false;
        }
        queue.lanes += 1;
        queue.running += 1;
        true
    }

    /// Takes what goes together.
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
            batch.extend(queue.waiting.pop_front());
        }
        batch
    }
}

/// A lane at work. However it ends, it is counted out, and those it was working for learn of it by the loss of
/// their answers.
struct Lane<B: Batch> {
    shared: Arc<Shared<B>>,
    /// In `lanes`.
    counted: bool,
    /// In `running`.
    running: bool,
}

impl<B: Batch> Lane<B> {
    async fn run(mut self) {
        let shared = self.shared.clone();
        while self.counted {
            // Whoever is ready to ask asks first.
            tokio::task::yield_now().await;
            let mut batch = {
                let mut queue = shared.queue();
                let batch = shared.take(&mut queue);
                if batch.is_empty() {
                    // Counted out under the lock that saw the queue empty: what comes next starts a lane.
                    self.count_out(&mut queue);
                    return;
                }
                batch
            };
            // Whoever has given up is left out.
            batch.retain(|waiting| !waiting.answer.is_closed());
            if !batch.is_empty() {
                self.serve(batch).await;
            }
        }
    }

    async fn serve(&mut self, batch: Vec<Waiting<B>>) {
        let oldest = batch.iter().map(|waiting| waiting.since).min();
        let waited = oldest.map_or(Duration::ZERO, |since| since.elapsed());
        let (requests, mut callers): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|waiting| (waiting.request, waiting.answer))
            .unzip();
        let shared = self.shared.clone();
        let mut running = pin!(shared.batch.run(requests, waited));
        let mut aborted = pin!(shared.abort.notified());
        let answers = tokio::select! {
            biased;
            answers = &mut running => answers,
            () = &mut aborted => return,
            () = sleep(PATIENCE) => {
                self.make_way();
                tokio::select! {
                    biased;
                    answers = &mut running => answers,
                    () = &mut aborted => return,
                    () = all_gone(&mut callers) => return,
                }
            }
        };
        for (caller, answer) in callers.into_iter().zip(answers) {
            // A caller that has gone needs no answer.
            let _gone = caller.send(answer);
        }
    }

    /// Lets another lane have this one's place.
    fn make_way(&mut self) {
        let mut queue = self.shared.queue();
        queue.lanes -= 1;
        self.counted = false;
        self.shared.start_lane(queue);
    }

    fn count_out(&mut self, queue: &mut Queue<B>) {
        if queue.running > self.shared.lanes {
            self.shared.extra.fetch_add(1, Relaxed);
        }
        queue.running -= 1;
        self.running = false;
        if self.counted {
            queue.lanes -= 1;
            self.counted = false;
        }
    }
}

/// How many of the pool's connections the batches of one kind may take.
fn third(pool: &Pool) -> u32 {
    let limits = &pool.config().pool;
    (limits.max_size + limits.max_overflow) / 3
}

/// Completes when nobody waits for an answer any more.
async fn all_gone<T>(callers: &mut [oneshot::Sender<T>]) {
    std::future::poll_fn(|context| {
        let mut waiting = callers.iter_mut();
        // The first that still waits is the one to be woken by.
        match waiting.any(|caller| caller.poll_closed(context).is_pending()) {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    })
    .await;
}

impl<B: Batch> Drop for Lane<B> {
    fn drop(&mut self) {
        let shared = self.shared.clone();
        let mut queue = shared.queue();
        if self.running {
            let stopped = self.counted && !std::thread::panicking();
            self.count_out(&mut queue);
            if stopped {
                // The runtime is shutting down: nobody will serve what waits, and its callers must learn of it.
                let waiting = std::mem::take(&mut queue.waiting);
                drop(queue);
                drop(waiting);
                return;
            }
        }
        // A place is free again, be it that this batch panicked or that it had made way.
        if tokio::runtime::Handle::try_current().is_ok() {
            shared.start_lane(queue);
        }
    }
}
