//! The routes about keys: `POST /write`, `GET` and `DELETE /read/{key}`, `POST /read`.
//!
//! Invariant: a key that passes has 1 to 2048 bytes and no NUL.

mod cache_status;
mod read;
mod read_many;
mod write;

// The macros of utoipa generate an item beside each handler, which a list of handlers in `OpenApi` must find here.
pub(super) use self::{read::*, read_many::*, write::*};

use crate::http::{Problem, no_nul};

/// Most bytes of a key. PostgreSQL's index accepts up to about 2,700.
const LONGEST_KEY: usize = 2048;
/// About the number of bytes of a response about one key, without the key and its value.
const ENVELOPE: usize = 72;

/// A garde rule, `#[garde(custom(valid_key))]`.
fn valid_key(key: &str, context: &()) -> garde::Result {
    match key.len() {
        1..=LONGEST_KEY => no_nul(key, context),
        0 => Err(garde::Error::new("must not be empty")),
        _ => Err(garde::Error::new(format!(
            "must not be longer than {LONGEST_KEY} bytes"
        ))),
    }
}

/// Checks a key in a path.
fn check_key(key: &str) -> Result<(), Problem> {
    valid_key(key, &()).map_err(|error| Problem::unprocessable().field("key", error.message().to_owned()))
}
