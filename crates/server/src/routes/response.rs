//! JSON responses. Invariant: a response is built in one buffer, of about the right size where the size is known.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use bytes::Bytes;
use http_body_util::Full;
use serde::Serialize;

use crate::http::{Compressible, FullResponse};

/// Room for the headers of any successful response: six of the routes, six that the request layer adds. Without it the map
/// would grow, with a second allocation, on its way out.
const HEADERS: usize = 12;

/// Returns a 200 with the value as JSON.
pub(super) fn json(value: &impl Serialize) -> FullResponse {
    json_sized(0, value)
}

/// Like [`json`], for a value of about `size` bytes.
pub(super) fn json_sized(size: usize, value: &impl Serialize) -> FullResponse {
    json_bytes(encode(size, value).into())
}

/// Encodes a value of about `size` bytes as JSON.
pub(super) fn encode(size: usize, value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size);
    // Cannot fail: the structs and maps here have text keys, and memory accepts every write.
    let _never = serde_json::to_writer(&mut bytes, value);
    bytes
}

/// Returns a 200 with a body that is JSON already.
pub(super) fn json_bytes(body: Bytes) -> FullResponse {
    let mut response = FullResponse::new(Full::from(body));
    *response.headers_mut() = HeaderMap::with_capacity(HEADERS);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// Marks a response that may be compressed. It must not hold a secret beside text of the request.
pub(super) fn compressible(mut response: FullResponse) -> FullResponse {
    response.extensions_mut().insert(Compressible);
    response
}

/// Returns milliseconds with microseconds as decimals, for people.
pub(super) fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}
