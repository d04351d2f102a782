//! The trace of a request, and the span of its stay here.
//!
//! Invariant: a malformed `traceparent`, or several of them, count as none, as W3C Trace Context demands. A request whose
//! trace is not recorded has no span.

use axum::http::{HeaderMap, HeaderName, Method, StatusCode};
use cenote_trace::{RequestContext, SPANS, TraceContext};
use tracing::{Span, field::Empty};

use crate::http::sampling::Sampling;

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Returns the trace of a request: that of its caller, or one that begins here. `sampling` is `None` if nothing records
/// spans.
pub(super) fn of(headers: &HeaderMap, sampling: Option<Sampling>) -> Option<TraceContext> {
    of_caller(headers).or_else(|| match sampling?.decide() {
        true => Some(TraceContext::begin(true)),
        false => None,
    })
}

fn of_caller(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all(&TRACEPARENT).iter();
    let first = values.next()?;
    match values.next() {
        None => TraceContext::parse(first.as_bytes()),
        Some(_) => None,
    }
}

/// Begins the span of a request whose trace is recorded. Call it while the request is the current one.
pub(super) fn begin(context: &RequestContext, method: &Method) -> Span {
    let RequestContext { id, route, .. } = context;
    // A method that is not known has no bounded name.
    let method = match *method {
        Method::GET | Method::HEAD | Method::POST | Method::DELETE | Method::OPTIONS => method.as_str(),
        _ => "_OTHER",
    };
    tracing::info_span!(
        target: SPANS,
        "request",
        otel.name = %format_args!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        cenote.request_id = %id,
    )
}

/// Ends the span with the response.
pub(super) fn end(span: &Span, status: StatusCode) {
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
}
