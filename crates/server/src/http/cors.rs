//! Cross-origin requests (CORS): which web pages of other origins may read responses.
//!
//! Invariant: an origin is allowed only if it is in the list, byte for byte. A preflight is answered here, before
//! authentication, because browsers send it without credentials; it reaches no handler.
//!
//! CORS keeps pages from reading responses. It does not keep a request from having its effect: that is for authentication.

use std::time::Duration;

use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    HeaderValue, ORIGIN, VARY,
};
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::Full;

/// What a page may send.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
const REQUEST_HEADERS: &str = "authorization, content-type, if-match, if-none-match, last-event-id, traceparent, \
                               tracestate, x-api-key, x-request-id";
/// What a page may read beside the body and the headers that are always readable.
const RESPONSE_HEADERS: &str = "ETag, RateLimit, RateLimit-Policy, Retry-After, Link, Location, Cache-Status, Age, \
                                x-request-id, Server-Timing, WWW-Authenticate";

/// Which web pages of other origins may use the service, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    origins: Origins,
    credentials: bool,
    max_age: HeaderValue,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Origins {
    Any,
    These(Vec<HeaderValue>),
}

/// Why a list of origins cannot be used. `Display` continues a sentence that starts with the list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CorsError {
    /// No browser sends this as `Origin`. The text says why.
    #[error("{0}")]
    NotAnOrigin(String),
    /// `*` beside origins.
    #[error("has * beside origins: list the origins, or only *")]
    AnyAndOthers,
    /// `*` with credentials would let every web page act as the user who looks at it.
    #[error("is * while credentials are allowed: list the origins that may send credentials")]
    AnyWithCredentials,
}

impl Cors {
    /// Allows these origins, or every origin if the list is `*`. With `credentials` browsers send cookies and client
    /// certificates along; an `Authorization` header that a page sets itself needs no such permission. `max_age` is how
    /// long a browser may remember the answer to a preflight, in whole seconds.
    ///
    /// # Errors
    ///
    /// [`CorsError`] for an entry that no browser sends as `Origin`, and for `*` with credentials or beside other entries.
    pub fn new<'a>(
        origins: impl IntoIterator<Item = &'a str>,
        credentials: bool,
        max_age: Duration,
    ) -> Result<Self, CorsError> {
        let origins: Vec<&str> = origins.into_iter().collect();
        let origins = match &*origins {
            ["*"] if credentials => return Err(CorsError::AnyWithCredentials),
            ["*"] => Origins::Any,
            list if list.contains(&"*") => return Err(CorsError::AnyAndOthers),
            list => Origins::These(list.iter().map(|origin| value(origin)).collect::<Result<_, _>>()?),
        };
        Ok(Self {
            origins,
            credentials,
            max_age: HeaderValue::from(max_age.as_secs()),
        })
    }

    /// Returns the value of `Access-Control-Allow-Origin` for a request with these headers; `None` if its origin is not
    /// allowed, or if it has none.
    pub(super) fn allowed(&self, request: &HeaderMap) -> Option<HeaderValue> {
        match &self.origins {
            // Without a look at the request, so that caches may share the response.
            Origins::Any => Some(HeaderValue::from_static("*")),
            Origins::These(origins) => {
                let origin = request.get(ORIGIN)?;
                origins.iter().find(|allowed| *allowed == origin).cloned()
            }
        }
    }

    /// Adds the headers to a response. `allowed` is what [`Cors::allowed`] returned for its request.
    pub(super) fn add(&self, headers: &mut HeaderMap, allowed: Option<HeaderValue>) {
        if self.origins != Origins::Any {
            // Also where the origin is not allowed: a cache must not give that response to one that is.
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
        let Some(origin) = allowed else {
            return;
        };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let exposed = HeaderValue::from_static(RESPONSE_HEADERS);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        if self.credentials {
            let credentials = HeaderValue::from_static("true");
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, credentials);
        }
    }

    /// Answers a preflight, but for the headers of [`Cors::add`]. A page of an origin that is not allowed gets a response
    /// without permissions, which its browser takes as a no.
    pub(super) fn preflight(&self, request: &HeaderMap) -> Response<Full<Bytes>> {
        let mut response = Response::<Full<Bytes>>::default();
        *response.status_mut() = StatusCode::NO_CONTENT;
        if self.allowed(request).is_some() {
            let headers = response.headers_mut();
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
            let allowed = HeaderValue::from_static(REQUEST_HEADERS);
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
            headers.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        }
        response
    }
}

/// Whether a request is a preflight, as the Fetch standard defines it.
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS && headers.contains_key(ORIGIN) && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

fn value(origin: &str) -> Result<HeaderValue, CorsError> {
    check_origin(origin).map_err(CorsError::NotAnOrigin)?;
    HeaderValue::from_str(origin).map_err(|error| CorsError::NotAnOrigin(error.to_string()))
}

/// Checks that the text is `*`, or what a browser may send as `Origin`.
///
/// # Errors
///
/// What is wrong, as the end of a sentence that starts with the text.
pub(crate) fn check_origin(origin: &str) -> Result<String, String> {
    let no_origin = |why: &str| Err(format!("is not an origin: {why}"));
    if origin == "*" {
        return Ok(origin.to_owned());
    }
    if origin == "null" {
        return no_origin("files and sandboxed pages of anybody send it");
    }
    if origin.ends_with('/') {
        return no_origin("it must not end with a slash");
    }
    if origin.contains('*') {
        return no_origin("* works only alone");
    }
    if !origin.is_ascii() || origin.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return no_origin("browsers send it in lower case, and an international domain in ASCII, as xn--…");
    }
    let parts = origin.split_once("://").zip(origin.parse::<Uri>().ok());
    let Some(((scheme, host), uri)) = parts else {
        return no_origin("it has the form https://host or https://host:port");
    };
    if uri.authority().is_none_or(|authority| authority.as_str() != host) || host.contains('@') {
        return no_origin("it has a scheme, a host and perhaps a port, and nothing else");
    }
    if matches!((scheme, uri.port_u16()), ("http", Some(80)) | ("https", Some(443))) {
        return no_origin("browsers leave the usual port out");
    }
    Ok(origin.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str], credentials: bool) -> Result<Cors, CorsError> {
        Cors::new(origins.iter().copied(), credentials, Duration::from_secs(600))
    }

    fn from(origin: &str) -> HeaderMap {
        HeaderMap::from_iter([(ORIGIN, HeaderValue::from_str(origin).unwrap())])
    }

    #[test]
    fn only_a_listed_origin_is_allowed_and_nothing_that_resembles_it() {
        let cors = cors(&["https://app.example.org", "http://localhost:3000"], true).unwrap();
        for origin in ["https://app.example.org", "http://localhost:3000"] {
            assert_eq!(cors.allowed(&from(origin)).unwrap(), origin);
        }
        for origin in [
            "http://app.example.org",
            "https://app.example.org:8443",
            "https://app.example.org.evil.com",
            "https://evilapp.example.org",
            "https://APP.example.org",
            "https://app.example.org/",
            "http://localhost",
            "null",
            "*",
            "",
        ] {
            assert_eq!(cors.allowed(&from(origin)), None, "{origin}");
        }
        assert_eq!(cors.allowed(&HeaderMap::new()), None);
    }

    #[test]
    fn a_wildcard_is_refused_together_with_credentials_and_beside_origins() {
        assert_eq!(cors(&["*"], true), Err(CorsError::AnyWithCredentials));
        assert_eq!(cors(&["*", "https://x.org"], false), Err(CorsError::AnyAndOthers));
        let any = cors(&["*"], false).unwrap();
        assert_eq!(any.allowed(&from("https://anything.org")).unwrap(), "*");
    }

    #[test]
    fn an_entry_that_no_browser_sends_is_refused() {
        for origin in [
            "",
            "x.org",
            "https://",
            "https://x.org/",
            "https://x.org/path",
            "https://x.org?q",
            "https://user@x.org",
            "https://X.org",
            "https://bücher.example",
            "https://x.org:443",
            "http://x.org:80",
            "https://*.x.org",
            "https://x.org, https://y.org",
            "null",
        ] {
            let refused = cors(&[origin], false);
            assert!(matches!(refused, Err(CorsError::NotAnOrigin(_))), "{origin}");
        }
        for origin in [
            "http://x.org:443",
            "https://[::1]:3000",
            "tauri://localhost",
            "https://xn--bcher-kva.example",
        ] {
            cors(&[origin], false).unwrap_or_else(|error| panic!("{origin}: {error}"));
        }
    }

    #[test]
    fn a_response_to_an_origin_that_is_not_allowed_still_varies_by_origin() {
        let cors = cors(&["https://x.org"], false).unwrap();
        let mut headers = HeaderMap::new();
        cors.add(&mut headers, cors.allowed(&from("https://y.org")));
        assert_eq!(
            headers,
            HeaderMap::from_iter([(VARY, HeaderValue::from_static("Origin"))])
        );
    }
}
