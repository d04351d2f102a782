//! The outermost layer of a request: names, counts and guards it.
//!
//! Invariant: every request gets a response, whatever its handler does, and one that failed or is spoken of in the log
//! has an `x-request-id`. A good and quick request is neither formatted nor logged, and costs no allocation here, one if
//! it has a body.

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::http::header::{CACHE_CONTROL, CONNECTION, DATE, HeaderValue};
use axum::http::{Request, Response, StatusCode, Version};
use futures_util::FutureExt;
use http_body_util::Either;
use hyper::body::Incoming;

use super::activity::{Activity, InFlight};
use super::body::{RequestBody, ResponseBody};
use super::config::HttpConfig;
use super::date;
use super::fleet::{Fleet, Phase};
use super::head;
use super::problem::Problem;
use super::request_id::{self, X_REQUEST_ID};
use super::request_log::{RequestLog, Seen};
use super::service::{Body, Service};

/// What the requests on one core share.
#[derive(Debug)]
pub(super) struct Edge<S> {
    pub(super) service: S,
    pub(super) config: Arc<HttpConfig>,
    pub(super) log: Arc<RequestLog>,
    /// Tells when connections are to be closed by their answers.
    pub(super) fleet: Arc<Fleet>,
}

/// Answers a request that came over the connection with this activity.
pub(super) fn answer<S: Service>(
    edge: Arc<Edge<S>>,
    activity: &Arc<Activity>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<ResponseBody>, Infallible>> + Send + use<S> {
    // Not when it is polled first: from here on the peer waits for us.
    let in_flight = InFlight::begin(activity, request.version());
    async move {
        let seen = Seen {
            id: request_id::of(request.headers()),
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
        };
        let request = request.map(|incoming| {
            let deadline = in_flight.started_plus(edge.config.body_timeout);
            RequestBody::new(incoming, edge.config.max_body, deadline, in_flight.activity())
        });
        // What a handler leaves behind when it panics is dropped with it.
        let answered = AssertUnwindSafe(async {
            match head::check(&request) {
                Ok(()) => edge.service.call(request).await,
                Err(problem) => problem.into_whole().map(Either::Left),
            }
        });
        let response = match answered.catch_unwind().await {
            Ok(response) => response,
            Err(panic) => {
                let text = panic_text(&*panic);
                let problem = Problem::internal(format!("the handler panicked: {text}"));
                problem.into_whole().map(Either::Left)
            }
        };
        Ok(finish(response, in_flight, seen, &edge))
    }
}

/// What a panic says.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("something that is no text")
}

fn finish<S>(
    mut response: Response<Body>,
    mut in_flight: InFlight,
    seen: Seen,
    edge: &Edge<S>,
) -> Response<ResponseBody> {
    let (now, elapsed) = in_flight.hand_over();
    let status = response.status();
    let id = edge.log.note(&seen, &response, elapsed);
    let headers = response.headers_mut();
    // Without this header, caches on the way guess how long an answer stays fresh.
    let ask_first = HeaderValue::from_static("no-cache");
    headers.entry(CACHE_CONTROL).or_insert(ask_first);
    // hyper would go on with the last one for as long as the system's clock was set back.
    if let Some(date) = date::at(now) {
        headers.insert(DATE, date);
    }
    // What was not read of the body makes the connection useless for another HTTP/1 request.
    let is_useless = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE);
    if seen.version < Version::HTTP_2 && (is_useless || edge.fleet.phase() > Phase::Serving) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(id) = id.or(seen.id) {
        headers.insert(&X_REQUEST_ID, id);
    }
    response.map(|body| ResponseBody::new(body, in_flight))
}
