//! The slow statements of the last time, as the database's pool tells of them.
//!
//! Invariant: no parameter of a statement is kept.

use std::sync::Arc;

use cenote_postgres::SlowStatementHook;
use cenote_trace::current;
use serde::Serialize;
use utoipa::ToSchema;

use crate::recent::{Recent, micros, text_of, unix_ms};

/// A statement that took as long as `DB_SLOW_QUERY`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct SlowStatement {
    /// When it ended, in milliseconds since 1970.
    pub(crate) at_ms: u64,
    /// Its name, or the beginning of its text.
    pub(crate) name: String,
    /// How long the first request of its batch waited in the queue.
    pub(crate) queue_us: u64,
    /// How long it waited for a connection after that.
    pub(crate) wait_us: u64,
    /// How long the server took.
    pub(crate) execute_us: u64,
    /// The rows that it returned or changed, if that is known.
    pub(crate) rows: Option<u64>,
    /// How many requests it served at once.
    pub(crate) requests: usize,
    /// Why it failed.
    pub(crate) error: Option<String>,
    /// The source line that acquired the connection.
    pub(crate) holder: Option<String>,
    /// The request that it served, if it served one alone.
    pub(crate) request_id: Option<String>,
    /// The route of that request.
    pub(crate) route: Option<&'static str>,
    /// The trace of that request.
    pub(crate) trace_id: Option<String>,
}

/// Returns a hook that keeps the newest slow statements.
pub(crate) fn keep_in(recent: Arc<Recent<SlowStatement>>) -> SlowStatementHook {
    SlowStatementHook::new(move |statement| {
        let request = current();
        let trace = request.as_ref().and_then(|request| request.trace);
        recent.push(SlowStatement {
            at_ms: unix_ms(),
            name: text_of(statement.name().unwrap_or(statement.sql)),
            queue_us: micros(statement.queued),
            wait_us: micros(statement.waited),
            execute_us: micros(statement.executed),
            rows: statement.rows,
            requests: statement.requests,
            error: statement.error.map(text_of),
            holder: statement.holder.map(text_of),
            request_id: request.as_ref().map(|request| text_of(&request.id)),
            route: request.as_ref().map(|request| request.route),
            trace_id: trace.map(|trace| text_of(trace.trace_id)),
        });
    })
}
