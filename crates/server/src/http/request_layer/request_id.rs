//! Request ids. Invariant: an id has 1–128 characters of `[A-Za-z0-9._-]`, so it is safe in any log.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// The header that carries the id in requests and responses.
pub(super) static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const LONGEST: usize = 128;

/// Returns the caller's id, a fresh one in place of an unacceptable id, or `None` if the caller sent none.
pub(super) fn from_caller(headers: &HeaderMap) -> Option<HeaderValue> {
    let id = headers.get(&X_REQUEST_ID)?;
    Some(match is_acceptable(id.as_bytes()) {
        true => id.clone(),
        false => fresh(),
    })
}

fn is_acceptable(id: &[u8]) -> bool {
    (1..=LONGEST).contains(&id.len())
        && id
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Returns 64 random bits in hexadecimal. Ids need not be secret, so the thread's fast generator is enough.
pub(super) fn fresh() -> HeaderValue {
    let mut bits = fastrand::u64(..);
    let mut id = [0_u8; 16];
    for digit in &mut id {
        let nibble = (bits >> 60) as u8;
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
        bits <<= 4;
    }
    // Cannot fail: hexadecimal digits are valid in a header.
    HeaderValue::from_bytes(&id).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}
