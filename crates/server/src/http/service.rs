//! What is served over the transport. Invariant: it answers every request, and knows nothing of connections.

use axum::http::{Request, Response};
use bytes::Bytes;
use http_body_util::{Either, Full};

use super::body::RequestBody;

/// An answer that is there as a whole. An axum handler may return it.
pub type Whole = Response<Full<Bytes>>;

/// What an answer consists of: all at once, or whatever axum makes of it.
pub type Body = Either<Full<Bytes>, axum::body::Body>;

/// Answers requests. [`axum::Router`] does.
pub trait Service: Send + Sync + 'static {
    /// The answer. What it panics with is logged, and answered with 500.
    ///
    /// # Cancel safety
    ///
    /// Dropped if the peer goes away before.
    fn call(&self, request: Request<RequestBody>) -> impl Future<Output = Response<Body>> + Send;
}
