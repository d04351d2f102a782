//! The span of a statement. Invariant: a statement outside of a span has none, and no parameter is in one.

use cenote_trace::SPANS;
use tracing::{Span, field::Empty};

use crate::{Error, slow_statement::statement_name};

/// Begins the span of a statement, if its caller is traced. The names are those of OpenTelemetry.
pub(super) fn begin(sql: &str) -> Span {
    if Span::current().is_none() {
        return Span::none();
    }
    let name = statement_name(sql);
    tracing::info_span!(
        target: SPANS,
        "statement",
        otel.name = name,
        otel.kind = "client",
        otel.status_code = Empty,
        db.system.name = "postgresql",
        db.query.summary = name,
        db.response.returned_rows = Empty,
        db.response.status_code = Empty,
    )
}

/// Ends the span with the number of rows, or with the error.
pub(super) fn end(span: &Span, outcome: Result<Option<u64>, &Error>) {
    match outcome {
        Ok(Some(rows)) => {
            span.record("db.response.returned_rows", rows);
        }
        Ok(None) => {}
        Err(error) => {
            span.record("otel.status_code", "ERROR");
            if let Some(code) = error.code() {
                span.record("db.response.status_code", code.code());
            }
        }
    }
}
