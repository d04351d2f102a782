//! One statement for many callers: what comes while the database is busy goes together.
//!
//! Nothing waits for company: a request that finds a lane free is sent as soon as there is a connection. Only what
//! comes while all lanes are at the database, or no connection is free, gathers, and then goes as one, so the busier
//! the database the more each statement does.
//!
//! Invariant: a request in the queue has a lane that will take it, and every caller gets exactly the answer to its
//! own request.

mod calls;
mod lane;
mod limits;
mod queue;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
    time::{Instant, timeout},
};

pub use self::{
    calls::Calls,
    limits::{Limits, QueueStats, Spare, Weight},
};
use self::{
    lane::{Lane, Place},
    queue::{Queue, Ticket, Waiting},
};
use crate::{
    Error, Pool, Pooled, Result,
    timer::Timer,
    vigil::{LOOK, Vigil},
};

/// After a refusal a queue counts as overloaded for this long.
const REFUSING: Duration = Duration::from_secs(10);

/// What is done with requests that go together.
pub trait Batch: Sized + Send + Sync + 'static {
    /// What one caller asks for.
    type Request: Send + Sync + 'static;
    /// What it gets.
    type Response: Send + 'static;

    /// What a request adds to a statement.
    fn weight(&self, request: &Self::Request) -> Weight;

    /// The hash of what a request is about, if its order matters. Requests with equal hashes are sent in the order in
    /// which they came, and are never under way in two batches at once.
    fn key(&self, request: &Self::Request) -> Option<u64>;

    /// Serves requests together, and [answers](Calls::answer) each. One that is not answered is told that its outcome
    /// is unknown.
    ///
    /// # Cancel safety
    ///
    /// Runs in a task of its own. It is dropped if all its callers have given up, or the batcher is told to
    /// [`abort`](Batcher::abort).
    fn run(&self, connection: Pooled<'_>, calls: &Calls<Self>) -> impl Future<Output = ()> + Send;
}

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
/// use cenote_postgres::{Batch, Batcher, Calls, Pool, Pooled, Result, Weight};
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
///     async fn run(&self, connection: Pooled<'_>, calls: &Calls<Self>) {
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

struct Shared<B: Batch> {
    batch: B,
    pool: Pool,
    limits: Limits,
    abort: Notify,
    /// Held to put something in, take a batch out or count, never across an await.
    state: Mutex<State<B>>,
}

struct State<B: Batch> {
    queue: Queue<Request<B>>,
    /// Lanes that serve one batch after another.
    lanes: u32,
    /// All batches under way, those of lanes that made way included.
    running: u32,
    /// A lane was started and has not taken anything yet: no need for another.
    starting: bool,
    /// That of the last lane that ended, still armed.
    timer: Option<Timer>,
    /// Where lanes are started: where the first caller was, until that runtime is gone.
    home: Option<Handle>,
    /// Those of all lanes.
    places: Vec<Weak<Place<B>>>,
    counts: Counts,
    last_refusal: Option<Instant>,
}

#[derive(Default)]
struct Counts {
    requests: u64,
    batches: u64,
    refused: u64,
    expired: u64,
}

/// A request, and where its answer goes.
struct Request<B: Batch> {
    request: B::Request,
    answer: oneshot::Sender<Result<B::Response>>,
    /// Its caller is on another runtime than the lanes, and looks after them.
    is_watched: bool,
}

impl<B: Batch> Batcher<B> {
    /// A batcher for work on this pool, within the [usual limits](Limits::of).
    pub fn new(batch: B, pool: &Pool) -> Self {
        Self::with_limits(batch, pool, Limits::of(pool))
    }

    /// A batcher with limits of its own. It needs at least one lane, and one row a batch.
    pub fn with_limits(batch: B, pool: &Pool, limits: Limits) -> Self {
        let state = State {
            queue: Queue::new(Instant::now()),
            lanes: 0,
            running: 0,
            starting: false,
            timer: None,
            home: None,
            places: Vec::new(),
            counts: Counts::default(),
            last_refusal: None,
        };
        Self(Arc::new(Shared {
            batch,
            pool: pool.clone(),
            limits: limits.at_least_one(),
            abort: Notify::new(),
            state: Mutex::new(state),
        }))
    }

    /// A batcher for each of the pool's [homes](Pool::per_runtime), each with a queue of its own: nothing crosses from one
    /// thread to another for them. The limits are usually [those for this](Limits::per_home); together they take no
    /// more connections than one lane each and what these have to spare.
    pub fn per_home(pool: &Pool, limits: &Limits, batch: impl Fn(Pool) -> B) -> Vec<Self> {
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

    /// Waits for the answer, and looks after the lanes if they are on another runtime.
    async fn answer_for(
        &self,
        caller: &mut Caller<'_, B>,
    ) -> std::result::Result<Result<B::Response>, oneshot::error::RecvError> {
        if !caller.is_watching {
            return (&mut caller.answered).await;
        }
        let mut vigil = Vigil::new();
        loop {
            if let Ok(answer) = timeout(LOOK, &mut caller.answered).await {
                return answer;
            }
            self.0.look_after_lanes(&mut vigil);
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
    pub fn limits(&self) -> &Limits {
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
        let patience = limit.unwrap_or(shared.limits.wait);
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
        shared.start_lane(state);
        let caller = Caller {
            shared,
            ticket: Some(ticket),
            answered,
            is_watching: is_watched,
        };
        if is_watched {
            // If their runtime has ended, there are none.
            shared.adopt_lanes();
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

impl<B: Batch> Shared<B> {
    fn state(&self) -> MutexGuard<'_, State<B>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more may wait; if not, when to try again, as far as that can be said.
    fn admit(
        &self,
        state: &State<B>,
        key: Option<u64>,
        bytes: usize,
        patience: Duration,
        now: Instant,
    ) -> std::result::Result<(), Option<Duration>> {
        let queue = &state.queue;
        if self.may_have_place(state) && !queue.is_held(key) {
            return Ok(());
        }
        let about_to_go = match state.starting {
            true => self.limits.batch,
            false => 0,
        };
        queue.room(key, bytes, patience, about_to_go, &self.limits, now)
    }

    fn may_have_place(&self, state: &State<B>) -> bool {
        let Limits { lanes, spare, .. } = &self.limits;
        !state.starting && state.lanes < *lanes && (state.running < *lanes || spare.is_left())
    }

    /// Counts one more lane, if there is a place for it. If not, a batch of this queue is under way, or about to be,
    /// whose end gives its place on.
    fn take_place(&self, state: &mut State<B>) -> bool {
        let Limits { lanes, spare, .. } = &self.limits;
        if state.starting || state.lanes >= *lanes || state.running >= *lanes && !spare.take() {
            return false;
        }
        state.lanes += 1;
        state.running += 1;
        state.starting = true;
        true
    }

    /// Starts a lane for what waits, if there is a place.
    fn start_lane(self: &Arc<Self>, mut state: MutexGuard<'_, State<B>>) {
        if state.queue.first_in_line().is_none() || !self.take_place(&mut state) {
            return;
        }
        let timer = state.timer.take();
        // The caller that starts the first lane is on a runtime.
        let home = state.home.get_or_insert_with(Handle::current).clone();
        let lane = Lane::new(self.clone(), timer.unwrap_or_else(Timer::new), home.id());
        state.places.push(Arc::downgrade(&lane.place));
        drop(state);
        home.spawn(lane.run());
    }

    /// Starts lanes on the current runtime if that of the others has ended.
    fn adopt_lanes(self: &Arc<Self>) {
        let mut state = self.state();
        if state.home.is_none() {
            state.home = Some(Handle::current());
            self.start_lane(state);
        }
    }

    /// Looks whether the runtime of the lanes is still run, and does without it if not.
    fn look_after_lanes(self: &Arc<Self>, vigil: &mut Vigil) {
        self.adopt_lanes();
        let Some(home) = self.state().home.clone() else {
            return;
        };
        let here = Handle::current();
        if home.id() == here.id() || !vigil.finds_gone(&home) {
            return;
        }
        let gone: Vec<_> = {
            let mut state = self.state();
            if state.home.as_ref().is_none_or(|at| at.id() != home.id()) {
                return;
            }
            state.home = Some(here);
            let places = state.places.iter().filter_map(Weak::upgrade);
            places.filter(|place| place.home == home.id()).collect()
        };
        tracing::warn!("the runtime that sends batches is not being run; they are sent from that of a caller");
        for place in gone {
            place.abandon();
        }
        self.start_lane(self.state());
    }

    /// Tells those that have waited for too long that they were not sent.
    fn expire(&self) {
        let Some(before) = Instant::now().checked_sub(self.limits.wait) else {
            return;
        };
        let expired = self.state().queue.expire(before);
        self.were_late(expired);
    }

    /// Tells them that they were not sent in time.
    fn were_late(&self, late: Vec<Waiting<Request<B>>>) {
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
}
