//! An axum router as a [`Service`], and the responses to requests that no handler answers.
//!
//! Invariant: every path answers `OPTIONS`, and every 405 has `Allow`. A redirect is relative, so it stays on this service
//! whatever prefix a proxy removes.

use axum::Router;
use axum::http::header::{ALLOW, HeaderValue, LOCATION};
use axum::http::{Method, Request, Response, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::{Either, Full};

use super::body::{RequestBody, ResponseBody};
use super::problem::Problem;
use super::service::Service;

/// `Allow` for a target that is not a path of a route, such as `OPTIONS *`.
static ALL_METHODS: HeaderValue = HeaderValue::from_static("GET,HEAD,POST,DELETE,OPTIONS");

/// Makes `router` answer unknown paths and methods with problems. It applies to the routes that exist already, so call it
/// last.
pub fn with_fallbacks<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router
        .fallback(async || Problem::not_found("there is nothing at this path"))
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
}

impl Service for Router {
    async fn call(&self, mut request: Request<RequestBody>) -> Response<ResponseBody> {
        // Never to the handlers: CONNECT has a target without a path, and TRACE would return the request.
        if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
            return refused(self, request.uri()).await;
        }
        let (method, uri) = (request.method().clone(), request.uri().clone());
        if let Some(timings) = request.body().timings().cloned() {
            request.extensions_mut().insert(timings);
        }
        let response = route(self, request.map(axum::body::Body::new)).await;
        match (response.status(), &method) {
            (_, &Method::OPTIONS) if uri.path() == "*" => options(&ALL_METHODS),
            (StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED, &Method::OPTIONS) => {
                options(&plus_options(response.headers().get(ALLOW)))
            }
            (status @ (StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED), _) if uri.path().ends_with('/') => {
                match without_slash(self, &uri, &method, status).await {
                    Some(location) => moved(location),
                    None => with_options(response).map(Either::Right),
                }
            }
            _ => with_options(response).map(Either::Right),
        }
    }
}

async fn route(router: &Router, request: Request<axum::body::Body>) -> axum::response::Response {
    match tower::Service::call(&mut router.clone(), request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Returns the methods that a path has a handler for, as a value of `Allow`; `None` if there is no such path.
async fn allowed(router: &Router, path: &str) -> Option<HeaderValue> {
    let mut request = Request::new(axum::body::Body::empty());
    // No route has a handler for OPTIONS, so this calls none.
    *request.method_mut() = Method::OPTIONS;
    *request.uri_mut() = path.parse().ok()?;
    route(router, request).await.headers_mut().remove(ALLOW)
}

/// Returns a 204 with `Allow`.
fn options(allow: &HeaderValue) -> Response<ResponseBody> {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, allow.clone());
    response
}

/// Returns a 405 for a method that no route allows.
async fn refused(router: &Router, uri: &Uri) -> Response<ResponseBody> {
    let allow = match allowed(router, uri.path()).await {
        Some(allow) => plus_options(Some(&allow)),
        None => ALL_METHODS.clone(),
    };
    let mut response = Problem::method_not_allowed().into_full_response();
    response.headers_mut().insert(ALLOW, allow);
    response.map(Either::Left)
}

/// Adds `OPTIONS` to the `Allow` of a 405, because axum's router does not know that we answer it.
fn with_options(mut response: axum::response::Response) -> axum::response::Response {
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let allow = plus_options(response.headers().get(ALLOW));
        response.headers_mut().insert(ALLOW, allow);
    }
    response
}

fn plus_options(allow: Option<&HeaderValue>) -> HeaderValue {
    let mut all = Vec::new();
    if let Some(allow) = allow {
        all.extend_from_slice(allow.as_bytes());
        all.push(b',');
    }
    all.extend_from_slice(b"OPTIONS");
    // Cannot fail: names of methods and commas are valid in a header.
    HeaderValue::from_bytes(&all).unwrap_or_else(|_| ALL_METHODS.clone())
}

/// Returns the location, relative to this target, of the same path without the slashes at its end, as FastAPI redirects.
/// `None` if there is no such route, or if only another method is allowed on both.
async fn without_slash(router: &Router, uri: &Uri, method: &Method, status: StatusCode) -> Option<HeaderValue> {
    let path = uri.path();
    let bare = path.trim_end_matches('/');
    let allow = allowed(router, bare).await?;
    let mut methods = allow.to_str().unwrap_or_default().split(',');
    if status == StatusCode::METHOD_NOT_ALLOWED && !methods.any(|allowed| allowed == method.as_str()) {
        return None;
    }
    let up = "../".repeat(path.len() - bare.len());
    let (_, last) = bare.rsplit_once('/')?;
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    HeaderValue::from_bytes(format!("{up}{last}{query}").as_bytes()).ok()
}

/// Returns a 307, which keeps the method and the body.
fn moved(location: HeaderValue) -> Response<ResponseBody> {
    let mut response = Response::new(Either::Left(Full::<Bytes>::default()));
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    response.headers_mut().insert(LOCATION, location);
    response
}
