//! The routes about keys: `POST /write`, `GET` and `DELETE /read/{key}`, `POST /read`.
//!
//! Invariant: a change that is answered with success is committed, and a read returns a key's value with its version.

mod cache_status;
mod key_rules;
mod read;
mod read_many;
mod write;

// Globs, because utoipa's macro generates a hidden type beside each handler, which the list of operations needs too.
pub(super) use self::{read::*, read_many::*, write::*};
