//! Request and response bodies with their bounds.
//!
//! Invariant: reading a request body ends, by its end or an error, within its bytes and its deadline. A body
//! that came with its head costs no timer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use cenote_postgres::Chain;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::activity::{Activity, InFlight};
use super::service::Body;

/// Why a request body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is longer than allowed.
    #[error("the body is longer than {limit} bytes")]
    TooLarge {
        /// The most bytes allowed.
        limit: u64,
    },
    /// It did not end in time.
    #[error("the body did not arrive in time")]
    TimedOut,
    /// The connection broke, or the body is not framed as HTTP demands.
    #[error("the body broke off: {}", Chain(.0))]
    Broken(hyper::Error),
}

impl From<hyper::Error> for BodyError {
    fn from(error: hyper::Error) -> Self {
        Self::Broken(error)
    }
}

/// The body of a request, bounded in bytes and time.
#[derive(Debug)]
pub struct RequestBody(Option<Arriving>);

/// One that has not ended with its head.
#[derive(Debug)]
struct Arriving {
    incoming: Incoming,
    limit: u64,
    left: u64,
    deadline: Instant,
    /// Made when the body is first waited for.
    timer: Option<Pin<Box<Sleep>>>,
    ended: bool,
    activity: Arc<Activity>,
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming, limit: u64, deadline: Instant, activity: &Arc<Activity>) -> Self {
        if incoming.is_end_stream() {
            return Self(None);
        }
        activity.note_body(true);
        Self(Some(Arriving {
            incoming,
            limit,
            left: limit,
            deadline,
            timer: None,
            ended: false,
            activity: Arc::clone(activity),
        }))
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(this) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let too_large = BodyError::TooLarge { limit: this.limit };
        // A length announced in the head is refused before a byte is read, or `100 Continue` sent.
        if this.incoming.size_hint().lower() > this.left {
            return Poll::Ready(Some(Err(too_large)));
        }
        let Poll::Ready(frame) = Pin::new(&mut this.incoming).poll_frame(cx) else {
            let deadline = this.deadline;
            let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            ready!(timer.as_mut().poll(cx));
            return Poll::Ready(Some(Err(BodyError::TimedOut)));
        };
        let Some(frame) = frame.transpose()? else {
            this.ended = true;
            this.activity.note_body(false);
            return Poll::Ready(None);
        };
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        match this.left.checked_sub(length) {
            Some(left) => this.left = left,
            None => return Poll::Ready(Some(Err(too_large))),
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        let arriving = self.0.as_ref();
        arriving.is_none_or(|arriving| arriving.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Some(arriving) => arriving.incoming.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.activity.note_body(false);
        if !self.ended && !self.incoming.is_end_stream() {
            self.activity.note_unread_body();
        }
    }
}

/// The body of a response, which keeps its request in flight.
#[derive(Debug)]
pub(super) struct ResponseBody {
    body: Body,
    request: InFlight,
    /// Whether a piece was handed over. The first one follows the head at once and needs no note.
    begun: bool,
}

impl ResponseBody {
    pub(super) fn new(body: Body, request: InFlight) -> Self {
        Self {
            body,
            request,
            begun: false,
        }
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_pending() {
            self.request.take_back();
        } else {
            if self.begun || self.request.is_busy() {
                self.request.hand_over();
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
