//! Logs requests that failed or were slow.
//!
//! Invariant: a successful and quick request is neither formatted nor logged, and the log gets a bounded number of lines a
//! second, however many requests fail.

use std::net::IpAddr;
use std::time::Duration;

use axum::http::{HeaderValue, Method, Response, StatusCode, Uri, Version};
use cenote_trace::current;
use tracing::Level;

use super::request_id;
use crate::http::failures::FailedRequest;
use crate::http::problem::Cause;
use crate::line_budget::LineBudget;
use crate::recent::{Recent, micros, text_of, unix_ms};

/// Most lines a second about failed and slow requests.
const MAX_LINES: u32 = 50;

/// The parts of a request that the log needs after the request was consumed.
#[derive(Debug)]
pub(super) struct RequestSummary {
    /// The header with the request's id, if the caller asked for one.
    pub(super) id_header: Option<HeaderValue>,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) version: Version,
    /// The client's address.
    pub(super) client: IpAddr,
}

impl FailedRequest {
    /// The current request.
    fn new(status: StatusCode, cause: &Cause, elapsed: Duration) -> Self {
        let request = current();
        let trace = request.as_ref().and_then(|request| request.trace);
        Self {
            at_ms: unix_ms(),
            route: request.as_ref().map_or("", |request| request.route),
            status: status.as_u16(),
            code: cause.slug(),
            request_id: request.map(|request| text_of(&request.id)).unwrap_or_default(),
            trace_id: trace.map(|trace| text_of(trace.trace_id)),
            elapsed_us: micros(elapsed),
            text: text_of(cause),
        }
    }
}

/// Decides which requests are logged.
#[derive(Debug)]
pub(in crate::http) struct RequestLog {
    /// A request that takes this long is logged.
    slow: Duration,
    lines: LineBudget,
}

impl RequestLog {
    pub(in crate::http) fn new(slow: Duration) -> Self {
        Self {
            slow,
            lines: LineBudget::new(MAX_LINES),
        }
    }

    /// Logs a request that failed with a cause or was slow; at level `debug` every request. Returns the header with the id
    /// for each request that failed or was logged, so that its caller can ask about it.
    ///
    /// A failure that is logged is added to `failures` too, so a flood of them costs no more there.
    ///
    /// The id itself is in the lines because the request is the current one.
    pub(super) fn note<B>(
        &self,
        summary: &RequestSummary,
        response: &Response<B>,
        elapsed: Duration,
        failures: &Recent<FailedRequest>,
    ) -> Option<HeaderValue> {
        let status = response.status();
        let failed = status.is_client_error() || status.is_server_error();
        let slow = elapsed >= self.slow;
        if !failed && !slow && !tracing::enabled!(Level::DEBUG) {
            return None;
        }
        // A 5xx without a cause, such as "not ready", is a response and not a failure. A 4xx with one is a refusal whose
        // cause the client is not told.
        let cause = response.extensions().get::<Cause>();
        let loud = cause.is_some() || slow;
        if !loud || self.has_room() {
            self.write(summary, status, cause, elapsed);
            if let Some(cause) = cause {
                failures.push(FailedRequest::new(status, cause, elapsed));
            }
        }
        let header = summary.id_header.clone();
        Some(header.unwrap_or_else(request_id::of_current))
    }

    fn write(&self, summary: &RequestSummary, status: StatusCode, cause: Option<&Cause>, elapsed: Duration) {
        let (method, path, client) = (&summary.method, summary.uri.path(), summary.client);
        let status = status.as_u16();
        let elapsed_us = micros(elapsed);
        match cause {
            Some(cause) if status < 500 => tracing::info!(
                %method, path, %client, status, elapsed_us, cause = &*cause.to_string(),
                "request refused"
            ),
            Some(cause) => tracing::warn!(
                %method, path, %client, status, elapsed_us, cause = &*cause.to_string(),
                "request failed"
            ),
            None if elapsed >= self.slow => {
                tracing::warn!(%method, path, %client, status, elapsed_us, "slow request");
            }
            None => tracing::debug!(%method, path, %client, status, elapsed_us, "request"),
        }
    }

    /// Whether this second has a line left. The first line of a second also logs how many were left out before.
    fn has_room(&self) -> bool {
        match self.lines.take() {
            None => false,
            Some(0) => true,
            Some(left_out) => {
                tracing::warn!(left_out, "more requests failed or were slow than were logged");
                true
            }
        }
    }
}
