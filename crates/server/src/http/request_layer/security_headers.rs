//! The headers that limit what a browser does with a response.
//!
//! Invariant: every response has them, errors too. A handler may set its own `Content-Security-Policy`, for a page; all
//! other responses allow nothing. Each value is static, so they cost no allocation.

use axum::http::HeaderMap;
use axum::http::header::{
    CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS,
};

/// The headers that are the same in every response, with their values. `frame-ancestors` is named because `default-src`
/// does not cover it.
pub(in crate::http) const SECURITY_HEADERS: [(HeaderName, &str); 3] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
];

/// Adds the headers to a response; `hsts` is `Strict-Transport-Security`, if browsers are to insist on TLS.
pub(super) fn add(headers: &mut HeaderMap, hsts: Option<&HeaderValue>) {
    for (name, value) in SECURITY_HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if let Some(hsts) = hsts {
        headers.insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
}
