//! The result of what may fail here. Invariant: an error ends the whole run.

use std::error::Error;

/// A value, or the reason to end the run.
pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;
