//! The timeouts of a connection.
//!
//! Invariant: in every state a connection either has a deadline here, or waits for a handler, which bounds itself.
//!
//! [`Activity`] records what the socket and the requests do. [`ConnectionTimer`](timer::ConnectionTimer) compares the
//! records with the limits. [`ConnectionGuard`] wraps each poll of the connection and carries out what the timer
//! decides.

mod activity;
mod counts;
mod guard;
mod in_flight;
mod timer;

pub(super) use activity::{Activity, PeerCheck};
pub(super) use counts::TimeoutCounts;
pub(super) use guard::ConnectionGuard;
pub(super) use in_flight::InFlight;
