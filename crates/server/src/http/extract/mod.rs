//! What handlers extract from requests: JSON bodies, path and query parameters, keys.
//!
//! Invariant: every request gives a value or a 4xx problem that says what is wrong and where.

mod json;
mod media_type;
mod params;

pub use json::Json;
pub use params::{Key, Number, Path, Query, decode_key, number};
