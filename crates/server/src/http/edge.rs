//! The outermost service of a connection: names, counts and guards every request.
//!
//! Invariant: every request gets a response with `x-request-id`, whatever its handler does. A good and quick
//! request is neither formatted nor logged, and costs one allocation here (its id), two if it has a body.

use std::any::Any;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::http::header::{CONNECTION, HeaderValue};
use axum::http::{Request, Response, StatusCode, Version};
use axum::response::IntoResponse;
use axum::routing::future::RouteFuture;
use hyper::body::{Body as _, Incoming};
use hyper::service::Service;
use pin_project_lite::pin_project;
use tower::Service as _;

use super::activity::{Activity, InFlight};
use super::body::{RequestBody, ResponseBody};
use super::config::HttpConfig;
use super::problem::Problem;
use super::request_id::{self, X_REQUEST_ID};
use super::request_log::{RequestLog, Seen};

/// The service of one connection.
#[derive(Debug)]
pub(super) struct Edge {
    router: Router,
    activity: Arc<Activity>,
    config: Arc<HttpConfig>,
    log: Arc<RequestLog>,
}

impl Edge {
    pub(super) fn new(
        router: Router,
        activity: Arc<Activity>,
        config: Arc<HttpConfig>,
        log: Arc<RequestLog>,
    ) -> Self {
        Self {
            router,
            activity,
            config,
            log,
        }
    }
}

impl Service<Request<Incoming>> for Edge {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        let version = request.version();
        let in_flight = InFlight::begin(&self.activity, version == Version::HTTP_2);
        let seen = Seen {
            id: request_id::of(request.headers()),
            method: request.method().clone(),
            uri: request.uri().clone(),
            version,
        };
        let request = request.map(|incoming| {
            if incoming.is_end_stream() {
                return Body::empty();
            }
            let deadline = in_flight.started_plus(self.config.body_timeout);
            let activity = Arc::clone(in_flight.activity());
            Body::new(RequestBody::new(
                incoming,
                self.config.max_body,
                deadline,
                activity,
            ))
        });
        let mut router = self.router.clone();
        let route = catch_unwind(AssertUnwindSafe(|| router.call(request)));
        let (route, panic) = match route {
            Ok(route) => (Some(route), None),
            Err(panic) => (None, Some(describe(&*panic))),
        };
        Answer {
            route,
            panic,
            context: Some((in_flight, seen)),
            log: Arc::clone(&self.log),
        }
    }
}

pin_project! {
    /// A request being answered.
    pub(super) struct Answer {
        #[pin]
        route: Option<RouteFuture<Infallible>>,
        panic: Option<String>,
        context: Option<(InFlight, Seen)>,
        log: Arc<RequestLog>,
    }
}

impl Future for Answer {
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let response = match this.route.as_mut().as_pin_mut() {
            None => panicked(this.panic.take()),
            Some(route) => match catch_unwind(AssertUnwindSafe(|| route.poll(cx))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(Ok(response))) => response,
                Ok(Poll::Ready(Err(never))) => match never {},
                Err(panic) => {
                    this.route.set(None);
                    panicked(Some(describe(&*panic)))
                }
            },
        };
        match this.context.take() {
            Some((in_flight, seen)) => Poll::Ready(Ok(finish(response, in_flight, seen, this.log))),
            // Only after completion, when no answer is wanted any more.
            None => Poll::Pending,
        }
    }
}

fn panicked(what: Option<String>) -> Response<Body> {
    Problem::internal(what.unwrap_or_default()).into_response()
}

fn describe(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("something that is no text");
    format!("the handler panicked: {text}")
}

fn finish(
    mut response: Response<Body>,
    mut in_flight: InFlight,
    seen: Seen,
    log: &RequestLog,
) -> Response<ResponseBody> {
    let elapsed = in_flight.hand_over();
    let status = response.status();
    log.note(&seen, &response, elapsed);
    let headers = response.headers_mut();
    // What was not read of the body makes the connection useless for another HTTP/1 request.
    if matches!(
        status,
        StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE
    ) && seen.version < Version::HTTP_2
    {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    headers.insert(&X_REQUEST_ID, seen.id);
    response.map(|body| ResponseBody::new(body, in_flight))
}
