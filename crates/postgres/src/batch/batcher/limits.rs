//! The limits of a batcher, and its statistics. Invariant: plain values; what several batchers share are atomics.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::Pool;

/// The size of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Rows that the request reads or writes.
    pub rows: usize,
    /// The approximate number of bytes that the request sends.
    pub bytes: usize,
}

/// The limits of a [`Batcher`](crate::Batcher): how much it sends at once, and how much may wait.
#[derive(Clone, Debug)]
pub struct BatchLimits {
    /// The number of workers: batches that run at once while the database is fast. More workers mean smaller batches.
    /// One is enough where each core has its own batcher.
    pub workers: u32,
    /// Batches that may run besides those of the workers. When a batch takes longer than 20 ms, another may start in
    /// its place, as long as an extra one is left, so that a slow batch does not delay later requests.
    pub extra: ExtraBatches,
    /// The maximum number of rows in a batch. A request with more goes in a batch of its own.
    pub batch_rows: usize,
    /// The maximum number of bytes in a batch. A request with more goes in a batch of its own.
    pub batch_bytes: usize,
    /// The maximum number of waiting requests; more are refused at once. Requests that wait for a busy
    /// [key](crate::Batch::key) have the same limit again and do not count against the others.
    pub waiting: usize,
    /// The maximum number of waiting bytes; a single request may have more. Requests that wait for a busy key are
    /// counted separately. It can be changed while the batcher works.
    pub waiting_bytes: ByteBound,
    /// The longest time that a request waits to be sent.
    pub queue_timeout: Duration,
    /// A request that would probably wait longer than this is refused at once. The estimate is Little's law, from the
    /// length of the queue and its rate in the last seconds; it applies when the queue has not been empty for a second.
    pub expected_wait: Duration,
}

/// The number of batches that may run besides those of the workers. Batchers with clones share it.
#[derive(Clone, Debug)]
pub struct ExtraBatches {
    most: u32,
    free: Arc<AtomicU32>,
}

impl ExtraBatches {
    /// Creates a budget of `batches` extra batches.
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

/// A bound on the bytes that wait in a queue. Clones share it, so it can be changed while batchers use it. A lower bound
/// refuses further requests; those that wait already stay.
#[derive(Clone, Debug)]
pub struct ByteBound(Arc<AtomicUsize>);

impl ByteBound {
    /// Creates a bound of this many bytes.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// Returns the bound in bytes.
    pub fn get(&self) -> usize {
        self.0.load(Relaxed)
    }

    /// Changes the bound, for all batchers that share it.
    pub fn set(&self, bytes: usize) {
        self.0.store(bytes, Relaxed);
    }
}

impl BatchLimits {
    /// Returns the default limits for work on this pool.
    ///
    /// `waiting` and `queue_timeout` are the pool's `max_waiters` and `acquire_timeout`; there are two workers, which
    /// with the extra batches take at most a third of the pool's connections; 512 rows and 1 MiB a batch; 64 MiB
    /// waiting.
    pub fn of(pool: &Pool) -> Self {
        let config = &pool.config().pool;
        let workers = 2;
        Self {
            workers,
            extra: ExtraBatches::new(third(pool).saturating_sub(workers)),
            batch_rows: 512,
            batch_bytes: 1024 * 1024,
            waiting: config.max_waiters as usize,
            waiting_bytes: ByteBound::new(64 * 1024 * 1024),
            queue_timeout: config.acquire_timeout,
            expected_wait: config.acquire_timeout,
        }
    }

    /// Returns the default limits for one batcher on each of the pool's [runtimes](Pool::per_runtime): one worker, and
    /// an equal share of the rest. Give each batcher a clone, so that they share the extra batches.
    pub fn per_runtime(pool: &Pool) -> Self {
        let runtimes = u32::try_from(pool.per_runtime().count()).unwrap_or(u32::MAX);
        let all = Self::of(pool);
        Self {
            workers: 1,
            extra: ExtraBatches::new(third(pool).saturating_sub(runtimes)),
            waiting: all.waiting.div_ceil(runtimes as usize),
            waiting_bytes: ByteBound::new(all.waiting_bytes.get().div_ceil(runtimes as usize)),
            ..all
        }
    }

    /// Returns how many batches may wait for locks. One less than may run, so that one is left for others.
    pub(crate) fn waiting_for_locks(&self) -> usize {
        let running = self.workers.saturating_add(self.extra.most);
        running.saturating_sub(1).max(1) as usize
    }

    /// Returns the limits, raised to the minimum with which a batcher can work.
    pub(super) fn at_least_one(self) -> Self {
        Self {
            workers: self.workers.max(1),
            batch_rows: self.batch_rows.max(1),
            ..self
        }
    }
}

/// Returns a third of the pool's connections: the most that one kind of batches takes.
fn third(pool: &Pool) -> u32 {
    let limits = &pool.config().pool;
    (limits.max_size + limits.max_overflow) / 3
}

/// How many batches had up to 1, 2, 4 … 512 requests, and how many had more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchSizes([u64; Self::EDGES + 1]);

impl BatchSizes {
    /// The last edge is 2^9.
    const EDGES: usize = 10;

    pub(super) fn count(&mut self, requests: usize) {
        let at = requests.max(1).next_power_of_two().trailing_zeros() as usize;
        self.0[at.min(Self::EDGES)] += 1;
    }

    /// Iterates over the edges: a number of requests, and the number of batches with at most that many.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0[..Self::EDGES].iter().enumerate().scan(0, |total, (at, count)| {
            *total += count;
            Some((1 << at, *total))
        })
    }
}

impl std::ops::Add for BatchSizes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] + other.0[at]))
    }
}

/// The statistics of a [`Batcher`](crate::Batcher). Counters count from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Requests that wait to be sent now.
    pub waiting: usize,
    /// The bytes of the waiting requests.
    pub waiting_bytes: usize,
    /// How long the first request in the queue has waited.
    pub longest_wait: Duration,
    /// How long the write of a [`Combiner`](crate::Combiner) has waited that waits longest for a row which another session
    /// has locked; zero if none waits.
    pub longest_lock_wait: Duration,
    /// Batches that run now.
    pub running: u32,
    /// Requests that were sent.
    pub requests: u64,
    /// Batches that were sent.
    pub batches: u64,
    /// How many requests the batches had.
    pub batch_sizes: BatchSizes,
    /// Requests that were refused at once because too much waited.
    pub refused: u64,
    /// Requests that were not sent in time.
    pub expired: u64,
    /// Whether a request was refused in the last ten seconds.
    pub refusing: bool,
}

impl std::ops::Add for QueueStats {
    type Output = Self;

    /// Adds the statistics of two queues that do the same work, such as those of two cores.
    fn add(self, other: Self) -> Self {
        Self {
            waiting: self.waiting + other.waiting,
            waiting_bytes: self.waiting_bytes + other.waiting_bytes,
            longest_wait: self.longest_wait.max(other.longest_wait),
            longest_lock_wait: self.longest_lock_wait.max(other.longest_lock_wait),
            running: self.running + other.running,
            requests: self.requests + other.requests,
            batches: self.batches + other.batches,
            batch_sizes: self.batch_sizes + other.batch_sizes,
            refused: self.refused + other.refused,
            expired: self.expired + other.expired,
            refusing: self.refusing || other.refusing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_counted_at_every_edge_that_it_does_not_exceed() {
        let mut sizes = BatchSizes::default();
        for requests in [1, 2, 3, 4, 512, 513] {
            sizes.count(requests);
        }
        let up_to = |edge| (sizes + sizes).cumulative().find(|(at, _)| *at == edge).unwrap().1;
        assert_eq!([1, 2, 4, 8, 256, 512].map(up_to), [2, 4, 8, 8, 8, 10]);
    }
}
