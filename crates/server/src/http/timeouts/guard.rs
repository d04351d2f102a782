//! Wraps each poll of a connection, and ends the connection at a timeout or at the shutdown.
//!
//! Invariant: after every poll of the connection the [`ConnectionTimer`] is polled too.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::sync::futures::Notified;
use tokio::task::{Unconstrained, unconstrained};

use super::activity::{Activity, Timeout};
use super::counts::TimeoutCounts;
use super::timer::{Action, ConnectionTimer};
use crate::http::config::HttpConfig;
use crate::http::connections::{Connections, ServerPhase};

pin_project! {
    /// Ends a connection when the server drains, or when a timeout passes.
    pub(in crate::http) struct ConnectionGuard<'a> {
        connections: &'a Connections,
        activity: &'a Activity,
        limits: &'a HttpConfig,
        counts: &'a TimeoutCounts,
        #[pin]
        draining: Unconstrained<Notified<'a>>,
        #[pin]
        cut: Unconstrained<Notified<'a>>,
        registered: bool,
        // The timer asked for it: this connection drains by itself.
        goodbye: bool,
        #[pin]
        timer: ConnectionTimer,
    }
}

impl<'a> ConnectionGuard<'a> {
    pub(in crate::http) fn new(
        connections: &'a Connections,
        activity: &'a Activity,
        limits: &'a HttpConfig,
        counts: &'a TimeoutCounts,
    ) -> Self {
        let (draining, cut) = connections.signals();
        Self {
            connections,
            activity,
            limits,
            counts,
            draining: unconstrained(draining),
            cut: unconstrained(cut),
            registered: false,
            goodbye: false,
            timer: ConnectionTimer::new(limits),
        }
    }

    /// Polls `work` and passes it the phase of the server. Resolves to `None` if the connection must end.
    pub(in crate::http) fn poll<T>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut work: impl FnMut(&mut Context<'_>, ServerPhase) -> Poll<Option<T>>,
    ) -> Poll<Option<T>> {
        let mut this = self.project();
        if !*this.registered {
            // Registering once is enough: the root of the task polls this, so the waker stays the same.
            *this.registered = this.draining.as_mut().poll(cx).is_pending() && this.cut.as_mut().poll(cx).is_pending();
        }
        loop {
            let phase = match this.connections.phase() {
                ServerPhase::Cut => return Poll::Ready(None),
                ServerPhase::Serving | ServerPhase::Leaving if *this.goodbye => ServerPhase::Draining,
                phase => phase,
            };
            if let Poll::Ready(done) = work(cx, phase) {
                return Poll::Ready(done);
            }
            let action = this.timer.as_mut().poll_action(cx, this.activity, this.limits);
            // `CheckPeer` and `Goodbye` take effect in the next turn, which polls the connection again.
            match ready!(action) {
                Action::CheckPeer => this.activity.request_peer_check(),
                Action::Goodbye => *this.goodbye = true,
                Action::Close(timeout) => {
                    tracing::debug!(?timeout, "a connection is closed by its timeout");
                    this.counts.count(timeout);
                    match timeout {
                        Timeout::Stall => this.activity.request_reset(),
                        Timeout::Idle | Timeout::FirstByte => this.activity.note_idle_end(),
                        _ => {}
                    }
                    return Poll::Ready(None);
                }
            }
        }
    }
}
