//! What the pool must be told about a kind of connection. Invariant: the pool calls these methods
//! with no lock held, and never two at once for one connection.

use std::error::Error;

/// Opens, inspects, cleans and closes one kind of connection.
///
/// # Cancel safety
///
/// Every future returned here is polled by a task that the pool owns and is dropped only when its
/// deadline (see [`Config`](crate::Config)) has passed or the runtime ends; a caller that gives up
/// never cancels it. The exception is [`check`](Self::check), which runs in the caller: when it is
/// dropped half-way the connection is inspected like any other returned one.
pub trait Manager: Send + Sync + 'static {
    /// What is pooled.
    type Connection: Send + 'static;
    /// Why connecting, checking or cleaning failed.
    type Error: Error + Send + Sync + 'static;

    /// Opens a connection.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, Self::Error>> + Send;

    /// Says whether connecting fails for good: trying again cannot help until someone changes
    /// something, such as a wrong password.
    ///
    /// While such an error is the last one and no connection is open, callers are refused with
    /// [`Reason::Permanent`](crate::Reason::Permanent) instead of waiting; in a pool that has worked before, once it
    /// has been so for [`backoff_permanent`](crate::Config::backoff_permanent), after which the pool tries again each
    /// time by itself.
    fn is_permanent(&self, error: &Self::Error) -> bool {
        let _ = error;
        false
    }

    /// Says what state a connection is in, at once and without I/O.
    ///
    /// Asked at every return and again at every checkout, so it must be fast. It must only say
    /// [`Condition::Clean`] when that is known; a connection that is [`Condition::Unknown`], as
    /// all are by default, costs a [`check`](Self::check) at every checkout.
    fn inspect(&self, connection: &mut Self::Connection) -> Condition {
        let _ = connection;
        Condition::Unknown
    }

    /// Brings a [`Condition::Dirty`] connection back to clean; an error closes it.
    fn clean(&self, connection: &mut Self::Connection) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = connection;
        async { Ok(()) }
    }

    /// Asks the far side whether it is still there; an error closes the connection.
    ///
    /// Asked before a connection is handed out that has been idle for
    /// [`check_after`](crate::Config::check_after), that [`inspect`](Self::inspect) knows nothing
    /// of, or that was [marked as suspect](crate::Guard::mark_suspect).
    fn check(&self, connection: &mut Self::Connection) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = connection;
        async { Ok(()) }
    }

    /// Waits until something is known that may concern idle connections, such as a failover: the pool then
    /// [inspects](Self::inspect) them at once. By default it waits for ever.
    ///
    /// One is polled at a time, beside the pool's housekeeping. It is dropped and called again where that moves to
    /// another runtime.
    fn news(&self) -> impl Future<Output = ()> + Send + 'static {
        std::future::pending()
    }

    /// Closes a connection and completes when the far side has confirmed it. Until then, or until
    /// `close_timeout`, it totals against the pool's maximum.
    fn close(&self, connection: Self::Connection) -> impl Future<Output = ()> + Send {
        drop(connection);
        async {}
    }
}

/// What [`Manager::inspect`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// As good as new: the next caller may have it now.
    Clean,
    /// Nothing is known against it, but only the far side can tell: [`Manager::check`] asks before
    /// the next caller has it, unless that was done within
    /// [`trust_check_for`](crate::Config::trust_check_for).
    Unknown,
    /// Usable after [`Manager::clean`].
    Dirty,
    /// Only good for closing.
    Broken,
}
