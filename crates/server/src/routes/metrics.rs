//! `/metrics`. Invariant: a scrape keeps no core from its requests: the text is written where blocking is allowed.

use axum::{
    extract::State,
    http::{
        HeaderMap, HeaderValue,
        header::{CONTENT_TYPE, VARY},
    },
};
use http_body_util::Full;
use tokio::task::spawn_blocking;

use super::response::compressible;
use crate::{
    app::App,
    http::{FullResponse, Problem},
    metrics::{Snapshot, format_for, write},
};

/// Returns the metrics, for Prometheus. docs/metrics.md has all of them.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", tag = "operations", responses(
    (status = 200, description = "The metrics, in OpenMetrics 1.0 if `Accept` prefers it", content(
        (String = "text/plain; version=0.0.4"),
        (String = "application/openmetrics-text; version=1.0.0"),
    )),
))]
pub(super) async fn metrics(State(app): State<App>, headers: HeaderMap) -> Result<FullResponse, Problem> {
    let format = format_for(&headers);
    let written = spawn_blocking(move || write(&Snapshot::take(&app), format)).await;
    let text = written.map_err(|error| Problem::internal(format!("the metrics could not be written: {error}")))?;
    let mut response = FullResponse::new(Full::from(text));
    let content_type = HeaderValue::from_static(format.content_type());
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    Ok(compressible(response))
}
