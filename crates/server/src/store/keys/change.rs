//! A change of one key, and its result. [`change_batch`](super::change_batch) makes the changes.

use cenote_cache::{Coherence, NotFenced};
use cenote_postgres::Error;

use super::condition::Condition;

/// A write or a delete of one key.
#[derive(Debug)]
pub(crate) struct Change {
    pub(super) key: String,
    /// `None` for a delete.
    pub(super) value: Option<String>,
    pub(super) condition: Option<Condition>,
}

impl Change {
    pub(crate) fn write(key: String, value: String) -> Self {
        Self {
            key,
            value: Some(value),
            condition: None,
        }
    }

    pub(crate) fn delete(key: String) -> Self {
        Self {
            key,
            value: None,
            condition: None,
        }
    }

    /// Makes the change depend on a condition.
    pub(crate) fn only_if(self, condition: Option<Condition>) -> Self {
        Self { condition, ..self }
    }
}

/// The result of a change.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ChangeOutcome {
    Committed(Committed),
    /// A delete of a key that has no value.
    NothingToDelete,
    /// The condition does not hold for the current version, which is [`ABSENT`](super::ABSENT) if the key has no value.
    ConditionFailed {
        version: i64,
    },
}

/// A change that is durable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Committed {
    pub(crate) version: i64,
    /// Whether every read sees the change from now on.
    pub(crate) coherence: Coherence,
}

/// Why a change was not made, or why its outcome is unknown.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum WriteError {
    #[error(transparent)]
    Database(#[from] Error),
    /// The key could not be fenced in the cache; nothing was sent.
    #[error(transparent)]
    NotFenced(#[from] NotFenced),
    /// Nothing was sent.
    #[error("the database is a standby, which accepts no writes")]
    Standby,
}
