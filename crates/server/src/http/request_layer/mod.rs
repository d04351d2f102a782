//! The outermost layer of a request: it counts the request, checks its head, catches panics, logs, and sets the headers
//! that every response has. What browsers need is here too, so that it holds for every route and every error.
//!
//! Invariant: every request gets a response, whatever its handler does. A response that failed or is in the log has an
//! `x-request-id`. Whatever is logged meanwhile, by any crate, names the request. A successful and quick request is neither formatted nor logged; this layer allocates once for it,
//! for its id and trace, and once more if it has a body.

mod accept_encoding;
mod compression;
mod date;
mod head;
mod parse_errors;
mod request_id;
mod request_log;
mod security_headers;
mod trace;

use std::any::Any;
use std::convert::Infallible;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::header::{CACHE_CONTROL, CONNECTION, DATE, HeaderValue};
use axum::http::{HeaderMap, Request, Response, StatusCode, Version};
use cenote_trace::{RequestContext, scope, with_current};
use http_body_util::Either;
use hyper::body::Incoming;
use tracing::Span;

#[cfg(fuzzing)]
pub use self::accept_encoding::accepts_gzip;
pub(crate) use self::accept_encoding::prefers_gzip;
pub use self::compression::Compressible;
pub(super) use self::compression::Compressor;
pub(super) use self::parse_errors::replacement;
use self::request_id::X_REQUEST_ID;
pub(super) use self::request_log::RequestLog;
use self::request_log::RequestSummary;
#[cfg(test)]
pub(super) use self::security_headers::SECURITY_HEADERS;
use super::body::{BodyTimes, FullResponse, RequestBody, ResponseBody, TrackedBody};
use super::client_address::ClientAddresses;
use super::config::HttpConfig;
use super::connections::{Connections, ServerPhase};
use super::cors;
use super::live_config::LiveConfig;
use super::peer::Peer;
use super::problem::Problem;
use super::sampling::Sampling;
use super::server_timing::{SERVER_TIMING, Timings};
use super::service::Service;
use super::timeouts::{Activity, InFlight};
use super::traffic::{CountedRequest, Traffic};

/// What the requests of one core share.
#[derive(Debug)]
pub(super) struct RequestLayer<S> {
    pub(super) service: S,
    pub(super) config: LiveConfig,
    pub(super) log: Arc<RequestLog>,
    /// Tells whether responses must close their connections.
    pub(super) connections: Arc<Connections>,
    /// Counts the requests.
    pub(super) traffic: Arc<Traffic>,
    /// The number of the core.
    pub(super) core: usize,
    /// Finds the client behind trusted proxies.
    pub(super) clients: Arc<ClientAddresses>,
    /// Compresses responses, if that is on.
    pub(super) compressor: Compressor,
    /// Which requests begin a trace. `None`: no spans are recorded.
    pub(super) sampling: Option<Sampling>,
}

/// What the headers of a response depend on in its request. All of it is empty where nothing is switched on.
#[derive(Debug)]
struct ResponseNeeds {
    /// The value of `Access-Control-Allow-Origin`.
    origin: Option<HeaderValue>,
    prefers_gzip: bool,
    timings: Option<Timings>,
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
    let (id, id_header) = request_id::of(request.headers());
    let route = layer.traffic.route_of(request.uri().path());
    let context = RequestContext {
        id,
        route: layer.traffic.name_of(route),
        trace: trace::of(request.headers(), layer.sampling),
    };
    let recorded = context.trace.filter(|trace| trace.is_sampled);
    let is_recorded = layer.sampling.is_some() && recorded.is_some();
    let answer = async move {
        let span = match is_recorded {
            true => with_current(|context| trace::begin(context, request.method())),
            false => None,
        };
        let span = span.unwrap_or_else(Span::none);
        let trace = recorded.map(|trace| trace.trace_id);
        let counted = layer.traffic.begin(layer.core, request.method(), route, trace);
        let client = layer.clients.of(peer.address, request.headers());
        let summary = RequestSummary {
            id_header,
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            client,
        };
        let config = layer.config.load();
        let needs = ResponseNeeds::of(request.headers(), &config);
        let request = request.map(|incoming| {
            let times = BodyTimes {
                received: in_flight.started_plus(Duration::ZERO),
                deadline: in_flight.started_plus(config.body_timeout),
            };
            let mut body = RequestBody::new(incoming, config.max_body, times, in_flight.activity(), peer, client);
            if let Some(timings) = &needs.timings {
                body.measure(timings.clone());
            }
            body
        });
        drop(config);
        let response = {
            // Made where it stays: combinators would move it, and it is large.
            let mut handle = pin!(async {
                match layer.answer_early(&request) {
                    Some(response) => response.map(Either::Left),
                    None => layer.service.call(request).await,
                }
            });
            poll_fn(|cx| span.in_scope(|| poll_or_fail(handle.as_mut(), cx))).await
        };
        trace::end(&span, response.status());
        Ok(finish(response, in_flight, counted, summary, needs, &layer))
    };
    scope(Some(Arc::new(context)), answer)
}

impl ResponseNeeds {
    /// Looks at what the headers of the response will depend on, before the request is given away.
    fn of(request: &HeaderMap, config: &HttpConfig) -> Self {
        Self {
            origin: config.cors.as_ref().and_then(|cors| cors.allowed(request)),
            prefers_gzip: config.compression && accept_encoding::prefers_gzip(request),
            timings: config.server_timing.then(Timings::default),
        }
    }
}

impl<S> RequestLayer<S> {
    /// Returns the response to a request that reaches no handler: its head is refused, or it is a preflight.
    fn answer_early(&self, request: &Request<RequestBody>) -> Option<FullResponse> {
        let config = self.config.load();
        if let Err(problem) = head::check(request, config.max_headers) {
            return Some(problem.into_full_response());
        }
        let cors = config.cors.as_ref()?;
        cors::is_preflight(request.method(), request.headers()).then(|| cors.preflight(request.headers()))
    }
}

/// Polls a handler. If it panics, it is answered for.
fn poll_or_fail(
    handle: Pin<&mut impl Future<Output = Response<ResponseBody>>>,
    cx: &mut Context<'_>,
) -> Poll<Response<ResponseBody>> {
    // Unwind safe: the handler is dropped next, with everything that it leaves behind.
    catch_unwind(AssertUnwindSafe(|| handle.poll(cx))).unwrap_or_else(|panic| {
        let text = panic_text(&*panic);
        let problem = Problem::internal(format!("the handler panicked: {text}"));
        Poll::Ready(problem.into_full_response().map(Either::Left))
    })
}

/// Returns the message of a panic.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a value that is not a text")
}

/// Counts and logs the response, and adds the headers that every response has.
fn finish<S>(
    mut response: Response<ResponseBody>,
    mut in_flight: InFlight,
    counted: CountedRequest<'_>,
    summary: RequestSummary,
    needs: ResponseNeeds,
    layer: &RequestLayer<S>,
) -> Response<TrackedBody> {
    let (now, elapsed) = in_flight.wait_for_peer();
    let status = response.status();
    counted.answered(status, elapsed);
    let id = layer.log.note(&summary, &response, elapsed, layer.traffic.failures());
    let config = layer.config.load();
    if config.compression {
        response = layer.compressor.apply(response, needs.prefers_gzip);
    }
    // The service may measure a request that nobody else does.
    let timings = needs.timings.or_else(|| response.extensions_mut().remove());
    let headers = response.headers_mut();
    // Without this header, caches on the way guess how long a response stays fresh.
    let revalidate = HeaderValue::from_static("no-cache");
    headers.entry(CACHE_CONTROL).or_insert(revalidate);
    // hyper's own Date stands still while the system's clock is set back.
    if let Some(date) = date::at(now) {
        headers.insert(DATE, date);
    }
    security_headers::add(headers, config.hsts.as_ref());
    if let Some(cors) = &config.cors {
        cors.add(headers, needs.origin);
    }
    if let Some(timing) = timings.and_then(|timings| timings.header(elapsed)) {
        headers.insert(&SERVER_TIMING, timing);
    }
    // The unread rest of the body makes an HTTP/1 connection useless for another request.
    let has_unread_body = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE);
    if summary.version < Version::HTTP_2 && (has_unread_body || layer.connections.phase() > ServerPhase::Serving) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(id) = id.or(summary.id_header) {
        headers.insert(&X_REQUEST_ID, id);
    }
    drop(config);
    response.map(|body| TrackedBody::new(body, in_flight))
}
