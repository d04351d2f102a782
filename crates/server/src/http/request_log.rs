//! What is said about requests in the log.
//!
//! Invariant: a good and quick request is neither formatted nor logged, and however many fail at once, the log
//! gets a bounded number of lines a second.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::http::{HeaderValue, Method, Response, StatusCode, Uri, Version};
use tokio::time::Instant;
use tracing::Level;

use super::problem::Cause;
use super::request_id;

/// Lines a second about failed and slow requests.
const MOST_LINES: u32 = 50;

/// What is kept of a request to speak of it later.
#[derive(Debug)]
pub(super) struct Seen {
    /// The caller's, or in place of it.
    pub(super) id: Option<HeaderValue>,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) version: Version,
}

/// Decides what is worth a line.
#[derive(Debug)]
pub(super) struct RequestLog {
    /// A request that takes this long is logged.
    slow: Duration,
    started: Instant,
    /// The second in which lines were last written, in the upper half, and in the lower how many were asked for.
    lines: AtomicU64,
}

impl RequestLog {
    pub(super) fn new(slow: Duration) -> Self {
        Self {
            slow,
            started: Instant::now(),
            lines: AtomicU64::new(0),
        }
    }

    /// Logs a request that failed for a reason of ours, or was slow; at level `debug` every one. Returns the id of one
    /// that failed, for whatever reason, or is worth a line: whoever asks about it needs a name for it.
    pub(super) fn note<B>(&self, seen: &Seen, response: &Response<B>, elapsed: Duration) -> Option<HeaderValue> {
        let status = response.status();
        let failed = status.is_client_error() || status.is_server_error();
        let slow = elapsed >= self.slow;
        if !failed && !slow && !tracing::enabled!(Level::DEBUG) {
            return None;
        }
        let id = seen.id.clone().unwrap_or_else(request_id::fresh);
        // A 503 without a cause is an answer, not a failure: "not ready".
        let cause = match status.is_server_error() {
            true => response.extensions().get::<Cause>(),
            false => None,
        };
        let loud = cause.is_some() || slow;
        if !loud || self.has_room() {
            self.write(seen, status, cause, elapsed, &id);
        }
        Some(id)
    }

    fn write(&self, seen: &Seen, status: StatusCode, cause: Option<&Cause>, elapsed: Duration, id: &HeaderValue) {
        let (method, path) = (&seen.method, seen.uri.path());
        let (status, request_id) = (status.as_u16(), id.to_str().unwrap_or_default());
        let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        match cause {
            Some(cause) => tracing::warn!(
                %method, path, status, request_id, elapsed_us, cause = &*cause.to_string(),
                "request failed"
            ),
            None if elapsed >= self.slow => {
                tracing::warn!(%method, path, status, request_id, elapsed_us, "slow request");
            }
            None => tracing::debug!(%method, path, status, request_id, elapsed_us, "request"),
        }
    }

    /// Takes one of this second's lines. The first line of a second says how many were left out before.
    fn has_room(&self) -> bool {
        let second = self.started.elapsed().as_secs() << 32;
        let asked = |lines: u64| (lines as u32).saturating_add(1);
        let before = self.lines.fetch_update(Relaxed, Relaxed, |lines| {
            Some(match lines & !u64::from(u32::MAX) == second {
                true => second | u64::from(asked(lines)),
                false => second | 1,
            })
        });
        let before = before.unwrap_or_default();
        if before & !u64::from(u32::MAX) == second {
            return asked(before) <= MOST_LINES;
        }
        let left_out = (before as u32).saturating_sub(MOST_LINES);
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
            assert_eq!(written, MOST_LINES as usize);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }
}
