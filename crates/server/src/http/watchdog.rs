//! The one timer of a connection.
//!
//! Invariant: between polls it is armed, at or before the moment the connection runs into a limit.
//!
//! It is moved forward only when it has fired, and backward only when a nearer limit begins. A busy connection
//! therefore touches it about once per timeout, not once per request; the rest is a comparison.

use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

use super::activity::{Activity, Limit, after};
use super::config::HttpConfig;

/// What is to be done with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is idle: tell the peer that it ends, and give it a while to agree (HTTP/2).
    Goodbye,
    /// Look whether the peer has gone.
    Look,
    /// End it.
    Close(Limit),
}

pin_project! {
    pub(super) struct Watchdog {
        #[pin]
        timer: Sleep,
        armed: Instant,
        // Whether the timer must be polled to have our waker.
        unregistered: bool,
        // When a peer told goodbye is closed upon.
        patience: Option<Instant>,
    }
}

impl Watchdog {
    pub(super) fn new(limits: &HttpConfig) -> Self {
        let armed = after(Instant::now(), limits.first_byte_timeout);
        Self {
            timer: sleep_until(armed),
            armed,
            unregistered: true,
            patience: None,
        }
    }

    /// Ready when a limit is reached. The waker must be the same at every call.
    pub(super) fn poll_verdict(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        activity: &Activity,
        limits: &HttpConfig,
    ) -> Poll<Verdict> {
        let mut this = self.project();
        loop {
            let due = activity.due(limits).map(|(at, limit)| match *this.patience {
                Some(patience) if limit == Limit::Idle => (at.max(patience), limit),
                _ => (at, limit),
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
            // Unconstrained: a poll refused for lack of budget would leave the waker unregistered.
            if Pin::new(&mut unconstrained(this.timer.as_mut())).poll(cx).is_pending() {
                *this.unregistered = false;
                return Poll::Pending;
            }
            let now = Instant::now();
            let verdict = match due {
                Some((at, Limit::HalfClosed)) if at <= now => Poll::Ready(Verdict::Look),
                Some((at, limit)) if at <= now => {
                    if limit != Limit::Idle || !activity.is_http2() || this.patience.is_some() {
                        return Poll::Ready(Verdict::Close(limit));
                    }
                    let patience = after(now, limits.write_stall_timeout);
                    *this.patience = Some(patience);
                    *this.armed = patience;
                    Poll::Ready(Verdict::Goodbye)
                }
                Some((at, _)) => {
                    *this.armed = at;
                    Poll::Pending
                }
                // The work is ours, and bounded elsewhere. Look again in a while.
                None => {
                    *this.armed = after(now, limits.idle_timeout);
                    Poll::Pending
                }
            };
            this.timer.as_mut().reset(*this.armed);
            *this.unregistered = true;
            if verdict.is_ready() {
                return verdict;
            }
        }
    }
}
