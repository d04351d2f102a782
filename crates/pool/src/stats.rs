//! Statistics of a pool, for dashboards and metrics.
//!
//! Invariant: all numbers of a [`Stats`] are of the same moment, because they are read under one lock.

use std::time::Duration;

use cenote_metrics::Histogram;

use crate::Retired;

/// Statistics of a pool at one moment. Counters count since the pool was built.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// The number of connections that are kept warm.
    pub min_size: u32,
    /// The number of connections that are kept once opened.
    pub max_size: u32,
    /// The number of connections that are allowed beyond `max_size`.
    pub max_overflow: u32,
    /// Connections that are ready for a caller.
    pub idle: u32,
    /// Connections held by callers.
    pub in_use: u32,
    /// Connects under way.
    pub connecting: u32,
    /// Connections being cleaned before their next use.
    pub cleaning: u32,
    /// Connections whose close is not confirmed yet.
    pub closing: u32,
    /// Callers that wait.
    pub waiting: u32,
    /// How long the first waiter has waited.
    pub longest_wait: Option<Duration>,
    /// Connections held by one caller for longer than `leak_after`.
    pub leaked: u32,
    /// False once the pool is draining or closed.
    pub open: bool,
    /// True while the pool is paused.
    pub paused: bool,
    /// Connections taken from the idle ones or handed to a waiter.
    pub acquired: u64,
    /// Callers that had to wait: they joined the queue. Counted when they join.
    pub waited: u64,
    /// Acquires that timed out.
    pub timeouts: u64,
    /// Acquires refused because too many callers waited, the caller's wait would have timed out, or connects fail.
    pub refused: u64,
    /// The refused ones among them whose reason was that connects fail.
    pub refused_unavailable: u64,
    /// Acquires refused because the pool was draining or closed. Not in `refused`.
    pub refused_closed: u64,
    /// Waiters dropped so that the callers behind them wait less.
    pub shed: u64,
    /// True if a caller was refused or shed within the last second because too many wait.
    pub shedding: bool,
    /// How often a tokio task was seen that waited for a connection while it held one. If all holders do so, none of
    /// them is ever served. Only pools of at most 32 connections are searched: when a caller starts to wait (at most
    /// every 10 ms) and when one times out, but not for a minute after a sighting.
    pub nested_waits: u64,
    /// Connects that succeeded.
    pub connects: u64,
    /// Connects that failed.
    pub connect_failures: u64,
    /// True while callers are refused because connects have failed for `breaker_after`.
    pub breaker_open: bool,
    /// Failures since the last successful connect. Connects that were under way together count as one.
    pub connect_failures_in_a_row: u32,
    /// Connections that were released dirty, and so cleaned.
    pub cleaned: u64,
    pub(crate) retired: [u64; Retired::ALL.len()],
    /// How long acquires took that were served by a connection that was open. At once counts as zero.
    pub waiting_times: Histogram,
    /// How long acquires took that were served by a connection opened for them.
    pub connecting_times: Histogram,
    /// How long successful connects took.
    pub connect_times: Histogram,
    /// How long connections were held, each from when it was handed out until it was released. Empty without
    /// [`Config::time_uses`](crate::Config::time_uses).
    pub use_times: Histogram,
}

impl Stats {
    /// Returns the number of usable connections: idle, in use or being cleaned.
    pub fn size(&self) -> u32 {
        self.idle + self.in_use + self.cleaning
    }

    /// Returns the number of connections beyond `max_size`.
    pub fn overflow(&self) -> u32 {
        self.size().saturating_sub(self.max_size)
    }

    /// Returns how many connections were closed, or left the pool, for this reason.
    pub fn retired(&self, reason: Retired) -> u64 {
        self.retired[reason as usize]
    }

    /// Returns how many connections were closed, or left the pool, for any reason.
    pub fn retired_total(&self) -> u64 {
        self.retired.iter().sum()
    }

    /// Returns how long all successful acquires took.
    pub fn acquire_times(&self) -> Histogram {
        let mut all = self.waiting_times.clone();
        all.merge(&self.connecting_times);
        all
    }
}
