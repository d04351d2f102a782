//! The rules for keys. Invariant: a key that passes has 1 to 2048 bytes and no NUL.

use crate::http::{Problem, no_nul};

/// Most bytes of a key. PostgreSQL's index accepts up to about 2,700.
const LONGEST_KEY: usize = 2048;

/// A garde rule, `#[garde(custom(valid_key))]`.
pub(super) fn valid_key(key: &str, context: &()) -> garde::Result {
    match key.len() {
        1..=LONGEST_KEY => no_nul(key, context),
        0 => Err(garde::Error::new("must not be empty")),
        _ => Err(garde::Error::new(format!(
            "must not be longer than {LONGEST_KEY} bytes"
        ))),
    }
}

/// Checks a key in a path.
///
/// # Errors
///
/// 422, naming the field `key`.
pub(super) fn check_key(key: &str) -> Result<(), Problem> {
    valid_key(key, &()).map_err(|error| Problem::unprocessable().field("key", error.message().to_owned()))
}
