//! Why no connection could be acquired.
//!
//! Invariant: every error has a snapshot of the pool, so that one log line is enough to tell exhaustion from a dead
//! server.
//!
//! The text of an error includes its cause. Therefore it has no [`source`](Error::source): a report that prints the
//! chain of causes would print it twice.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use crate::{Chain, Holder};

/// Why a connect failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError<E: Error + 'static> {
    /// The manager returned this error.
    #[error("{}", Chain(.0))]
    Failed(E),
    /// It took longer than [`connect_timeout`](crate::Config::connect_timeout), which is given.
    #[error("no connection within {:.1} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// Its task ended early: the manager panicked, or the runtime ended.
    #[error("the connect was aborted: the manager panicked, or the runtime has ended")]
    Aborted,
}

/// What a caller was waiting for when its wait timed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// For another caller to return a connection.
    Waiting,
    /// For a connect: no connection was open that another caller could have returned.
    Connecting,
    /// For the [check](crate::Manager::check) of an idle connection.
    Checking,
    /// For the hook [`before_acquire`](crate::Hooks::before_acquire).
    Hook,
}

/// Why a caller got no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The wait timed out.
    Timeout {
        /// What it was waiting for.
        phase: Phase,
        /// How long it had waited.
        waited: Duration,
    },
    /// More callers wait than can be served. Either the caller was refused at once, because
    /// [`max_waiters`](crate::Config::max_waiters) callers were waiting or its wait would have timed out; or it was
    /// shed after waiting (see [`Config::shed_target`](crate::Config::shed_target)).
    Overloaded,
    /// Connects have failed for [`Config::breaker_after`](crate::Config::breaker_after), and no connection is open. The
    /// caller was refused at once. The snapshot has the last connect error.
    Unavailable,
    /// Connects fail [permanently](crate::Manager::is_permanent), and no connection is open. Waiting does not help
    /// until the cause is removed. The snapshot has the last connect error.
    Permanent,
    /// The hook [`before_acquire`](crate::Hooks::before_acquire) failed, or had a new connection closed. See
    /// [`hook_error`](AcquireError::hook_error).
    Rejected,
    /// The pool is draining or closed.
    Closed,
}

/// The state of the pool when an acquire failed.
#[derive(Debug)]
#[non_exhaustive]
pub struct Snapshot<E: Error + 'static> {
    /// Connections held by callers.
    pub in_use: u32,
    /// Connections that are ready for a caller.
    pub idle: u32,
    /// Connects under way.
    pub connecting: u32,
    /// Connections being cleaned before their next use.
    pub cleaning: u32,
    /// Connections whose close is not confirmed yet. They count against the capacity.
    pub closing: u32,
    /// Callers that wait.
    pub waiting: u32,
    /// The maximum number of connections: `max_size + max_overflow`.
    pub capacity: u32,
    /// Why the last connect failed. `None` if it succeeded.
    pub last_connect_error: Option<Arc<ConnectError<E>>>,
    /// The caller that has held a connection longest.
    pub oldest_holder: Option<Holder>,
}

/// Could not acquire a connection. Cheap to clone.
#[derive(Debug)]
pub struct AcquireError<E: Error + 'static> {
    /// Behind a pointer to keep the `Result` small, which every successful acquire moves.
    details: Arc<Details<E>>,
}

#[derive(Debug)]
struct Details<E: Error + 'static> {
    reason: Reason,
    retry_after: Option<Duration>,
    hook_error: Option<E>,
    snapshot: Snapshot<E>,
}

impl<E: Error + 'static> AcquireError<E> {
    pub(crate) fn new(reason: Reason, retry_after: Option<Duration>, snapshot: Snapshot<E>) -> Self {
        Self {
            details: Arc::new(Details {
                reason,
                retry_after,
                hook_error: None,
                snapshot,
            }),
        }
    }

    /// The error of a caller whose connection the hook rejected.
    pub(crate) fn rejected(hook_error: Option<E>, snapshot: Snapshot<E>) -> Self {
        Self {
            details: Arc::new(Details {
                reason: Reason::Rejected,
                retry_after: None,
                hook_error,
                snapshot,
            }),
        }
    }

    /// Returns why the caller got no connection.
    pub fn reason(&self) -> Reason {
        self.details.reason
    }

    /// Returns the state of the pool at that moment.
    pub fn snapshot(&self) -> &Snapshot<E> {
        &self.details.snapshot
    }

    /// Returns the error of the hook [`before_acquire`](crate::Hooks::before_acquire), if it failed.
    pub fn hook_error(&self) -> Option<&E> {
        self.details.hook_error.as_ref()
    }

    /// Returns after what time to try again, if that is known. An earlier attempt would fail too.
    pub fn retry_after(&self) -> Option<Duration> {
        self.details.retry_after
    }

    /// True if the same call may succeed later by itself. False if the pool is closed or connects fail permanently.
    pub fn is_retryable(&self) -> bool {
        !matches!(self.reason(), Reason::Closed | Reason::Permanent)
    }
}

impl<E: Error + 'static> Clone for AcquireError<E> {
    fn clone(&self) -> Self {
        Self {
            details: self.details.clone(),
        }
    }
}

impl<E: Error + 'static> fmt::Display for AcquireError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The reason first, the state of the pool last.
        match self.reason() {
            Reason::Timeout { phase, waited } => {
                let what = match phase {
                    Phase::Waiting => "waiting for a connection",
                    Phase::Connecting => "connecting",
                    Phase::Checking => "checking an idle connection",
                    Phase::Hook => "in the hook before the acquire",
                };
                write!(f, "timed out after {:.2} s {what}", waited.as_secs_f64())?;
            }
            Reason::Overloaded => f.write_str("too many callers are waiting for a connection")?,
            Reason::Unavailable => f.write_str("connecting has failed for a while")?,
            Reason::Permanent => f.write_str("connecting fails until its cause is removed")?,
            Reason::Closed => return f.write_str("the pool is closed"),
            Reason::Rejected => {
                f.write_str("the hook before the acquire rejected the connection")?;
                if let Some(error) = self.hook_error() {
                    write!(f, ": {}", Chain(error))?;
                }
                return write!(f, ": {}", self.snapshot());
            }
        }
        match &self.snapshot().last_connect_error {
            Some(error) => write!(f, ": {error} ({})", self.snapshot()),
            None => write!(f, ": {}", self.snapshot()),
        }
    }
}

impl<E: Error + 'static> fmt::Display for Snapshot<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} in use, {} idle, {} connecting, {} waiting",
            self.in_use, self.capacity, self.idle, self.connecting, self.waiting
        )?;
        for (count, state) in [(self.cleaning, "being cleaned"), (self.closing, "closing")] {
            if count > 0 {
                write!(f, ", {count} {state}")?;
            }
        }
        if let Some(holder) = &self.oldest_holder {
            write!(f, "; held longest: {holder}")?;
        }
        Ok(())
    }
}

impl<E: Error + 'static> Error for AcquireError<E> {}
