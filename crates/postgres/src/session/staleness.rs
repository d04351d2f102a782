//! Whether a statement failed because something it depends on has changed since it was prepared.
//!
//! Invariant: what is called stale had no effect, so that it may be prepared anew and run again.

use std::error::Error as _;

use tokio_postgres::types::WrongType;

/// What an error says of the statement that failed with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Staleness {
    /// Nothing, or that it would fail again.
    None,
    /// Its parameters no longer fit, which may be the caller's fault or that of a changed table. It was not sent.
    Parameters,
    /// It does not fit the tables, types or functions that are there now. That need not be new.
    Possible,
    /// The server does not know it any more.
    Forgotten,
    /// What it was prepared for has changed or is gone.
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
            // A type, function or relation that was dropped. The server translates only what users are meant to read.
            "XX000" if refused.message().starts_with("cache lookup failed for ") => Self::Certain,
            // A statement keeps the types of its parameters. Another number of fields in a composite type, no such
            // operator or function, no cast, no such type, an ambiguous call or parameter.
            "42804" | "42883" | "42846" | "42704" | "42725" | "42P08" => Self::Possible,
            _ => Self::None,
        }
    }
}
