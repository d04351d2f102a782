//! What a request is called: its id, its route and its trace, for whatever is written about it.
//!
//! A server puts each request's future into a [`scope`]. Everything that this future does, in any crate, can then ask
//! [`with_current`] which request it works for. A queue that hands requests to another task takes the context along with
//! [`current`].
//!
//! Invariant: a context costs a request one small allocation and two exchanges of a pointer a poll. Nothing is formatted until
//! somebody writes.
//!
//! Spans are those of the crate `tracing`, with the target [`SPANS`].

mod request_context;
mod request_id;
mod trace_context;

pub use request_context::{RequestContext, Scope, current, scope, with_current};
pub use request_id::RequestId;
pub use trace_context::{SpanId, TraceContext, TraceId};

/// The target of all spans. A span is created only inside of another one, so that a request that is not traced has none.
pub const SPANS: &str = "cenote_span";
