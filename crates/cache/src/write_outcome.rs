//! How a write stands before and after its commit. Invariant: a write that is not known to be visible everywhere is never
//! called settled.

use std::{fmt, sync::Arc, time::Duration};

/// How a write stands after its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a pending write must not be acknowledged as if it were settled"]
pub enum Coherence {
    /// Every read that begins from now on sees the write.
    Settled,
    /// The write is committed, but Redis could not be told in time, and the epoch has not moved on. Until one of the two
    /// happens, a read may still miss the write. Telling Redis goes on in the background. Report this to the caller.
    Pending,
}

/// A write that may not be made now. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the write could not be announced within {waited:?}: {reason}; nothing was written, try again")]
pub struct NotFenced {
    /// How long the cache tried.
    pub waited: Duration,
    /// What prevented the last try.
    pub reason: Obstacle,
}

/// Why a write cannot be announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// The database has not yet said which epoch is in force.
    UnknownEpoch,
    /// The database cannot say which epoch is in force until someone changes something; this is its error. The write
    /// fails without waiting.
    UnreadableEpoch(Arc<str>),
    /// Redis is trusted and does not answer.
    Unreachable,
}

impl Obstacle {
    /// Whether waiting does not help.
    pub(crate) fn is_permanent(&self) -> bool {
        matches!(self, Self::UnreadableEpoch(_))
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownEpoch => f.write_str("the epoch is not known"),
            Self::UnreadableEpoch(why) => write!(f, "the row of the epoch cannot be read: {why}"),
            Self::Unreachable => f.write_str("Redis does not answer"),
        }
    }
}
