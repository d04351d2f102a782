//! The page of the dashboard at `/`, its files, and its stream of figures.
//!
//! Invariant: the page and its files hold nothing of the service, so everyone may have them. The figures are behind the gate.

use std::convert::Infallible;

use axum::{
    Extension, Router,
    body::Body,
    extract::{Path, State},
    http::{
        HeaderMap, HeaderValue, Response, StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH,
            VARY,
        },
    },
    routing::get,
};
use futures_util::stream;
use garde::Validate;
use http_body_util::Full;
use serde::Deserialize;

use crate::{
    access::MayAdminister,
    dashboard::{Asset, Dashboard, NoViewer, asset, page},
    http::{FullResponse, Problem, Query, prefers_gzip},
};

/// What the page may load and do.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                           connect-src 'self'; frame-ancestors 'none'; base-uri 'none'";

/// For files whose name tells their content: a year.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// Tells nginx not to hold events back.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Returns the routes.
pub(super) fn routes(dashboard: Dashboard) -> Router {
    Router::new()
        .route("/dashboard/events", get(events))
        .with_state(dashboard)
        .route("/", get(async |headers: HeaderMap| whole_page(&headers)))
        .route("/dashboard/{file}", get(file))
}

fn whole_page(headers: &HeaderMap) -> FullResponse {
    let page = page();
    let tag = format!("W/\"{}\"", page.hash);
    let is_known = headers.get_all(IF_NONE_MATCH).iter().any(|known| *known == *tag);
    let mut response = match is_known {
        true => FullResponse::default(),
        false => response_of(page, headers),
    };
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let of_page = response.headers_mut();
    // Cannot fail: hexadecimal digits.
    of_page.extend(HeaderValue::from_str(&tag).map(|tag| (ETAG, tag)));
    of_page.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    of_page.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

async fn file(Path(name): Path<String>, headers: HeaderMap) -> Result<FullResponse, Problem> {
    let asset = asset(&name).ok_or_else(|| Problem::not_found("the dashboard has no such file"))?;
    let mut response = response_of(asset, &headers);
    let for_ever = HeaderValue::from_static(FOR_EVER);
    response.headers_mut().insert(CACHE_CONTROL, for_ever);
    Ok(response)
}

fn response_of(asset: &'static Asset, headers: &HeaderMap) -> FullResponse {
    let gzip = asset.gzip.as_ref().filter(|_| prefers_gzip(headers));
    let body = gzip.unwrap_or(&asset.plain).clone();
    let mut response = FullResponse::new(Full::from(body));
    let head = response.headers_mut();
    head.insert(CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    head.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    if gzip.is_some() {
        head.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// From when on the figures are wanted.
#[derive(Deserialize, Validate)]
pub(super) struct Since {
    /// Milliseconds since 1970.
    #[serde(default)]
    #[garde(skip)]
    since: u64,
}

/// Returns the figures of the dashboard as server-sent events. docs/dashboard.md has the events; their members may change with
/// any version.
#[utoipa::path(get, path = "/dashboard/events", operation_id = "dashboard_events", tag = "operations",
    params(("since" = Option<u64>, Query, description = "The time of the last row that the viewer has, in milliseconds since 1970")),
    responses((
        status = 200, description = "The stream; it ends after 15 minutes", body = String,
        content_type = "text/event-stream",
    )),
)]
pub(super) async fn events(
    State(dashboard): State<Dashboard>,
    may: Option<Extension<MayAdminister>>,
    Query(Since { since }): Query<Since>,
) -> Result<Response<Body>, Problem> {
    let viewer = dashboard.watch(since, may.is_some()).map_err(|why| match why {
        NoViewer::TooMany => Problem::unavailable("too-many-viewers", "200 viewers watch already; close one", 5),
        NoViewer::Draining => Problem::unavailable("shutting-down", "the service is shutting down", 1),
    })?;
    let texts = stream::unfold(viewer, |mut viewer| async move {
        let text = viewer.next().await?;
        Some((Ok::<_, Infallible>(text), viewer))
    });
    let mut response = Response::new(Body::from_stream(texts));
    for (name, value) in [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
        (X_ACCEL_BUFFERING, "no"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}
