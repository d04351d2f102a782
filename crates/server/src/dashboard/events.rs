//! The text of an event stream, as browsers define it. Invariant: data are JSON without line breaks, so an event is three
//! lines.

use bytes::Bytes;

/// How long a client waits before it connects again, in the form of the stream.
pub(super) const RETRY: &str = "retry: 1000\n\n";
/// Keeps proxies from ending a silent stream.
pub(super) const COMMENT: Bytes = Bytes::from_static(b":\n\n");
/// The last event of a stream that has become too old.
pub(super) const RENEW: Bytes = Bytes::from_static(b"event: end\ndata: {\"reason\":\"renew\"}\n\n");
/// The last event of a service that stops.
pub(super) const DRAINING: Bytes = Bytes::from_static(b"event: end\ndata: {\"reason\":\"draining\"}\n\n");

/// Appends an event with this JSON.
pub(super) fn push(text: &mut Vec<u8>, name: &str, json: &[u8]) {
    for part in [b"event: ", name.as_bytes(), b"\ndata: ", json, b"\n\n"] {
        text.extend_from_slice(part);
    }
}
