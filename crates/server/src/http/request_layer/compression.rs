//! Compression of responses with gzip.
//!
//! Invariant: a response is compressed only if its handler marked it as [`Compressible`]. So nothing is compressed by
//! accident that holds a secret beside text of the caller, whose length would tell about the secret (BREACH); and no
//! stream of events, whose events would be held back.
//!
//! A body is compressed piece by piece as the connection takes it, so that neither a large body holds up the other requests
//! of the core nor a slow client makes the service keep a compressed copy.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, HeaderMap, HeaderValue, VARY};
use axum::http::{Response, StatusCode};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::Either;
use hyper::body::{Body, Frame};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::body::ResponseBody;

/// Shorter bodies fit into a packet anyway.
const SHORTEST: u64 = 1024;
/// Bytes that are compressed in one go: about 0.3 ms.
const PIECE: usize = 16 * 1024;
/// The fastest: more effort makes JSON hardly shorter, and takes the core from other requests.
const LEVEL: Compression = Compression::fast();

/// Most responses that are compressed at a time. Each takes about 300 KiB; further ones are sent as they are.
const MOST: usize = 64;

/// In the extensions of a response: it may be compressed. Only for responses that are the same for every caller or that
/// repeat nothing of the request.
#[derive(Debug, Clone, Copy)]
pub struct Compressible;

/// Compresses responses, for all cores. Clones share the bound on their number.
#[derive(Debug, Clone)]
pub(in crate::http) struct Compressor(Arc<Semaphore>);

impl Compressor {
    pub(in crate::http) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MOST)))
    }

    /// Compresses a response if it may be and is worth it. `wanted` is whether the request prefers that.
    pub(super) fn apply(&self, response: Response<ResponseBody>, wanted: bool) -> Response<ResponseBody> {
        if response.extensions().get::<Compressible>().is_none() || response.headers().contains_key(CONTENT_ENCODING) {
            return response;
        }
        let (mut parts, body) = response.into_parts();
        // Whether compressed or not, and on a 304 too: what the response is depends on the header.
        let varies = HeaderValue::from_static("Accept-Encoding");
        parts.headers.append(VARY, varies);
        let is_long = body.size_hint().exact().is_some_and(|length| length >= SHORTEST);
        if !wanted || !is_long || parts.status != StatusCode::OK || is_fixed(&parts.headers) {
            return Response::from_parts(parts, body);
        }
        let Ok(permit) = Arc::clone(&self.0).try_acquire_owned() else {
            return Response::from_parts(parts, body);
        };
        parts.headers.remove(CONTENT_LENGTH);
        let gzip = HeaderValue::from_static("gzip");
        parts.headers.insert(CONTENT_ENCODING, gzip);
        weaken_tag(&mut parts.headers);
        let body = axum::body::Body::new(GzipBody::new(body, permit));
        Response::from_parts(parts, Either::Right(body))
    }
}

/// Whether `Cache-Control` forbids to transform the response.
fn is_fixed(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CACHE_CONTROL).iter();
    values.any(|value| value.to_str().is_ok_and(|value| value.contains("no-transform")))
}

/// Makes the entity tag weak: the compressed response has the same meaning but not the same bytes (RFC 9110, section
/// 8.8.1). `If-None-Match` compares weakly, so it still finds the response unchanged.
fn weaken_tag(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\"")) else {
        return;
    };
    let weak = [b"W/", tag.as_bytes()].concat();
    // Cannot fail: the tag was valid in a header.
    if let Ok(weak) = HeaderValue::from_bytes(&weak) {
        headers.insert(ETAG, weak);
    }
}

/// A body that is compressed as it is read.
struct GzipBody {
    plain: ResponseBody,
    /// What was read of `plain` and is not compressed yet.
    read: Bytes,
    /// `None` after its end.
    encoder: Option<GzEncoder<Vec<u8>>>,
    /// Whether others had a turn since the last piece was compressed.
    has_yielded: bool,
    _permit: OwnedSemaphorePermit,
}

impl GzipBody {
    fn new(plain: ResponseBody, permit: OwnedSemaphorePermit) -> Self {
        Self {
            plain,
            read: Bytes::new(),
            encoder: Some(GzEncoder::new(Vec::new(), LEVEL)),
            has_yielded: true,
            _permit: permit,
        }
    }
}

impl Body for GzipBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        loop {
            let Some(encoder) = &mut this.encoder else {
                return Poll::Ready(None);
            };
            if this.read.is_empty() {
                match ready!(Pin::new(&mut this.plain).poll_frame(cx)) {
                    Some(Ok(frame)) => this.read = frame.into_data().unwrap_or_default(),
                    Some(Err(error)) => return Poll::Ready(Some(Err(axum::Error::new(error)))),
                    None => {
                        let rest = this.encoder.take().map(GzEncoder::finish);
                        return Poll::Ready(rest.map(frame_of));
                    }
                }
                continue;
            }
            if !std::mem::replace(&mut this.has_yielded, true) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            this.has_yielded = false;
            let piece = this.read.split_to(PIECE.min(this.read.len()));
            if let Err(error) = encoder.write_all(&piece) {
                return Poll::Ready(Some(frame_of(Err(error))));
            }
            let compressed = std::mem::take(encoder.get_mut());
            if !compressed.is_empty() {
                return Poll::Ready(Some(frame_of(Ok(compressed))));
            }
        }
    }
}

/// The error never occurs: memory accepts every write.
fn frame_of(compressed: io::Result<Vec<u8>>) -> Result<Frame<Bytes>, axum::Error> {
    match compressed {
        Ok(bytes) => Ok(Frame::data(bytes.into())),
        Err(error) => Err(axum::Error::new(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;
    use http_body_util::{BodyExt, Full};

    use super::*;

    fn response(body: Vec<u8>, headers: &[(axum::http::HeaderName, &'static str)]) -> Response<ResponseBody> {
        let mut response = Response::new(Either::Left(Full::from(body)));
        for (name, value) in headers {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response.extensions_mut().insert(Compressible);
        response
    }

    #[tokio::test]
    async fn a_compressed_body_is_the_same_after_it_is_unpacked() {
        for length in [1024, PIECE - 1, PIECE, PIECE + 1, 10 * PIECE + 7] {
            let bytes: Vec<u8> = (0..length).map(|_| fastrand::u8(b'a'..b'e')).collect();
            let compressed = Compressor::new().apply(response(bytes.clone(), &[]), true);
            assert_eq!(compressed.headers()[CONTENT_ENCODING], "gzip");
            let packed = compressed.into_body().collect().await.unwrap().to_bytes();
            assert!(packed.len() < length / 2, "{} of {length}", packed.len());
            let mut unpacked = Vec::new();
            GzDecoder::new(&*packed).read_to_end(&mut unpacked).unwrap();
            assert!(unpacked == bytes, "{length}");
        }
    }

    #[test]
    fn a_response_that_is_not_marked_or_short_or_fixed_is_left_as_it_is() {
        let long = || vec![b'x'; 5000];
        let is_plain = |response: Response<ResponseBody>| {
            let plain = Compressor::new().apply(response, true);
            !plain.headers().contains_key(CONTENT_ENCODING) && plain.body().size_hint().exact().is_some()
        };
        assert!(!is_plain(response(long(), &[])), "otherwise this test shows nothing");
        assert!(is_plain(response(vec![b'x'; 1023], &[])));
        assert!(is_plain(response(long(), &[(CACHE_CONTROL, "public, no-transform")])));
        let mut error = response(long(), &[]);
        *error.status_mut() = StatusCode::BAD_REQUEST;
        assert!(is_plain(error));
        let mut unmarked = response(long(), &[]);
        unmarked.extensions_mut().clear();
        assert!(is_plain(unmarked));
        let packed = Compressor::new().apply(response(long(), &[(CONTENT_ENCODING, "br")]), true);
        assert_eq!(packed.headers()[CONTENT_ENCODING], "br");
    }

    #[test]
    fn beyond_the_bound_responses_are_sent_as_they_are() {
        let compressor = Compressor::new();
        let respond = || compressor.apply(response(vec![b'x'; 5000], &[]), true);
        let is_packed = |response: &Response<ResponseBody>| response.headers().contains_key(CONTENT_ENCODING);
        let mut under_way: Vec<_> = (0..MOST).map(|_| respond()).collect();
        assert!(under_way.iter().all(is_packed));
        assert!(!is_packed(&respond()));
        drop(under_way.pop());
        assert!(is_packed(&respond()));
    }

    #[test]
    fn a_stream_is_left_as_it_is() {
        let stream = axum::body::Body::from_stream(futures_util::stream::pending::<Result<Bytes, io::Error>>());
        let mut events = Response::new(Either::Right(stream));
        events.extensions_mut().insert(Compressible);
        assert!(
            !Compressor::new()
                .apply(events, true)
                .headers()
                .contains_key(CONTENT_ENCODING)
        );
    }

    #[test]
    fn a_compressed_response_has_a_weak_tag_and_varies() {
        let tagged = |tag: &'static str| response(vec![b'x'; 5000], &[(ETAG, tag)]);
        for (tag, wanted, expected) in [
            ("\"5\"", true, "W/\"5\""),
            ("\"5\"", false, "\"5\""),
            ("W/\"5\"", true, "W/\"5\""),
        ] {
            let headers = Compressor::new().apply(tagged(tag), wanted).into_parts().0.headers;
            assert_eq!(
                (&headers[ETAG], &headers[VARY]),
                (
                    &HeaderValue::from_static(expected),
                    &HeaderValue::from_static("Accept-Encoding")
                )
            );
        }
    }
}
