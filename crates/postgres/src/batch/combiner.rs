//! Group commit: makes the writes of many callers with one statement and one commit, in order.
//!
//! Invariant: writes of one key take effect in the order in which they were submitted, and each caller learns the
//! outcome of its own write alone: a bad value or a locked row affects no other write.

mod combine;
mod lock_waits;
mod plan;
mod rows;

use std::{
    borrow::Cow,
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    iter::{once, repeat_with, zip},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{sync::Semaphore, time::timeout};

pub use self::{combine::Combine, rows::Rows};
use self::{lock_waits::LockWaits, plan::Plan};
use crate::{Batch, BatchCalls, BatchLimits, Batcher, Error, Pool, Pooled, QueueStats, Weight};

/// The `lock_timeout` of a statement while no row is known to be locked. Long enough for a short transaction of another
/// session, short enough that the other callers hardly notice.
const LOCKED: Duration = Duration::from_millis(50);
/// The `lock_timeout` while locked rows are searched for: it is known that some are, so waiting for each costs more
/// than it helps.
const SEARCHING: Duration = Duration::from_millis(5);
/// After this many statements that met a lock the search ends. The remaining rows wait together, as when the whole
/// table is locked.
const MOST_LOCKED: u32 = 40;

/// Makes the writes of many callers together. See [`Combine`].
///
/// * Writes that are submitted while the database is busy share one statement and one commit. See [`Batcher`].
/// * Writes of one key take effect in the order in which they were submitted.
/// * If the database refuses a value, the other writes are made without it.
/// * If another session has locked a row, only the writes to that row wait. At least one batch of the
///   [limits](BatchLimits::extra) is always left for writes that do not wait for locks.
/// * A statement that certainly had no effect, such as one that met a deadlock, is repeated like [`Pool::retry`]. If
///   the connection is lost, the outcome of all writes of the statement is unknown, and nothing is repeated.
///
/// A clone is another handle to the same queue.
pub struct Combiner<C: Combine> {
    queue: Batcher<Writes<C>>,
    lock_waits: Arc<LockWaits>,
}

struct Writes<C> {
    combine: C,
    pool: Pool,
    hashes: RandomState,
    /// Permits for statements that wait for locks, shared with the combiners of the other runtimes.
    waiting_for_locks: Arc<Semaphore>,
    lock_waits: Arc<LockWaits>,
}

impl<C: Combine> Combiner<C> {
    /// Creates a combiner with the [default limits](BatchLimits::of).
    pub fn new(combine: C, pool: &Pool) -> Self {
        Self::with_limits(combine, pool, BatchLimits::of(pool))
    }

    /// Creates a combiner with these limits.
    pub fn with_limits(combine: C, pool: &Pool, limits: BatchLimits) -> Self {
        let waiting = Arc::new(Semaphore::new(limits.waiting_for_locks()));
        Self::sharing(combine, pool, limits, waiting)
    }

    /// Creates a combiner for each of the pool's [runtimes](Pool::per_runtime). See [`Batcher::per_runtime`]. Together
    /// they let as many statements wait for locks as one combiner for the whole pool.
    pub fn per_runtime(pool: &Pool, limits: &BatchLimits, combine: impl Fn() -> C) -> Vec<Self> {
        let waiting = Arc::new(Semaphore::new(BatchLimits::of(pool).waiting_for_locks()));
        let runtimes = pool.per_runtime();
        runtimes
            .map(|pool| Self::sharing(combine(), &pool, limits.clone(), waiting.clone()))
            .collect()
    }

    fn sharing(combine: C, pool: &Pool, limits: BatchLimits, waiting: Arc<Semaphore>) -> Self {
        let lock_waits = Arc::<LockWaits>::default();
        let writes = Writes {
            combine,
            pool: pool.clone(),
            hashes: RandomState::new(),
            waiting_for_locks: waiting,
            lock_waits: lock_waits.clone(),
        };
        Self {
            queue: Batcher::with_limits(writes, pool, limits),
            lock_waits,
        }
    }

    /// Makes a write, together with others if the database is busy. It is committed when this returns.
    ///
    /// # Errors
    ///
    /// Those of [`Batcher::submit`] and of [`Combine::commit`]. If the database's error is
    /// [`is_outcome_unknown`](Error::is_outcome_unknown), the write may have been made.
    ///
    /// # Cancel safety
    ///
    /// As for [`Batcher::submit`].
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn submit(&self, write: C::Write) -> Result<C::Outcome, C::Error> {
        self.queue.submit(write).await?
    }

    /// Like [`submit`](Self::submit), with a deadline. See [`Batcher::submit_within`].
    ///
    /// # Errors
    ///
    /// Those of [`submit`](Self::submit), and [`Error::Deadline`], which says whether the write was sent.
    ///
    /// # Cancel safety
    ///
    /// As for [`Batcher::submit`].
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn submit_within(&self, write: C::Write, limit: Duration) -> Result<C::Outcome, C::Error> {
        self.queue.submit_within(write, limit).await?
    }

    /// Drops the batches that run. See [`Batcher::abort`].
    pub fn abort(&self) {
        self.queue.abort();
    }

    /// Returns statistics.
    pub fn stats(&self) -> QueueStats {
        QueueStats {
            longest_lock_wait: self.lock_waits.longest(),
            ..self.queue.stats()
        }
    }
}

impl<C: Combine> Clone for Combiner<C> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            lock_waits: self.lock_waits.clone(),
        }
    }
}

impl<C: Combine> Batch for Writes<C> {
    type Request = C::Write;
    type Response = Result<C::Outcome, C::Error>;

    fn weight(&self, write: &C::Write) -> Weight {
        Weight {
            rows: 1,
            bytes: self.combine.bytes(write),
        }
    }

    fn key(&self, write: &C::Write) -> Option<u64> {
        Some(self.hashes.hash_one(self.combine.key(write)))
    }

    async fn run(&self, connection: Pooled<'_>, calls: &BatchCalls<Self>) {
        let plan = Plan::new(&self.combine, calls.requests());
        let mut work = Work {
            writes: self,
            calls,
            plan: &plan,
            connection: Some(connection),
        };
        let mut locked = Locked::default();
        for round in &plan.rounds {
            let free = locked.keep_back(round, &plan);
            for part in work.make(&free, LOCKED).await {
                locked.add(part, &plan);
            }
        }
        let connection = work.connection.take();
        if !locked.parts.is_empty() {
            calls.step_aside();
            let connections = once(connection).chain(repeat_with(|| None));
            let parts = zip(locked.parts, connections);
            join_all(parts.map(|(rows, connection)| self.wait_for(rows, connection, calls, &plan))).await;
        }
    }
}

/// Rows that another session has locked.
#[derive(Default)]
struct Locked {
    /// The index in `parts` of each key.
    keys: HashMap<usize, usize>,
    /// The statements of each part, one after the other.
    parts: Vec<Vec<Vec<Range<usize>>>>,
}

impl Locked {
    fn add<W>(&mut self, rows: Vec<Range<usize>>, plan: &Plan<'_, W>) {
        let part = self.parts.len();
        self.keys.extend(rows.iter().map(|row| (plan.first_of_key(row), part)));
        self.parts.push(vec![rows]);
    }

    /// Puts rows behind the locked rows of their keys, and returns the rest.
    fn keep_back<W>(&mut self, round: &[Range<usize>], plan: &Plan<'_, W>) -> Vec<Range<usize>> {
        let mut free = Vec::with_capacity(round.len());
        for row in round {
            match self.keys.get(&plan.first_of_key(row)) {
                Some(part) => self.parts[*part].push(vec![row.clone()]),
                None => free.push(row.clone()),
            }
        }
        free
    }
}

impl<C: Combine> Writes<C> {
    /// Makes these statements one after the other and waits for their locks. The first uses `connection`, unless it
    /// must first wait for a permit: then the connection is returned to the pool.
    async fn wait_for(
        &self,
        statements: Vec<Vec<Range<usize>>>,
        connection: Option<Pooled<'_>>,
        calls: &BatchCalls<Self>,
        plan: &Plan<'_, C::Write>,
    ) {
        let limit = self.pool.config().command_timeout;
        let _wait = self.lock_waits.begin();
        let mut work = Work {
            writes: self,
            calls,
            plan,
            connection,
        };
        for rows in statements {
            let place = match self.waiting_for_locks.try_acquire() {
                Ok(place) => Ok(Ok(place)),
                Err(_) => {
                    work.connection = None;
                    let place = self.waiting_for_locks.acquire();
                    match limit {
                        Some(limit) => timeout(limit, place).await,
                        None => Ok(place.await),
                    }
                }
            };
            match place {
                Ok(_place) => {
                    work.make(&rows, Duration::ZERO).await;
                    work.connection = None;
                }
                Err(_) => {
                    let waited = limit.unwrap_or_default();
                    let sent = false;
                    work.answer(&rows, Err(Error::Deadline { waited, sent }.into()));
                }
            }
        }
    }
}

/// The writes of one batch while they are made.
struct Work<'a, C: Combine> {
    writes: &'a Writes<C>,
    calls: &'a BatchCalls<Writes<C>>,
    plan: &'a Plan<'a, C::Write>,
    /// The connection for the next statement. `None`: it takes one from the pool.
    connection: Option<Pooled<'a>>,
}

impl<C: Combine> Work<'_, C> {
    /// Makes these rows. Returns the rows that another session has locked, in parts to be made separately.
    async fn make(&mut self, rows: &[Range<usize>], mut lock_timeout: Duration) -> Vec<Vec<Range<usize>>> {
        let (mut locked, mut met) = (Vec::new(), 0);
        // A stack of parts; the next one is on top.
        let mut parts = vec![Cow::Borrowed(rows)];
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let made = self.attempt(&part, lock_timeout).await;
            let failed = made.as_ref().err().and_then(C::database_error);
            let is_locked = !lock_timeout.is_zero() && failed.is_some_and(Error::is_lock_timeout);
            if is_locked {
                met += 1;
                lock_timeout = lock_timeout.min(SEARCHING);
            }
            let is_bad = failed.is_some_and(Error::is_about_data);
            if part.len() > 1 && (is_bad || is_locked && met < MOST_LOCKED) {
                // The statement had no effect, and one row caused that: halve it, so that the others are made.
                let (first, second) = part.split_at(part.len() / 2);
                parts.extend([second, first].map(|half| Cow::Owned(half.to_vec())));
            } else if is_bad && part[0].len() > 1 {
                // The row has several writes, of which one is bad.
                let rows = self.plan.split(&self.writes.combine, &part[0]);
                parts.extend(rows.into_iter().rev().map(|row| Cow::Owned(vec![row])));
            } else if is_locked {
                locked.push(part.into_owned());
            } else {
                self.answer(&part, made);
            }
        }
        locked
    }

    /// Runs one statement. Repeats it if it certainly had no effect and the cause passes.
    async fn attempt(&mut self, rows: &[Range<usize>], lock_timeout: Duration) -> Result<Vec<C::Outcome>, C::Error> {
        let Writes { combine, pool, .. } = self.writes;
        let rows = self.plan.rows(rows);
        let mut tries = pool.config().retry.tries();
        loop {
            let connection = match self.connection.take() {
                Some(connection) => connection,
                None => pool.get().await?,
            };
            let made = combine.commit(&connection, &rows, lock_timeout).await;
            let passing = made.as_ref().err().and_then(C::database_error);
            let passing = passing.filter(|error| error.certainly_passes() && !error.is_lock_timeout());
            if let Some(error) = passing {
                drop(connection);
                if tries.again(error).await {
                    continue;
                }
                return made;
            }
            self.connection = Some(connection);
            let made = made?;
            return match made.len() == rows.writes() {
                true => Ok(made),
                false => Err(C::Error::from(Error::Miscounted {
                    outcomes: made.len(),
                    writes: rows.writes(),
                })),
            };
        }
    }

    fn answer(&self, rows: &[Range<usize>], made: Result<Vec<C::Outcome>, C::Error>) {
        let calls = rows.iter().cloned().flatten().map(|at| self.plan.order[at]);
        match made {
            Ok(outcomes) => {
                for (call, outcome) in calls.zip(outcomes) {
                    self.calls.answer(call, Ok(Ok(outcome)));
                }
            }
            Err(error) => {
                for call in calls {
                    self.calls.answer(call, Ok(Err(error.clone())));
                }
            }
        }
    }
}
