//! An axum router as a [`Service`]: what a request gets that no handler answers.
//!
//! Invariant: every path answers `OPTIONS`, every 405 has `Allow`, and a redirect leads to this service alone, whatever
//! prefix a proxy has taken off.

use axum::Router;
use axum::http::header::{ALLOW, HeaderValue, LOCATION};
use axum::http::{Method, Request, Response, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::{Either, Full};

use super::body::RequestBody;
use super::problem::Problem;
use super::service::{Body, Service};

/// What is allowed where nothing is known of the target, as with `OPTIONS *`.
static ALL: HeaderValue = HeaderValue::from_static("GET,HEAD,POST,DELETE,OPTIONS");

/// Makes `router` answer unknown paths and methods with problems. Applies to the routes it has, so it comes last.
pub fn with_fallbacks<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router
        .fallback(async || Problem::not_found("there is nothing at this path"))
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
}

impl Service for Router {
    async fn call(&self, request: Request<RequestBody>) -> Response<Body> {
        // axum's own answers to these two take other ways: a target without a path, and a body that comes back.
        if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
            return refused(self, request.uri()).await;
        }
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let response = route(self, request.map(axum::body::Body::new)).await;
        match (response.status(), &method) {
            (_, &Method::OPTIONS) if uri.path() == "*" => options(&ALL),
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

/// The methods that a path has a handler for, as `Allow` has them; `None` if there is no such path.
async fn allowed(router: &Router, path: &str) -> Option<HeaderValue> {
    let mut request = Request::new(axum::body::Body::empty());
    // No route has a handler for it, so that none is called.
    *request.method_mut() = Method::OPTIONS;
    *request.uri_mut() = path.parse().ok()?;
    route(router, request).await.headers_mut().remove(ALLOW)
}

/// A 204 that says what is allowed.
fn options(allow: &HeaderValue) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, allow.clone());
    response
}

/// A 405 to a method that is never allowed.
async fn refused(router: &Router, uri: &Uri) -> Response<Body> {
    let allow = match allowed(router, uri.path()).await {
        Some(allow) => plus_options(Some(&allow)),
        None => ALL.clone(),
    };
    let mut response = Problem::method_not_allowed().into_whole();
    response.headers_mut().insert(ALLOW, allow);
    response.map(Either::Left)
}

/// Adds to a 405 what is allowed besides: the router knows nothing of `OPTIONS`.
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
    // Names of methods with commas between them always make a header value.
    HeaderValue::from_bytes(&all).unwrap_or_else(|_| ALL.clone())
}

/// Where the same is found without the slashes at the end, relative to this target: as a service of FastAPI has it. None
/// where nothing is found, or nothing that would take this method where another is taken with the slash.
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

/// A 307, which keeps the method and the body.
fn moved(location: HeaderValue) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::<Bytes>::default()));
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    response.headers_mut().insert(LOCATION, location);
    response
}
