//! What the transport serves. Invariant: a service answers every request, and knows nothing about connections.

use axum::http::{Request, Response};

use super::body::{RequestBody, ResponseBody};

/// Answers requests. [`axum::Router`] implements it.
pub trait Service: Send + Sync + 'static {
    /// Returns the response to a request. A panic is logged and answered `500`.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped if the peer goes away before it resolves.
    fn call(&self, request: Request<RequestBody>) -> impl Future<Output = Response<ResponseBody>> + Send;
}
