//! Why no connection could be acquired. Invariant: every error says what the pool looked like at that
//! moment, so that a log line alone tells exhaustion from a dead server.
//!
//! The text of an error says all of it, its cause included, and so it has no [`source`](Error::source): whoever prints
//! a chain of causes would print it twice.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use crate::{Chain, Holder};

/// Why a connect did not lead to a connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError<E: Error + 'static> {
    /// The manager said so.
    #[error("{}", Chain(.0))]
    Failed(E),
    /// It took longer than `connect_timeout`.
    #[error("no connection within {:.1} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// Its task ended early: the manager panicked, or the runtime has ended.
    #[error("the connect was aborted: the manager panicked, or the runtime has ended")]
    Aborted,
}

/// What a caller was waiting for when its time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// For another caller to return a connection.
    Waiting,
    /// For a connect: no connection was open that anyone could have returned.
    Connecting,
    /// For the check of a connection that had long been idle.
    Checking,
}

/// What kept a caller from getting a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its time ran out.
    Timeout {
        /// What it was waiting for.
        phase: Phase,
        /// How long it had waited.
        waited: Duration,
    },
    /// More callers wait than can be served. Either nothing was waited for, because `max_waiters`
    /// were in line already or this caller's time would have run out there, or it was shed from a
    /// line that had been too long for a while (see
    /// [`Config::shed_target`](crate::Config::shed_target)).
    Overloaded,
    /// Connects have failed for [`Config::breaker_after`](crate::Config::breaker_after), and no
    /// connection is open; nothing was waited for. The snapshot says why the last one failed.
    Unavailable,
    /// The last connect failed [for good](crate::Manager::is_permanent), and no connection is open:
    /// waiting cannot help until someone changes something. The snapshot says why it failed.
    Permanent,
    /// The pool is draining or closed.
    Closed,
}

/// What the pool looked like when an acquire failed.
#[derive(Debug)]
pub struct Snapshot<E: Error + 'static> {
    /// Connections held by callers.
    pub in_use: u32,
    /// Connections ready to be taken.
    pub idle: u32,
    /// Connects under way.
    pub connecting: u32,
    /// Connections being cleaned before their next use.
    pub cleaning: u32,
    /// Connections whose close is not confirmed yet; they count against the capacity.
    pub closing: u32,
    /// Callers in line.
    pub waiting: u32,
    /// Most connections that may exist: `max_size + max_overflow`.
    pub capacity: u32,
    /// Why the most recent connect failed, if none has succeeded since.
    pub last_connect_error: Option<Arc<ConnectError<E>>>,
    /// Who has held a connection longest.
    pub oldest_holder: Option<Holder>,
}

/// Could not acquire a connection. Cheap to clone.
#[derive(Debug)]
pub struct AcquireError<E: Error + 'static> {
    /// Behind one pointer: every successful acquire moves a `Result` that has room for it.
    details: Arc<Details<E>>,
}

#[derive(Debug)]
struct Details<E: Error + 'static> {
    reason: Reason,
    retry_after: Option<Duration>,
    snapshot: Snapshot<E>,
}

impl<E: Error + 'static> AcquireError<E> {
    pub(crate) fn new(reason: Reason, retry_after: Option<Duration>, snapshot: Snapshot<E>) -> Self {
        Self {
            details: Arc::new(Details {
                reason,
                retry_after,
                snapshot,
            }),
        }
    }

    /// What kept the caller from getting a connection.
    pub fn reason(&self) -> Reason {
        self.details.reason
    }

    /// What the pool looked like at that moment.
    pub fn snapshot(&self) -> &Snapshot<E> {
        &self.details.snapshot
    }

    /// After which time to try again, if that can be said: trying earlier is in vain.
    pub fn retry_after(&self) -> Option<Duration> {
        self.details.retry_after
    }

    /// True if the same call may succeed later by itself: not if the pool was closed, nor if the
    /// last connect failed for good.
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
        // What to look into comes first, what the pool looked like last.
        match self.reason() {
            Reason::Timeout { phase, waited } => {
                let what = match phase {
                    Phase::Waiting => "waiting for a connection",
                    Phase::Connecting => "connecting",
                    Phase::Checking => "checking an idle connection",
                };
                write!(f, "timed out after {:.2} s {what}", waited.as_secs_f64())?;
            }
            Reason::Overloaded => f.write_str("too many callers are waiting for a connection")?,
            Reason::Unavailable => f.write_str("connecting has failed for a while")?,
            Reason::Permanent => f.write_str("connecting fails until its cause is removed")?,
            Reason::Closed => return f.write_str("the pool is closed"),
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
