//! Recognizes a statement that failed because something it depends on has changed since it was prepared.
//!
//! Invariant: a statement that is called stale had no effect, so it may be prepared again and repeated.

use std::error::Error as _;

use tokio_postgres::types::WrongType;

/// What an error says about its statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Staleness {
    /// It is not stale, or would fail again.
    None,
    /// Its parameters do not fit: by the caller's mistake or because a table has changed. It was not sent.
    Parameters,
    /// It does not fit the current tables, types or functions. That may have been so from the start.
    Possible,
    /// The server has forgotten it.
    Forgotten,
    /// Something it was prepared for has changed or is gone.
    Certain,
}

impl Staleness {
    pub(crate) fn of(error: &tokio_postgres::Error) -> Self {
        let Some(refused) = error.as_db_error() else {
            let is_wrong = error.source().is_some_and(|cause| cause.is::<WrongType>());
            return match is_wrong {
                true => Self::Parameters,
                false => Self::None,
            };
        };
        match refused.code().code() {
            "26000" => Self::Forgotten,
            // "Cached plan must not change result type".
            "0A000" if refused.routine() == Some("RevalidateCachedQuery") => Self::Certain,
            // A type, function or relation was dropped. This message is never translated, because it is not meant for
            // users.
            "XX000" if refused.message().starts_with("cache lookup failed for ") => Self::Certain,
            // A statement keeps the types of its parameters. In order: another number of fields in a composite type, no
            // such operator or function, no cast, no such type, an ambiguous call, an ambiguous parameter.
            "42804" | "42883" | "42846" | "42704" | "42725" | "42P08" => Self::Possible,
            _ => Self::None,
        }
    }
}
