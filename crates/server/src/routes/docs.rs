//! `/docs` and `/openapi.json`. Invariant: all references in them are relative and stay on this host, so that they work
//! behind any prefix, and pages need nothing from elsewhere.

use std::sync::Arc;

use axum::{
    Router,
    extract::Path,
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION},
    },
    routing::get,
};
use bytes::Bytes;
use http_body_util::Full;
use utoipa_swagger_ui::{Config, SwaggerFile, serve};

use super::response::compressible;
use crate::http::{FullResponse, Problem};

/// What the pages may load and do. Swagger UI sets styles by attributes, and has pictures as `data:` in its style sheet.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                           font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                           frame-ancestors 'none'";

/// Returns the routes. `description` is the OpenAPI document.
pub(super) fn routes(description: &utoipa::openapi::OpenApi) -> Router {
    // Relative to `/docs/`. By default, Swagger UI would send the address of the document to a validator on the web.
    let config = Arc::new(Config::from("../openapi.json").validator_url("none"));
    let index = config.clone();
    // Cannot fail: the document consists of texts and numbers.
    let description = Bytes::from(serde_json::to_vec(description).unwrap_or_default());
    Router::new()
        .route(
            "/openapi.json",
            get(async move || compressible(of_type("application/json", description))),
        )
        .route("/docs", get(redirect_to_pages))
        .route("/docs/", get(async move || page("", index)))
        .route(
            "/docs/{*file}",
            get(async move |Path(file): Path<String>| page(&file, config)),
        )
}

/// Redirects to `/docs/`, because the pages refer to each other relative to it.
async fn redirect_to_pages() -> FullResponse {
    let mut moved = FullResponse::default();
    *moved.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    let location = HeaderValue::from_static("docs/");
    moved.headers_mut().insert(LOCATION, location);
    moved
}

fn page(file: &str, config: Arc<Config<'static>>) -> Result<FullResponse, Problem> {
    match serve(file, config) {
        Ok(Some(SwaggerFile {
            bytes, content_type, ..
        })) => {
            let mut response = of_type(&content_type, Bytes::from(bytes.into_owned()));
            let policy = HeaderValue::from_static(PAGE_POLICY);
            response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
            Ok(compressible(response))
        }
        Ok(None) => Err(Problem::not_found("there is no such page")),
        Err(error) => Err(Problem::internal(error.to_string())),
    }
}

fn of_type(content_type: &str, body: Bytes) -> FullResponse {
    let mut response = FullResponse::new(Full::from(body));
    let content_type = HeaderValue::from_str(content_type);
    response
        .headers_mut()
        .extend(content_type.map(|content_type| (CONTENT_TYPE, content_type)));
    response
}
