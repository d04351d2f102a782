//! A request that failed, as it is kept for people. Invariant: it has nothing that the client sent but its id.

use serde::Serialize;
use utoipa::ToSchema;

/// A request that was answered with an error of the service, or refused for a reason that its client is not told.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct FailedRequest {
    /// When it was answered, in milliseconds since 1970.
    pub at_ms: u64,
    /// The template of its route.
    pub route: &'static str,
    /// The status of the response.
    pub status: u16,
    /// The problem's type, without its prefix.
    pub code: &'static str,
    /// Its id.
    pub request_id: String,
    /// Its trace, if it has one.
    pub trace_id: Option<String>,
    /// How long it took.
    pub elapsed_us: u64,
    /// What went wrong, as the log says it.
    pub text: String,
}
