//! What ends a connection: the end of all, or a limit that it runs into.
//!
//! Invariant: whatever it guards is never polled without asking the [`Watchdog`] afterwards.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::sync::futures::Notified;
use tokio::task::{Unconstrained, unconstrained};

use super::activity::{Activity, Limit};
use super::config::HttpConfig;
use super::fleet::{Fleet, Phase};
use super::watchdog::{Verdict, Watchdog};

pin_project! {
    /// Ends a connection when all are to end, or when it runs into a limit.
    pub(super) struct Guard<'a> {
        fleet: &'a Fleet,
        activity: &'a Activity,
        limits: &'a HttpConfig,
        #[pin]
        draining: Unconstrained<Notified<'a>>,
        #[pin]
        cut: Unconstrained<Notified<'a>>,
        registered: bool,
        // It was told so by the watchdog, and is not to take anything new.
        goodbye: bool,
        #[pin]
        watchdog: Watchdog,
    }
}

impl<'a> Guard<'a> {
    pub(super) fn new(fleet: &'a Fleet, activity: &'a Activity, limits: &'a HttpConfig) -> Self {
        let (draining, cut) = fleet.signals();
        Self {
            fleet,
            activity,
            limits,
            draining: unconstrained(draining),
            cut: unconstrained(cut),
            registered: false,
            goodbye: false,
            watchdog: Watchdog::new(limits),
        }
    }

    /// Polls `work`, telling it the phase it is in; `None` if the connection is to end.
    pub(super) fn poll<T>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut work: impl FnMut(&mut Context<'_>, Phase) -> Poll<Option<T>>,
    ) -> Poll<Option<T>> {
        let mut this = self.project();
        if !*this.registered {
            // Once is enough: this is polled by the root of its task, so the waker stays the same.
            *this.registered = this.draining.as_mut().poll(cx).is_pending() && this.cut.as_mut().poll(cx).is_pending();
        }
        loop {
            let phase = match this.fleet.phase() {
                Phase::Cut => return Poll::Ready(None),
                Phase::Serving | Phase::Leaving if *this.goodbye => Phase::Draining,
                phase => phase,
            };
            if let Poll::Ready(done) = work(cx, phase) {
                return Poll::Ready(done);
            }
            let verdict = this.watchdog.as_mut().poll_verdict(cx, this.activity, this.limits);
            let verdict = ready!(verdict);
            match verdict {
                // It is done by polling once more, as is the goodbye.
                Verdict::Look => this.activity.ask_look(),
                Verdict::Goodbye => *this.goodbye = true,
                Verdict::Close(limit) => {
                    tracing::debug!(?limit, "a connection ran into a limit");
                    if limit == Limit::Stall {
                        this.activity.ask_reset();
                    }
                    return Poll::Ready(None);
                }
            }
        }
    }
}
