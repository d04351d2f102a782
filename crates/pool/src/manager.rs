//! What a user of the pool implements for a kind of connection.
//!
//! Invariant: the pool calls these methods without a lock, and never two at a time for one connection.

use std::{error::Error, sync::Arc};

use crate::Acquisition;

/// Opens, inspects, cleans and closes one kind of connection.
///
/// # Cancel safety
///
/// The pool's own tasks poll the futures of [`connect`](Self::connect), [`clean`](Self::clean) and
/// [`close`](Self::close). They drop them only when the timeout in the [`Config`](crate::Config) has passed or the
/// runtime ends; a caller that gives up never cancels them. [`check`](Self::check) runs in the caller's task: if it is
/// dropped early, the connection is inspected like any other released one.
pub trait Manager: Send + Sync + 'static {
    /// What is pooled.
    type Connection: Send + 'static;
    /// Why connecting, checking or cleaning failed.
    type Error: Error + Send + Sync + 'static;

    /// Opens a connection.
    ///
    /// After an error the pool tries again with a growing backoff.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, Self::Error>> + Send;

    /// Returns true if trying again cannot help until the cause is removed, such as a wrong password.
    ///
    /// While that is so and no connection is open, the pool refuses callers with
    /// [`Reason::Permanent`](crate::Reason::Permanent) instead of letting them wait, and tries again every
    /// [`backoff_permanent`](crate::Config::backoff_permanent). A pool that has worked before first retries with the
    /// usual backoff for that time, because the cause is often removed within seconds.
    ///
    /// By default no error is permanent.
    fn is_permanent(&self, error: &Self::Error) -> bool {
        let _ = error;
        false
    }

    /// Returns the condition of a connection, without I/O.
    ///
    /// Called at every release and every checkout, so it must be fast. Return [`Condition::Clean`] only if that is
    /// certain. By default it returns [`Condition::Unknown`], which costs a [`check`](Self::check) at every checkout.
    ///
    /// # Panics
    ///
    /// If it panics, the connection is closed and the panic reaches the caller.
    fn inspect(&self, connection: &mut Self::Connection) -> Condition {
        let _ = connection;
        Condition::Unknown
    }

    /// Returns what a new connection leads to, such as a host, for [`ConnectionInfo::peer`](crate::ConnectionInfo::peer).
    /// Called once for each. By default `None`.
    fn peer(&self, connection: &Self::Connection) -> Option<Arc<str>> {
        let _ = connection;
        None
    }

    /// Called when a connection is handed to a caller, with how the caller got it. By default it does nothing.
    ///
    /// # Panics
    ///
    /// If it panics, the connection is released and the panic reaches the caller.
    fn acquired(&self, connection: &mut Self::Connection, acquisition: Acquisition) {
        let _ = (connection, acquisition);
    }

    /// Cleans a [`Condition::Dirty`] connection. After an error, or after
    /// [`clean_timeout`](crate::Config::clean_timeout), the connection is closed.
    fn clean(&self, connection: &mut Self::Connection) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = connection;
        async { Ok(()) }
    }

    /// Asks the far side whether the connection still works. After an error, or after
    /// [`check_timeout`](crate::Config::check_timeout), the connection is closed.
    ///
    /// Called before a connection is handed out that was idle for [`check_after`](crate::Config::check_after), whose
    /// condition is [`Condition::Unknown`], or that was [marked as suspect](crate::Pooled::mark_suspect).
    fn check(&self, connection: &mut Self::Connection) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = connection;
        async { Ok(()) }
    }

    /// Completes when something has happened that may concern idle connections, such as a failover. The pool then
    /// [inspects](Self::inspect) them at once. By default it never completes.
    ///
    /// One such future is polled at a time, on the runtime of the maintenance task. If that moves to another runtime,
    /// the future is dropped and `inspection_due` is called again.
    fn inspection_due(&self) -> impl Future<Output = ()> + Send + 'static {
        std::future::pending()
    }

    /// Closes a connection. Completes when the far side has confirmed that.
    ///
    /// The connection counts against the pool's maximum until then, or until
    /// [`close_timeout`](crate::Config::close_timeout). By default it drops the connection and completes at once.
    fn close(&self, connection: Self::Connection) -> impl Future<Output = ()> + Send {
        drop(connection);
        async {}
    }
}

/// What [`Manager::inspect`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Condition {
    /// As good as new. The next caller may use it at once.
    Clean,
    /// Only the far side can tell. [`Manager::check`] asks it before the next use, unless it did within
    /// [`trust_check_for`](crate::Config::trust_check_for).
    Unknown,
    /// Usable after [`Manager::clean`].
    Dirty,
    /// Not usable. The pool closes it.
    Broken,
}
