//! Logs requests that failed or were slow.
//!
//! Invariant: a successful and quick request is neither formatted nor logged, and the log gets a bounded number of lines a
//! second, however many requests fail.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::http::{HeaderValue, Method, Response, StatusCode, Uri, Version};
use tokio::time::Instant;
use tracing::Level;

use super::request_id;
use crate::http::problem::Cause;

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
    started: Instant,
    /// Upper half: the second of the last line. Lower half: the lines that were due in that second.
    lines: AtomicU64,
}

impl RequestLog {
    pub(in crate::http) fn new(slow: Duration) -> Self {
        Self {
            slow,
            started: Instant::now(),
            lines: AtomicU64::new(0),
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

    /// Takes one of this second's lines; returns false if none is left. The first line of a second also logs how many lines
    /// were dropped before.
    fn has_room(&self) -> bool {
        let second = self.started.elapsed().as_secs() << 32;
        let next = |lines: u64| (lines as u32).saturating_add(1);
        let before = self.lines.fetch_update(Relaxed, Relaxed, |lines| {
            Some(match lines & !u64::from(u32::MAX) == second {
                true => second | u64::from(next(lines)),
                false => second | 1,
            })
        });
        let before = before.unwrap_or_default();
        if before & !u64::from(u32::MAX) == second {
            return next(before) <= MAX_LINES;
        }
        let left_out = (before as u32).saturating_sub(MAX_LINES);
        if left_out > 0 {
            tracing::warn!(left_out, "more requests failed or were slow than were logged");
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_failures_gets_a_bounded_number_of_lines_a_second() {
        let log = RequestLog::new(Duration::MAX);
        for _ in 0..3 {
            let written = (0..10_000).filter(|_| log.has_room()).count();
            assert_eq!(written, MAX_LINES as usize);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }
}
