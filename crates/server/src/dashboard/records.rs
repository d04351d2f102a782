//! The last failed requests and slow statements, as viewers see them.
//!
//! Invariant: they hold neither parameters nor messages of the database, which may quote values: a viewer may know how the
//! service fares, and not what is stored. The request id leads to the line of the log.

use serde::Serialize;

use super::slots::last_folder;
use crate::{app::App, http::FailedRequest, slow_statements::SlowStatement};

/// A request that failed.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Failure {
    /// In milliseconds since 1970.
    at: u64,
    route: &'static str,
    status: u16,
    code: &'static str,
    request_id: String,
    took_us: u64,
}

/// A statement that took longer than `DB_SLOW_QUERY`.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Slow {
    /// In milliseconds since 1970.
    at: u64,
    name: String,
    queue_us: u64,
    wait_us: u64,
    execute_us: u64,
    rows: Option<u64>,
    /// The source line that acquired the connection.
    holder: Option<String>,
    request_id: Option<String>,
}

impl From<FailedRequest> for Failure {
    fn from(failed: FailedRequest) -> Self {
        Self {
            at: failed.at_ms,
            route: failed.route,
            status: failed.status,
            code: failed.code,
            request_id: failed.request_id,
            took_us: failed.elapsed_us,
        }
    }
}

impl From<SlowStatement> for Slow {
    fn from(slow: SlowStatement) -> Self {
        Self {
            at: slow.at_ms,
            name: slow.name,
            queue_us: slow.queue_us,
            wait_us: slow.wait_us,
            execute_us: slow.execute_us,
            rows: slow.rows,
            holder: slow.holder.map(|holder| last_folder(&holder).to_owned()),
            request_id: slow.request_id,
        }
    }
}

/// Returns the last failed requests, the newest first.
pub(super) fn failures(app: &App) -> Vec<Failure> {
    let failed = app.traffic.failures().newest_first();
    failed.into_iter().map(Failure::from).collect()
}

/// Returns the last slow statements, the newest first.
pub(super) fn slow_statements(app: &App) -> Vec<Slow> {
    let slow = app.slow_statements.newest_first();
    slow.into_iter().map(Slow::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_request_shows_no_message_of_the_database() {
        let failed = FailedRequest {
            at_ms: 7,
            route: "/users",
            status: 500,
            code: "internal",
            request_id: "id".to_owned(),
            trace_id: None,
            elapsed_us: 12,
            text: "Key (email)=(ada@example.org) already exists".to_owned(),
        };
        let shown = serde_json::to_string(&Failure::from(failed)).unwrap();
        assert!(
            shown.contains(r#""request_id":"id""#) && !shown.contains("ada@"),
            "{shown}"
        );
    }
}
