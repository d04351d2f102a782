//! The outermost layer of a request: it counts the request, checks its head, catches panics, logs, and sets the headers
//! that every response has.
//!
//! Invariant: every request gets a response, whatever its handler does. A response that failed or is in the log has an
//! `x-request-id`. A successful and quick request is neither formatted nor logged; this layer allocates nothing for it,
//! or once if it has a body.

mod date;
mod head;
mod request_id;
mod request_log;

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::http::header::{CACHE_CONTROL, CONNECTION, DATE, HeaderValue};
use axum::http::{Request, Response, StatusCode, Version};
use futures_util::FutureExt;
use http_body_util::Either;
use hyper::body::Incoming;

use self::request_id::X_REQUEST_ID;
pub(super) use self::request_log::RequestLog;
use self::request_log::RequestSummary;
use super::body::{RequestBody, ResponseBody, TrackedBody};
use super::config::HttpConfig;
use super::connections::{Connections, ServerPhase};
use super::peer::Peer;
use super::problem::Problem;
use super::service::Service;
use super::timeouts::{Activity, InFlight};

/// What the requests of one core share.
#[derive(Debug)]
pub(super) struct RequestLayer<S> {
    pub(super) service: S,
    pub(super) config: Arc<HttpConfig>,
    pub(super) log: Arc<RequestLog>,
    /// Tells whether responses must close their connections.
    pub(super) connections: Arc<Connections>,
}

/// Answers a request that arrived from this peer on the connection with this activity.
pub(super) fn respond<S: Service>(
    layer: Arc<RequestLayer<S>>,
    activity: &Arc<Activity>,
    peer: &Peer,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<TrackedBody>, Infallible>> + Send + use<S> {
    // Outside the async block, because the peer waits for us from now on, not from the first poll on.
    let in_flight = InFlight::begin(activity, request.version());
    let peer = peer.clone();
    async move {
        let summary = RequestSummary {
            id: request_id::from_caller(request.headers()),
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
        };
        let request = request.map(|incoming| {
            let deadline = in_flight.started_plus(layer.config.body_timeout);
            RequestBody::new(incoming, peer, layer.config.max_body, deadline, in_flight.activity())
        });
        // Unwind safe: everything that a panicking handler leaves behind is dropped with it.
        let handled = AssertUnwindSafe(async {
            match head::check(&request) {
                Ok(()) => layer.service.call(request).await,
                Err(problem) => problem.into_full_response().map(Either::Left),
            }
        });
        let response = match handled.catch_unwind().await {
            Ok(response) => response,
            Err(panic) => {
                let text = panic_text(&*panic);
                let problem = Problem::internal(format!("the handler panicked: {text}"));
                problem.into_full_response().map(Either::Left)
            }
        };
        Ok(finish(response, in_flight, summary, &layer))
    }
}

/// Returns the message of a panic.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a value that is not a text")
}

/// Logs the response and adds the headers that every response has.
fn finish<S>(
    mut response: Response<ResponseBody>,
    mut in_flight: InFlight,
    summary: RequestSummary,
    layer: &RequestLayer<S>,
) -> Response<TrackedBody> {
    let (now, elapsed) = in_flight.wait_for_peer();
    let status = response.status();
    let id = layer.log.note(&summary, &response, elapsed);
    let headers = response.headers_mut();
    // Without this header, caches on the way guess how long a response stays fresh.
    let revalidate = HeaderValue::from_static("no-cache");
    headers.entry(CACHE_CONTROL).or_insert(revalidate);
    // hyper's own Date stands still while the system's clock is set back.
    if let Some(date) = date::at(now) {
        headers.insert(DATE, date);
    }
    // The unread rest of the body makes an HTTP/1 connection useless for another request.
    let has_unread_body = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE);
    if summary.version < Version::HTTP_2 && (has_unread_body || layer.connections.phase() > ServerPhase::Serving) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(id) = id.or(summary.id) {
        headers.insert(&X_REQUEST_ID, id);
    }
    response.map(|body| TrackedBody::new(body, in_flight))
}
