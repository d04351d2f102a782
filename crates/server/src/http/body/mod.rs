//! Bodies of requests and responses.
//!
//! Invariant: a request body is bounded in bytes and time. A request counts as in flight until its response body ends.

mod request;
mod response;

pub(super) use request::BodyTimes;
pub use request::{BodyError, RequestBody};
pub(super) use response::TrackedBody;
pub use response::{FullResponse, ResponseBody};
