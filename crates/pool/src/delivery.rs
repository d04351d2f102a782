//! What a waiter receives. Invariant: a waiter that was taken out of the queue is sent exactly one delivery.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::{ConnectError, Manager, slots::Live};

/// Why a connect failed, shared by everyone who reports it.
pub(crate) type ConnectFailure<M> = Arc<ConnectError<<M as Manager>::Error>>;

/// Sends a waiter what it waits for.
pub(crate) type Sender<M> = oneshot::Sender<Delivery<M>>;

/// What a waiter receives.
pub(crate) enum Delivery<M: Manager> {
    Connection(Live<M::Connection>),
    /// The pool was closed.
    Closed,
    /// Its deadline passed.
    TimedOut,
    /// It was dropped so that the callers behind it wait less.
    Shed,
    /// Connecting fails for a reason that time does not cure.
    Permanent(ConnectFailure<M>),
}

/// Tells waiters that left the queue why they get no connection.
pub(crate) fn refuse_all<M: Manager>(senders: Vec<Sender<M>>, why: impl Fn() -> Delivery<M>) {
    for sender in senders {
        // A send fails if the caller has given up by itself: then there is nobody to tell.
        drop(sender.send(why()));
    }
}
