//! The one timer of a connection.
//!
//! Invariant: between polls the timer is armed for the connection's next deadline, or earlier.
//!
//! It is moved later only after it has fired, and earlier only when a nearer deadline appears. A busy connection
//! therefore re-arms it about once per timeout, not once per request. All other polls only compare times.

use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

use super::activity::{Activity, Timeout, after};
use crate::http::config::HttpConfig;

/// What the guard must do with the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Tell an idle HTTP/2 peer that the connection ends, and wait for it to agree.
    Goodbye,
    /// Check whether the peer is still there.
    CheckPeer,
    /// Close the connection.
    Close(Timeout),
}

pin_project! {
    pub(super) struct ConnectionTimer {
        #[pin]
        timer: Sleep,
        armed: Instant,
        // Whether the timer must be polled so that it has our waker.
        unregistered: bool,
        // Until when a peer that was told goodbye may keep the connection open.
        goodbye_until: Option<Instant>,
    }
}

impl ConnectionTimer {
    pub(super) fn new(limits: &HttpConfig) -> Self {
        let armed = after(Instant::now(), limits.first_byte_timeout);
        Self {
            timer: sleep_until(armed),
            armed,
            unregistered: true,
            goodbye_until: None,
        }
    }

    /// Resolves when a deadline has passed. Every call must come with the same waker.
    pub(super) fn poll_action(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        activity: &Activity,
        limits: &HttpConfig,
    ) -> Poll<Action> {
        let mut this = self.project();
        loop {
            let due = activity.due(limits).map(|(at, timeout)| match *this.goodbye_until {
                Some(until) if timeout == Timeout::Idle => (at.max(until), timeout),
                _ => (at, timeout),
            });
            if let Some((at, _)) = due
                && at < *this.armed
            {
                *this.armed = at;
                this.timer.as_mut().reset(at);
                *this.unregistered = true;
            }
            if !*this.unregistered && !this.timer.is_elapsed() {
                return Poll::Pending;
            }
            // Unconstrained: if tokio refused the poll for lack of budget, the waker would stay unregistered.
            if Pin::new(&mut unconstrained(this.timer.as_mut())).poll(cx).is_pending() {
                *this.unregistered = false;
                return Poll::Pending;
            }
            let now = Instant::now();
            let action = match due {
                Some((at, Timeout::HalfClosed)) if at <= now => Poll::Ready(Action::CheckPeer),
                Some((at, timeout)) if at <= now => {
                    if timeout != Timeout::Idle || !activity.is_http2() || this.goodbye_until.is_some() {
                        return Poll::Ready(Action::Close(timeout));
                    }
                    let until = after(now, limits.write_stall_timeout);
                    *this.goodbye_until = Some(until);
                    *this.armed = until;
                    Poll::Ready(Action::Goodbye)
                }
                Some((at, _)) => {
                    *this.armed = at;
                    Poll::Pending
                }
                // A handler is working, and bounds itself. Look again later.
                None => {
                    *this.armed = after(now, limits.idle_timeout);
                    Poll::Pending
                }
            };
            this.timer.as_mut().reset(*this.armed);
            *this.unregistered = true;
            if action.is_ready() {
                return action;
            }
        }
    }
}
