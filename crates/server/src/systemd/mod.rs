//! What the service tells systemd, and the sockets that it gets from it.
//!
//! Invariant: without systemd nothing here has an effect, and a message that cannot be sent never stops the service.

mod activation;
mod supervision;

use sd_notify::NotifyState;

pub(crate) use self::activation::PassedSockets;
pub(crate) use self::supervision::supervise;

/// Tells that the start, or a reload, has ended.
pub(crate) fn ready() {
    send(&[NotifyState::Ready]);
}

/// Tells that a reload begins. [`ready`] ends it.
pub(crate) fn reloading() {
    // Without the time systemd takes the reload for failed.
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        send(&[NotifyState::Reloading, now]);
    }
}

/// Tells that the service finishes its requests and ends.
pub(crate) fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// Does nothing where `NOTIFY_SOCKET` is not set.
fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}
