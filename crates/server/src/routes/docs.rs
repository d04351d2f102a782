//! `/docs` and `/openapi.json`. Invariant: what they refer to is relative, so that they work behind any prefix, and
//! nothing of it is on another host.

use std::sync::Arc;

use axum::{
    Router,
    extract::Path,
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_TYPE, LOCATION},
    },
    routing::get,
};
use bytes::Bytes;
use http_body_util::Full;
use utoipa_swagger_ui::{Config, SwaggerFile, serve};

use crate::http::{Problem, Whole};

/// The routes. `description` is the API as OpenAPI has it.
pub(super) fn routes(description: &utoipa::openapi::OpenApi) -> Router {
    // From where the pages are.
    let config = Arc::new(Config::from("../openapi.json"));
    let index = config.clone();
    // The description is made of texts and numbers, so this does not fail.
    let description = Bytes::from(serde_json::to_vec(description).unwrap_or_default());
    Router::new()
        .route(
            "/openapi.json",
            get(async move || of_type("application/json", description)),
        )
        .route("/docs", get(to_the_pages))
        .route("/docs/", get(async move || page("", index)))
        .route(
            "/docs/{*file}",
            get(async move |Path(file): Path<String>| page(&file, config)),
        )
}

/// The pages refer to each other from below `/docs/`.
async fn to_the_pages() -> Whole {
    let mut moved = Whole::default();
    *moved.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    let below = HeaderValue::from_static("docs/");
    moved.headers_mut().insert(LOCATION, below);
    moved
}

fn page(file: &str, config: Arc<Config<'static>>) -> Result<Whole, Problem> {
    match serve(file, config) {
        Ok(Some(SwaggerFile {
            bytes, content_type, ..
        })) => Ok(of_type(&content_type, Bytes::from(bytes.into_owned()))),
        Ok(None) => Err(Problem::not_found("there is no such page")),
        Err(error) => Err(Problem::internal(error.to_string())),
    }
}

fn of_type(kind: &str, body: Bytes) -> Whole {
    let mut whole = Whole::new(Full::from(body));
    let kind = HeaderValue::from_str(kind);
    whole.headers_mut().extend(kind.map(|kind| (CONTENT_TYPE, kind)));
    whole
}
