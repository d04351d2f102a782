//! The routes. Invariant: each only parses, calls and answers; what it asks for is `http`'s, what it does is
//! `store`'s.
//!
//! Those that are asked for most are found by hand: a router's look-up, extensions, boxed handler and boxed body are a
//! good part of what such a request costs. They are in the router too, for their other methods.

mod cache_status;
mod docs;
mod email;
mod health;
mod keys;
mod name;
mod preconditions;
mod read_many;
mod stats;
mod users;

use std::time::Duration;

use axum::{
    Router,
    http::{HeaderValue, Method, Request, Response, header::CONTENT_TYPE},
    routing::{get, post},
};
use bytes::Bytes;
use http_body_util::{Either, Full};
use serde::Serialize;
use utoipa::OpenApi;

use crate::{
    app::App,
    http::{Body, Problem, RequestBody, Service, Whole, with_fallbacks},
    openapi::{self, Envelope},
};

/// Everything that is served, on one core.
pub(crate) struct Routes {
    app: App,
    router: Router,
}

impl Routes {
    pub(crate) fn new(app: App) -> Self {
        let router = router(app.clone());
        Self { app, router }
    }
}

impl Service for Routes {
    async fn call(&self, request: Request<RequestBody>) -> Response<Body> {
        let path = request.uri().path();
        let answered = match *request.method() {
            Method::GET => {
                if let Some(key) = path.strip_prefix("/read/") {
                    keys::read(&self.app, key, request.headers()).await
                } else if let Some(id) = path.strip_prefix("/users/").and_then(digits) {
                    users::get(&self.app, id).await
                } else {
                    return self.router.call(request).await;
                }
            }
            Method::POST if path == "/write" => keys::write(&self.app, request).await,
            _ => return self.router.call(request).await,
        };
        answered.unwrap_or_else(Problem::into_whole).map(Either::Left)
    }
}

/// A number without sign that is not too long.
fn digits(text: &str) -> Option<i64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

fn router(app: App) -> Router {
    let router = Router::new()
        .route("/write", post(keys::write_by_router))
        .route("/read", post(read_many::read_many))
        .route("/read/", get(keys::read_by_router).delete(keys::delete))
        .route("/read/{*key}", get(keys::read_by_router).delete(keys::delete))
        .route("/users", get(users::list).post(users::add))
        .route("/users/", get(users::list).post(users::add))
        .route("/users/{id}", get(users::get_by_router))
        .route("/health", get(health::health))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/pool-stats", get(stats::pool))
        .route("/cache-stats", get(stats::cache))
        .route("/api/health", get(health::health))
        .with_state(app)
        .merge(docs::routes(&openapi()));
    with_fallbacks(router)
}

/// The description of everything that is served.
pub(crate) fn openapi() -> utoipa::openapi::OpenApi {
    #[derive(OpenApi)]
    #[openapi(paths(
        keys::write,
        keys::read,
        read_many::read_many,
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
    openapi::complete(Envelope::openapi().merge_from(Routes::openapi()))
}

/// Milliseconds to the microsecond, for people.
fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

/// A 200 with a JSON body.
fn json(body: &impl Serialize) -> Whole {
    json_of(0, body)
}

/// The same, where it is known that the body has about so many bytes.
fn json_of(size: usize, body: &impl Serialize) -> Whole {
    whole(encode(size, body).into())
}

/// A body of about this number of bytes.
fn encode(size: usize, body: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size);
    // Structs and maps with text keys do not fail to serialise, nor does memory to take it.
    let _never = serde_json::to_writer(&mut bytes, body);
    bytes
}

/// A 200 with this body, which is JSON.
fn whole(body: Bytes) -> Whole {
    let mut whole = Whole::new(Full::from(body));
    let json = HeaderValue::from_static("application/json");
    whole.headers_mut().insert(CONTENT_TYPE, json);
    whole
}
