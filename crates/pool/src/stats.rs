//! What a pool has done and is doing, for dashboards and metrics. Invariant: a [`Stats`] is one
//! consistent moment, taken under one lock.

use std::time::Duration;

use crate::{Histogram, Retired};

/// One moment in the life of a pool.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Connections kept warm.
    pub min_size: u32,
    /// Connections kept once opened.
    pub max_size: u32,
    /// Connections allowed beyond `max_size`.
    pub max_overflow: u32,
    /// Connections ready to be taken.
    pub idle: u32,
    /// Connections held by callers.
    pub in_use: u32,
    /// Connects under way.
    pub connecting: u32,
    /// Connections being cleaned before their next use.
    pub cleaning: u32,
    /// Connections whose close is not confirmed yet.
    pub closing: u32,
    /// Callers in line.
    pub waiting: u32,
    /// How long the caller at the head of the line has waited.
    pub longest_wait: Option<Duration>,
    /// Connections held by one caller for longer than `leak_after`, up to now.
    pub leaked: u32,
    /// False once the pool is draining or closed.
    pub open: bool,
    /// True while the pool is paused.
    pub paused: bool,
    /// Connections taken, or handed to a caller in line.
    pub acquired: u64,
    /// Acquires whose time ran out.
    pub timeouts: u64,
    /// Acquires refused at once: too many callers were waiting, their own time would have run out
    /// in line, or the server is taken for dead.
    pub refused: u64,
    /// Acquires given up by the pool after they had waited, so that the others wait less.
    pub shed: u64,
    /// True if a caller was refused or shed within the last second because too many wait.
    pub shedding: bool,
    /// How often a tokio task was seen that had to wait for a connection while it held one, in a pool
    /// of at most 32: where all holders do so, none of them is ever served. Newcomers are looked at
    /// every 10 ms at most, those whose time ran out always, and nobody for a minute after a sighting.
    pub nested_waits: u64,
    /// Connects that succeeded.
    pub connects: u64,
    /// Connects that failed.
    pub connect_failures: u64,
    /// True while newcomers are refused because connects have failed for `breaker_after`.
    pub breaker_open: bool,
    /// Failures since the last connect that succeeded; connects that were under way together fail
    /// together and count as one.
    pub connect_failures_in_a_row: u32,
    /// Connections that came back dirty and were given to the cleaner.
    pub cleaned: u64,
    pub(crate) retired: [u64; Retired::ALL.len()],
    /// Times of acquires served by a connection that was open already, until it was handed over;
    /// immediate ones count as zero.
    pub waiting_times: Histogram,
    /// Times of acquires served by a connection that was opened for them, until it was handed over.
    pub connecting_times: Histogram,
    /// Times that successful connects took.
    pub connect_times: Histogram,
}

impl Stats {
    /// Connections that exist and can be used, now or after cleaning.
    pub fn size(&self) -> u32 {
        self.idle + self.in_use + self.cleaning
    }

    /// Connections beyond `max_size`.
    pub fn overflow(&self) -> u32 {
        self.size().saturating_sub(self.max_size)
    }

    /// How many connections were closed for this reason.
    pub fn retired(&self, reason: Retired) -> u64 {
        self.retired[reason as usize]
    }

    /// Times of all acquires that succeeded.
    pub fn acquire_times(&self) -> Histogram {
        let mut all = self.waiting_times.clone();
        all.merge(&self.connecting_times);
        all
    }
}
