//! Response bodies. Invariant: a request counts as in flight until its response body ends or is dropped.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::http::Response;
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame, SizeHint};

use crate::http::timeouts::InFlight;

/// A fully buffered response. An axum handler may return it.
pub type FullResponse = Response<Full<Bytes>>;

/// The body of any response: fully buffered, or whatever an axum handler returned.
pub type ResponseBody = Either<Full<Bytes>, axum::body::Body>;

/// The body of a response together with its request's [`InFlight`] record.
#[derive(Debug)]
pub(in crate::http) struct TrackedBody {
    body: ResponseBody,
    request: InFlight,
    /// Whether a frame was returned. The first frame follows the head at once, which was recorded already.
    begun: bool,
}

impl TrackedBody {
    pub(in crate::http) fn new(body: ResponseBody, request: InFlight) -> Self {
        Self {
            body,
            request,
            begun: false,
        }
    }
}

impl Body for TrackedBody {
    type Data = Bytes;
    type Error = <ResponseBody as Body>::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_pending() {
            self.request.wait_for_handler();
        } else {
            if self.begun || self.request.is_busy() {
                self.request.wait_for_peer();
            }
            self.begun = true;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
