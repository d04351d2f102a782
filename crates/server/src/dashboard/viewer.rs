//! One viewer: what it is sent, and when its stream ends.
//!
//! Invariant: nothing is kept for a viewer but the frame that it takes next. A stream ends by itself, so that neither a
//! client that does not read nor a key that was revoked watches for ever.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{events, frame::Frame, places::Place};

/// How long a stream lasts. Then the viewer must connect again, with its credentials.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// After this silence there is a comment.
const SILENCE: Duration = Duration::from_secs(15);

/// The stream of one viewer.
pub(crate) struct Viewer {
    _place: Place,
    frames: watch::Receiver<Arc<Frame>>,
    /// The number of the last frame that it got.
    has: u64,
    /// The parts of its first event.
    first: VecDeque<Bytes>,
    until: Instant,
    is_over: bool,
}

impl Viewer {
    pub(super) fn new(place: Place, frames: watch::Receiver<Arc<Frame>>, has: u64, head: Bytes, rest: Bytes) -> Self {
        Self {
            _place: place,
            frames,
            has,
            first: VecDeque::from([head, rest]),
            until: Instant::now() + LONGEST,
            is_over: false,
        }
    }

    /// Waits until there is something to send, and returns it. `None` at the end of the stream.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        if let Some(part) = self.first.pop_front() {
            return Some(part);
        }
        if self.is_over {
            return None;
        }
        if Instant::now() >= self.until {
            self.is_over = true;
            return Some(events::RENEW);
        }
        match timeout(SILENCE, self.frames.changed()).await {
            Ok(Ok(())) => {}
            // The service has ended.
            Ok(Err(_)) => return None,
            Err(_) => return Some(events::COMMENT),
        }
        let frame = self.frames.borrow_and_update().clone();
        if frame.is_last {
            self.is_over = true;
            return Some(events::DRAINING);
        }
        let missed = frame.number != self.has + 1;
        self.has = frame.number;
        Some(if missed { frame.whole() } else { frame.next.clone() })
    }
}
