//! How much a batcher does at once, how much may wait for it, and what came of it. Invariant: plain values.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::Pool;

/// What a request adds to a statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Rows that it reads or writes.
    pub rows: usize,
    /// About how many bytes it sends.
    pub bytes: usize,
}

/// How much a [`Batcher`](crate::Batcher) does at once, and how much may wait for it.
#[derive(Clone, Debug)]
pub struct BatchLimits {
    /// Batches under way at once while the database is quick; more would each carry less. One is enough where each
    /// core has a batcher of its own.
    pub workers: u32,
    /// Batches under way beyond these. One that takes longer than 20 ms makes way for another, as long as there is one
    /// to spare, so that whatever it waits for does not hold up what comes later.
    pub extra: ExtraBatches,
    /// Rows in one batch, unless a single request has more.
    pub batch_rows: usize,
    /// Bytes in one batch, unless a single request has more.
    pub batch_bytes: usize,
    /// Requests that may wait; one more is refused at once. Those that wait for a [key](crate::Batch::key) that is under
    /// way count by themselves: they may be as many again, and keep nobody else out.
    pub waiting: usize,
    /// Bytes that may wait, unless a single request has more. Those that wait for a key count by themselves.
    pub waiting_bytes: usize,
    /// Longest wait until a request is sent.
    pub queue_timeout: Duration,
    /// A request that has to expect a longer wait is refused at once. What is to be expected is told, when a line has
    /// not been empty for a second, by its length and the rate at which it has moved lately (Little's law).
    pub expected_wait: Duration,
}

/// Batches that may be under way beyond the workers of a batcher, or of several: those that are given clones share them.
#[derive(Clone, Debug)]
pub struct ExtraBatches {
    most: u32,
    free: Arc<AtomicU32>,
}

impl ExtraBatches {
    /// So many.
    pub fn new(batches: u32) -> Self {
        Self {
            most: batches,
            free: Arc::new(AtomicU32::new(batches)),
        }
    }

    pub(super) fn is_left(&self) -> bool {
        self.free.load(Relaxed) > 0
    }

    pub(super) fn take(&self) -> bool {
        let take = |free: u32| free.checked_sub(1);
        self.free.fetch_update(Relaxed, Relaxed, take).is_ok()
    }

    pub(super) fn give_back(&self) {
        self.free.fetch_add(1, Relaxed);
    }
}

impl BatchLimits {
    /// The usual limits for work on this pool. Its `max_waiters` and its `acquire_timeout` hold here too; two workers, and
    /// with what there is to spare at most a third of its connections; 512 rows and 1 MiB a batch; 64 MiB waiting.
    pub fn of(pool: &Pool) -> Self {
        let config = &pool.config().pool;
        let workers = 2;
        Self {
            workers,
            extra: ExtraBatches::new(third(pool).saturating_sub(workers)),
            batch_rows: 512,
            batch_bytes: 1024 * 1024,
            waiting: config.max_waiters as usize,
            waiting_bytes: 64 * 1024 * 1024,
            queue_timeout: config.acquire_timeout,
            expected_wait: config.acquire_timeout,
        }
    }

    /// The usual limits for each of as many batchers as the pool has [runtimes](Pool::per_runtime): one worker, and a share of all
    /// else. Each batcher is to get a clone, so that they share what there is to spare.
    pub fn per_runtime(pool: &Pool) -> Self {
        let homes = u32::try_from(pool.per_runtime().count()).unwrap_or(u32::MAX);
        let all = Self::of(pool);
        Self {
            workers: 1,
            extra: ExtraBatches::new(third(pool).saturating_sub(homes)),
            waiting: all.waiting.div_ceil(homes as usize),
            waiting_bytes: all.waiting_bytes.div_ceil(homes as usize),
            ..all
        }
    }

    /// How many batches may wait for locks, so that one is left for others.
    pub(crate) fn waiting_for_locks(&self) -> usize {
        let running = self.workers.saturating_add(self.extra.most);
        running.saturating_sub(1).max(1) as usize
    }

    /// The same, with as much as any work needs.
    pub(super) fn at_least_one(self) -> Self {
        Self {
            workers: self.workers.max(1),
            batch_rows: self.batch_rows.max(1),
            ..self
        }
    }
}

/// How many of the pool's connections the batches of one kind may take.
fn third(pool: &Pool) -> u32 {
    let limits = &pool.config().pool;
    (limits.max_size + limits.max_overflow) / 3
}

/// What a [`Batcher`](crate::Batcher) has done and is doing. Counters count from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Requests that wait to be sent.
    pub waiting: usize,
    /// Bytes of theirs.
    pub waiting_bytes: usize,
    /// How long the first in line has waited.
    pub longest_wait: Duration,
    /// Batches under way.
    pub running: u32,
    /// Requests sent.
    pub requests: u64,
    /// Batches sent.
    pub batches: u64,
    /// Requests refused at once because too much waited.
    pub refused: u64,
    /// Requests that were not sent in time.
    pub expired: u64,
    /// Whether one was refused within the last ten seconds.
    pub refusing: bool,
}

impl std::ops::Add for QueueStats {
    type Output = Self;

    /// Of two queues that do the same work, such as those of two cores.
    fn add(self, other: Self) -> Self {
        Self {
            waiting: self.waiting + other.waiting,
            waiting_bytes: self.waiting_bytes + other.waiting_bytes,
            longest_wait: self.longest_wait.max(other.longest_wait),
            running: self.running + other.running,
            requests: self.requests + other.requests,
            batches: self.batches + other.batches,
            refused: self.refused + other.refused,
            expired: self.expired + other.expired,
            refusing: self.refusing || other.refusing,
        }
    }
}
