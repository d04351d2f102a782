//! The routes. Invariant: each only parses, calls and answers; what it asks for is `http`'s, what it does is
//! `store`'s.

mod cache_status;
mod health;
mod keys;
mod stats;
mod users;

use std::time::Duration;

use axum::{
    Router,
    http::{HeaderValue, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Serialize;
use utoipa::OpenApi;
use utoipa_swagger_ui::SwaggerUi;

use crate::{app::App, http::with_fallbacks, openapi::Envelope};

/// Everything that is served.
pub(crate) fn router(app: App) -> Router {
    let router = Router::new()
        .route("/write", post(keys::write))
        .route("/read", post(keys::read_many))
        .route("/read/", get(keys::read).delete(keys::delete))
        .route("/read/{*key}", get(keys::read).delete(keys::delete))
        .route("/users", get(users::list).post(users::add))
        .route("/users/", get(users::list).post(users::add))
        .route("/users/{id}", get(users::get))
        .route("/health", get(health::health))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/pool-stats", get(stats::pool))
        .route("/cache-stats", get(stats::cache))
        .with_state(app)
        .merge(SwaggerUi::new("/docs").url("/openapi.json", openapi()));
    with_fallbacks(router)
}

/// The description of everything that is served.
pub(crate) fn openapi() -> utoipa::openapi::OpenApi {
    #[derive(OpenApi)]
    #[openapi(paths(
        keys::write,
        keys::read,
        keys::read_many,
        keys::delete,
        users::list,
        users::add,
        users::get,
        health::health,
        health::live,
        health::ready,
        stats::pool,
        stats::cache,
    ))]
    struct Routes;
    Envelope::openapi().merge_from(Routes::openapi())
}

/// Milliseconds to the microsecond, for people.
fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

/// A 200 with a JSON body.
fn json(body: &impl Serialize) -> Response {
    // Structs and maps with text keys do not fail to serialise.
    let body = serde_json::to_vec(body).unwrap_or_default();
    let json = HeaderValue::from_static("application/json");
    ([(CONTENT_TYPE, json)], body).into_response()
}
