//! The routes of the service.
//!
//! Invariant: a handler only parses, calls and responds. The rules of HTTP are in `http`, the work is in `store`, and each
//! handler exists once.
//!
//! [`Routes`] matches the three busiest routes by hand and leaves the rest to axum's router. The reason is speed: for these
//! requests the router's look-up, its extensions, and its boxed handlers and bodies are a good part of the whole cost. The
//! router has these routes too, for `HEAD`, `OPTIONS`, `Allow` and wrong parameters. Its closures only pass what axum
//! extracts to the same handlers.

mod admin;
mod dashboard;
mod docs;
mod errors;
mod health;
mod keys;
mod metrics;
mod names;
mod openapi;
mod preconditions;
mod response;
mod stats;
mod users;

use axum::{
    Extension, Router,
    extract::{self, State},
    http::{HeaderMap, Method, Request, Response, Uri},
    routing::{get, post},
};
use http_body_util::Either;
use hyper::body::Body;
use utoipa::OpenApi;

pub(crate) use self::names::ROUTE_NAMES;
use self::openapi::ApiInfo;
#[cfg(fuzzing)]
pub use self::preconditions::status_for_version;
use crate::{
    app::App,
    dashboard::Dashboard,
    http::{Number, Path, Problem, RequestBody, ResponseBody, Service, Timings, with_fallbacks},
};

/// All routes, as served on one core.
pub(crate) struct Routes {
    app: App,
    router: Router,
}

impl Routes {
    pub(crate) fn new(app: App, dashboard: Dashboard) -> Self {
        let router = router(app.clone(), dashboard);
        Self { app, router }
    }

    /// Whether memory is too short for the body of a `POST` to this path. Reads of many keys and administration always pass.
    fn refuses(&self, path: &str, body: &RequestBody) -> bool {
        let is_exempt = path == "/read" || path.starts_with("/admin/");
        // A body of unknown length may be as long as any.
        let length = body.size_hint().upper().unwrap_or(u64::MAX);
        self.app.memory_state.refuses(length) && !is_exempt
    }
}

fn memory_pressure() -> Problem {
    let detail = "memory is short and the body of the request is too long for what is left; nothing was done";
    Problem::unavailable("memory-pressure", detail, 2)
}

impl Service for Routes {
    async fn call(&self, request: Request<RequestBody>) -> Response<ResponseBody> {
        let path = request.uri().path();
        if *request.method() == Method::POST && self.refuses(path, request.body()) {
            return memory_pressure().into_full_response().map(Either::Left);
        }
        // Almost always `None`.
        let timings = request.body().timings().cloned();
        let timings = timings.as_ref();
        let handled = match *request.method() {
            Method::GET => {
                if let Some(key) = path.strip_prefix("/read/") {
                    keys::read(&self.app, key, request.headers(), timings).await
                } else if let Some(id) = path.strip_prefix("/users/").and_then(plain_number) {
                    users::get(&self.app, id, timings).await
                } else {
                    return self.router.call(request).await;
                }
            }
            // Boxed, because every request would move its state, which is much larger than that of a read.
            Method::POST if path == "/write" => Box::pin(keys::write(&self.app, request, timings)).await,
            _ => return self.router.call(request).await,
        };
        handled.unwrap_or_else(Problem::into_full_response).map(Either::Left)
    }
}

/// The times of a request that came through axum's router.
type Measured = Option<Extension<Timings>>;

fn as_timings(measured: &Measured) -> Option<&Timings> {
    measured.as_deref()
}

/// Parses a number of digits alone. All other ids go to the router, which says what is wrong with them.
fn plain_number(text: &str) -> Option<i64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

fn router(app: App, dashboard: Dashboard) -> Router {
    let write = async |State(app): State<App>, timings: Measured, request: extract::Request| {
        keys::write(&app, request, as_timings(&timings)).await
    };
    let read = async |State(app): State<App>, timings: Measured, uri: Uri, headers: HeaderMap| {
        let key = uri.path().strip_prefix("/read/").unwrap_or_default();
        keys::read(&app, key, &headers, as_timings(&timings)).await
    };
    let user = async |State(app): State<App>, timings: Measured, Path(Number(id)): Path<Number<i64>>| {
        users::get(&app, id, as_timings(&timings)).await
    };
    let router = Router::new()
        .route("/write", post(write))
        .route("/read", post(keys::read_many))
        // The empty key, which is answered 422.
        .route("/read/", get(read).delete(keys::delete))
        .route("/read/{*key}", get(read).delete(keys::delete))
        .route("/users", get(users::list).post(users::add))
        .route("/users/", get(users::list).post(users::add))
        .route("/users/{id}", get(user))
        .route("/health", get(health::health))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/pool-stats", get(stats::pool))
        .route("/cache-stats", get(stats::cache))
        .route("/metrics", get(metrics::metrics))
        .route("/api/health", get(health::health))
        .merge(admin::routes())
        .with_state(app)
        .merge(docs::routes(&openapi_document()))
        .merge(dashboard::routes(dashboard));
    with_fallbacks(router)
}

/// Returns the OpenAPI description of all routes.
pub(crate) fn openapi_document() -> utoipa::openapi::OpenApi {
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
        metrics::metrics,
        dashboard::events,
        admin::state,
        admin::recent,
        admin::pause,
        admin::resume,
        admin::resize,
        admin::drain,
        admin::log,
        admin::flush,
        admin::reload,
    ))]
    struct Operations;
    openapi::complete(ApiInfo::openapi().merge_from(Operations::openapi()))
}
