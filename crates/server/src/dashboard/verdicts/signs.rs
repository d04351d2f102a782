//! The signs that verdicts are made of. Invariant: plain values, so that a test can make any of them up.

use std::time::Duration;

/// Signs of a moment and of the minutes before it. The default is a service that works.
#[derive(Clone, Debug, Default)]
pub(in crate::dashboard) struct Signs {
    /// The service waits for its database, or brings the schema up to date.
    pub(in crate::dashboard) is_starting: bool,
    /// No caller has sent a request since the start.
    pub(in crate::dashboard) is_unused: bool,
    pub(in crate::dashboard) last_minute: LastMinute,
    pub(in crate::dashboard) pool: Pool,
    /// Why the last connect failed.
    pub(in crate::dashboard) connect_problem: Option<&'static str>,
    /// Why the cache is not used.
    pub(in crate::dashboard) cache_problem: Option<String>,
    /// Why there is no session with Redis.
    pub(in crate::dashboard) redis_problem: Option<String>,
    /// Changes made outside the service are not seen.
    pub(in crate::dashboard) is_feed_down: bool,
    pub(in crate::dashboard) shortage: Option<Shortage>,
    pub(in crate::dashboard) certificate: Option<Certificate>,
    /// What is wrong with the keys of tokens.
    pub(in crate::dashboard) token_keys_problem: Option<String>,
    /// What is wrong with API keys.
    pub(in crate::dashboard) api_keys_problem: Option<String>,
    /// Why the instances do not share the limits.
    pub(in crate::dashboard) limits_problem: Option<String>,
    pub(in crate::dashboard) five_minutes: FiveMinutes,
}

/// What was counted in about the last five minutes, in which few events tell something too.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::dashboard) struct FiveMinutes {
    /// Requests of callers.
    pub(in crate::dashboard) requests: u64,
    /// Those that a limit refused.
    pub(in crate::dashboard) refused_by_limits: u64,
    /// Failed logins that were refused by their limit.
    pub(in crate::dashboard) guesses: u64,
}

/// What was counted in about the last minute.
#[derive(Clone, Debug, Default)]
pub(in crate::dashboard) struct LastMinute {
    /// Requests of callers.
    pub(in crate::dashboard) requests: u64,
    /// Those answered 5xx.
    pub(in crate::dashboard) errors: u64,
    /// Requests that got no connection in time.
    pub(in crate::dashboard) acquire_timeouts: u64,
    pub(in crate::dashboard) connect_failures: u64,
    /// Statements that took longer than `DB_SLOW_QUERY`.
    pub(in crate::dashboard) slow_statements: u64,
    /// How long 99 of 100 callers waited for a connection at most, in the last 20 seconds or so.
    pub(in crate::dashboard) wait_p99: Duration,
}

/// The pool and the queues before it.
#[derive(Clone, Debug, Default)]
pub(in crate::dashboard) struct Pool {
    pub(in crate::dashboard) is_paused: bool,
    /// Requests are refused because connects fail.
    pub(in crate::dashboard) is_breaker_open: bool,
    pub(in crate::dashboard) failures_in_a_row: u32,
    pub(in crate::dashboard) in_use: u32,
    /// Open connections.
    pub(in crate::dashboard) size: u32,
    pub(in crate::dashboard) max: u32,
    pub(in crate::dashboard) overflow: u32,
    /// For how long there have been more connections than the maximum.
    pub(in crate::dashboard) overflow_for: Option<Duration>,
    pub(in crate::dashboard) leaked: u32,
    /// `DB_POOL_LEAK_AFTER`.
    pub(in crate::dashboard) leak_after: Option<Duration>,
    /// Requests that wait for a connection or to share a statement.
    pub(in crate::dashboard) waiting: u64,
    /// How long the first of them has waited.
    pub(in crate::dashboard) longest_wait: Duration,
    /// How long the write has waited that waits longest for a lock.
    pub(in crate::dashboard) longest_lock_wait: Duration,
    /// `DB_POOL_TIMEOUT`.
    pub(in crate::dashboard) timeout: Duration,
    /// `DB_SLOW_QUERY`.
    pub(in crate::dashboard) slow: Option<Duration>,
    /// The use of a connection that has lasted longest.
    pub(in crate::dashboard) longest_use: Option<Use>,
}

/// A use of a connection.
#[derive(Clone, Debug)]
pub(in crate::dashboard) struct Use {
    pub(in crate::dashboard) lasts: Duration,
    /// The source line that asked for the connection.
    pub(in crate::dashboard) by: String,
}

/// Memory is short.
#[derive(Clone, Debug)]
pub(in crate::dashboard) struct Shortage {
    pub(in crate::dashboard) is_critical: bool,
    pub(in crate::dashboard) text: String,
}

/// The certificate shown to clients.
#[derive(Clone, Debug)]
pub(in crate::dashboard) struct Certificate {
    /// Until it expires.
    pub(in crate::dashboard) left: Duration,
    /// A reload has failed in the last hour, and none has succeeded since.
    pub(in crate::dashboard) has_failed_reload: bool,
}
