//! The body of a request, bounded in bytes and time.
//!
//! Invariant: reading it ends, with the body's end or an error, within its limit of bytes and its deadline. A body that
//! arrived together with its head costs no timer.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use cenote_postgres::Chain;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::http::peer::Peer;
use crate::http::server_timing::Timings;
use crate::http::timeouts::Activity;

/// Why a request body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The body is longer than allowed.
    #[error("the body is longer than {limit} bytes")]
    TooLarge {
        /// The largest allowed number of bytes.
        limit: u64,
    },
    /// The body did not end before its deadline.
    #[error("the body did not arrive in time")]
    TimedOut,
    /// The connection broke, or the body's framing violates HTTP.
    #[error("the body broke off: {}", Chain(.0))]
    Broken(hyper::Error),
}

impl From<hyper::Error> for BodyError {
    fn from(error: hyper::Error) -> Self {
        Self::Broken(error)
    }
}

/// The body of a request, bounded in bytes and time. It also tells who sent the request, because it is what each request
/// has of its own on its way to a handler, at no allocation.
#[derive(Debug)]
pub struct RequestBody {
    /// `None` if the request has no body.
    arriving: Option<Arriving>,
    peer: Peer,
    client: IpAddr,
    received: Instant,
    timings: Option<Timings>,
}

/// A body that did not end with its head.
#[derive(Debug)]
struct Arriving {
    incoming: Incoming,
    limit: u64,
    left: u64,
    deadline: Instant,
    /// Created at the first wait, so that a body that is already there costs none.
    timer: Option<Pin<Box<Sleep>>>,
    ended: bool,
    activity: Arc<Activity>,
}

/// When a request arrived, and until when its body must have arrived.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct BodyTimes {
    pub(in crate::http) received: Instant,
    pub(in crate::http) deadline: Instant,
}

impl RequestBody {
    pub(in crate::http) fn new(
        incoming: Incoming,
        limit: u64,
        times: BodyTimes,
        activity: &Arc<Activity>,
        peer: Peer,
        client: IpAddr,
    ) -> Self {
        let arriving = (!incoming.is_end_stream()).then(|| {
            activity.note_body(true);
            Arriving {
                incoming,
                limit,
                left: limit,
                deadline: times.deadline,
                timer: None,
                ended: false,
                activity: Arc::clone(activity),
            }
        });
        Self {
            arriving,
            peer,
            client,
            received: times.received,
            timings: None,
        }
    }

    /// The client's address: that of the peer, or what a trusted proxy says.
    pub fn client(&self) -> IpAddr {
        self.client
    }

    /// When the last bytes of the request's head arrived. Decisions on the request take it for the present, which saves
    /// them readings of the clock.
    pub fn received(&self) -> Instant {
        self.received
    }

    /// Measures the request from now on, with these times.
    pub(crate) fn measure(&mut self, timings: Timings) {
        self.timings = Some(timings);
    }

    /// Where handlers note what the time of the request is spent on; `None` if it is not measured.
    pub fn timings(&self) -> Option<&Timings> {
        self.timings.as_ref()
    }

    /// Who is at the other end of the connection that the request arrived on.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(this) = &mut self.arriving else {
            return Poll::Ready(None);
        };
        let too_large = BodyError::TooLarge { limit: this.limit };
        // A `Content-Length` that is too large is refused before a byte is read or `100 Continue` is sent.
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
        let arriving = self.arriving.as_ref();
        arriving.is_none_or(|arriving| arriving.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.arriving {
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
