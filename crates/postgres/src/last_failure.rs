//! How the last command of a piece of work failed, for work whose own error type does not tell.
//!
//! Invariant: only commands of the work's own task are seen, and a command that succeeds clears what an earlier one left.

use std::{any::Any, cell::Cell, pin::pin};

use tokio_postgres::error::SqlState;

use crate::Error;

tokio::task_local! {
    static LAST: Cell<Option<Failure>>;
}

/// What a failure means for another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Something that a prepared statement depends on has changed.
    pub(crate) is_stale: bool,
    /// [`Error::is_retryable`].
    pub(crate) is_retryable: bool,
    /// [`Error::is_outcome_unknown`].
    pub(crate) is_outcome_unknown: bool,
}

impl Failure {
    /// Whether it passes, and the work certainly had no effect.
    pub(crate) fn certainly_passes(self) -> bool {
        self.is_retryable && !self.is_outcome_unknown
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self {
            is_stale: matches!(error, Error::Stale(_)),
            is_retryable: error.is_retryable(),
            is_outcome_unknown: error.is_outcome_unknown(),
        }
    }
}

/// Runs work. If it fails, also returns what that means for another attempt: by its error if that is an [`Error`], or else by
/// the last command that it ran. `None`: the work failed for reasons of its own.
pub(crate) async fn watch<T, E: 'static>(work: impl Future<Output = Result<T, E>>) -> Result<T, (E, Option<Failure>)> {
    let mut watched = pin!(LAST.scope(Cell::new(None), work));
    let result = watched.as_mut().await;
    result.map_err(|error| {
        let failure = match (&error as &dyn Any).downcast_ref::<Error>() {
            Some(known) => Some(known.into()),
            None => watched.take_value().and_then(Cell::into_inner),
        };
        (error, failure)
    })
}

/// Notes how a command of this task ended.
pub(crate) fn note(error: Option<&Error>) {
    // What a failed transaction refuses says nothing new.
    if error.and_then(Error::code) == Some(&SqlState::IN_FAILED_SQL_TRANSACTION) {
        return;
    }
    // Outside of watched work nobody asks.
    let _unwatched = LAST.try_with(|last| last.set(error.map(Failure::from)));
}
