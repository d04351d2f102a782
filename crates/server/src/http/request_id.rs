//! Names for requests. Invariant: an id is 1–128 characters of `[A-Za-z0-9._-]`, so it is safe in any log.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// The header an id comes and goes in.
pub(super) static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const LONGEST: usize = 128;

/// The caller's id if it is acceptable, else a new one.
pub(super) fn of(headers: &HeaderMap) -> HeaderValue {
    match headers.get(&X_REQUEST_ID) {
        Some(id) if is_acceptable(id.as_bytes()) => id.clone(),
        _ => fresh(),
    }
}

fn is_acceptable(id: &[u8]) -> bool {
    (1..=LONGEST).contains(&id.len())
        && id
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// 64 random bits in hexadecimal, from the thread's generator.
fn fresh() -> HeaderValue {
    let mut bits = fastrand::u64(..);
    let mut id = [0_u8; 16];
    for digit in &mut id {
        let nibble = (bits >> 60) as u8;
        *digit = if nibble < 10 {
            b'0' + nibble
        } else {
            b'a' + nibble - 10
        };
        bits <<= 4;
    }
    // Hexadecimal digits always make a header value.
    HeaderValue::from_bytes(&id).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}
