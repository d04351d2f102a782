//! Why a trial could not be carried out. Invariant: a violation is not an error; it is part of the outcome.

/// Any reason that kept a trial from being carried out.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The result of every fallible function in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
