//! Ids of requests in HTTP. Invariant: an id that a response has is the one in the log.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use cenote_trace::{RequestId, with_current};

/// The header that carries the id in requests and responses.
pub(super) static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const LONGEST: usize = 128;

/// Returns the id of a request, and the header of its response if the caller asked for one by sending an id. An
/// unacceptable id is replaced by a random one.
pub(super) fn of(headers: &HeaderMap) -> (RequestId, Option<HeaderValue>) {
    let Some(sent) = headers.get(&X_REQUEST_ID) else {
        return (RequestId::random(), None);
    };
    let acceptable = Some(sent.as_bytes()).filter(|text| text.len() <= LONGEST);
    match acceptable.and_then(RequestId::from_text) {
        Some(id) => (id, Some(sent.clone())),
        None => {
            let id = RequestId::random();
            let header = header(&id);
            (id, Some(header))
        }
    }
}

/// Returns the id of the current request as a header.
pub(super) fn of_current() -> HeaderValue {
    with_current(|request| header(&request.id)).unwrap_or_else(|| header(&RequestId::random()))
}

fn header(id: &RequestId) -> HeaderValue {
    // Cannot fail: the characters of an id are valid in a header.
    HeaderValue::try_from(id.to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}
