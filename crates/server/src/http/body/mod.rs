//! Bodies of requests and responses.
//!
//! Invariant: every body read here is bounded in bytes and time, and what is made of it is checked.

mod json;
mod media_type;
mod request;
mod response;

pub use json::Json;
pub use request::{BodyError, RequestBody};
pub(super) use response::TrackedBody;
pub use response::{FullResponse, ResponseBody};
