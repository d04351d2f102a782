//! Logs requests that failed or were slow.
//!
//! Invariant: a successful and quick request is neither formatted nor logged, and the log gets a bounded number of lines a
//! second, however many requests fail.

use std::net::IpAddr;
use std::time::Duration;

use axum::http::{HeaderValue, Method, Response, StatusCode, Uri, Version};
use tracing::Level;

use super::request_id;
use crate::{http::problem::Cause, line_budget::LineBudget};

/// Most lines a second about failed and slow requests.
const MAX_LINES: u32 = 50;

/// The parts of a request that the log needs after the request was consumed.
#[derive(Debug)]
pub(super) struct RequestSummary {
    /// The caller's id, or a fresh one in place of an unacceptable id.
    pub(super) id: Option<HeaderValue>,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) version: Version,
    /// The client's address.
    pub(super) client: IpAddr,
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

    /// Logs a request that failed with a cause or was slow; at level `debug` every request. Returns an id for each request
    /// that failed or was logged, so that its caller can ask about it.
    pub(super) fn note<B>(
        &self,
        summary: &RequestSummary,
        response: &Response<B>,
        elapsed: Duration,
    ) -> Option<HeaderValue> {
        let status = response.status();
        let failed = status.is_client_error() || status.is_server_error();
        let slow = elapsed >= self.slow;
        if !failed && !slow && !tracing::enabled!(Level::DEBUG) {
            return None;
        }
        let id = summary.id.clone().unwrap_or_else(request_id::fresh);
        // A 5xx without a cause, such as "not ready", is a response and not a failure. A 4xx with one is a refusal whose
        // cause the client is not told.
        let cause = response.extensions().get::<Cause>();
        let loud = cause.is_some() || slow;
        if !loud || self.has_room() {
            self.write(summary, status, cause, elapsed, &id);
        }
        Some(id)
    }

    fn write(
        &self,
        summary: &RequestSummary,
        status: StatusCode,
        cause: Option<&Cause>,
        elapsed: Duration,
        id: &HeaderValue,
    ) {
        let (method, path, client) = (&summary.method, summary.uri.path(), summary.client);
        let (status, request_id) = (status.as_u16(), id.to_str().unwrap_or_default());
        let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        match cause {
            Some(cause) if status < 500 => tracing::info!(
                %method, path, %client, status, request_id, elapsed_us, cause = &*cause.to_string(),
                "request refused"
            ),
            Some(cause) => tracing::warn!(
                %method, path, %client, status, request_id, elapsed_us, cause = &*cause.to_string(),
                "request failed"
            ),
            None if elapsed >= self.slow => {
                tracing::warn!(%method, path, %client, status, request_id, elapsed_us, "slow request");
            }
            None => tracing::debug!(%method, path, %client, status, request_id, elapsed_us, "request"),
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
