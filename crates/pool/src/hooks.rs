//! What an application does at the turns of a connection's life, whatever its manager.
//!
//! Invariant: a hook that is not set costs a comparison, and one that fails, hangs or panics costs its own connection alone.

use std::{fmt, pin::Pin, sync::Arc};

use crate::{ConnectionInfo, Manager, Retired};

/// The future of a hook.
pub type HookFuture<'c, T> = Pin<Box<dyn Future<Output = T> + Send + 'c>>;

/// What a hook wants to happen to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Use it.
    Keep,
    /// Close it. A caller gets another one.
    Close,
}

/// What a hook is: a function that gets the connection, and what the pool knows of it.
type Hook<M, T> = Arc<
    dyn for<'c> Fn(
            &'c mut <M as Manager>::Connection,
            ConnectionInfo,
        ) -> HookFuture<'c, Result<T, <M as Manager>::Error>>
        + Send
        + Sync,
>;

/// What is called before a connection is closed.
type LastHook<M> = Arc<
    dyn for<'c> Fn(&'c mut <M as Manager>::Connection, ConnectionInfo, Retired) -> HookFuture<'c, ()> + Send + Sync,
>;

/// Functions that a pool calls at the turns of a connection's life. A clone holds the same functions.
///
/// | Hook | Runs | In | At most | When it fails |
/// |---|---|---|---|---|
/// | [`after_connect`](Self::after_connect) | once, on each new connection | a task of the pool | the rest of `connect_timeout` | the connect has failed |
/// | [`before_acquire`](Self::before_acquire) | before each use | the caller's task | `check_timeout` | the connection is closed, and the caller gets the error |
/// | [`after_release`](Self::after_release) | after each use | a task of the pool | `clean_timeout` | the connection is closed |
/// | [`on_close`](Self::on_close) | before each close | a task of the pool | `close_timeout`, the close included | – |
///
/// A hook may run any command on its connection. It must not acquire from the same pool: if all connections are in hooks
/// that wait for one, none of them ends. A hook that is not set costs nothing.
///
/// ```
/// use cenote_pool::{Config, Decision, Hooks, Manager, Pool};
/// # async fn example<M: Manager>(manager: M) -> Result<Pool<M>, cenote_pool::InvalidConfig> {
/// // Every connection serves a thousand callers.
/// let hooks = Hooks::new().after_release(|_connection, info| {
///     Box::pin(async move {
///         Ok(match info.uses < 1_000 {
///             true => Decision::Keep,
///             false => Decision::Close,
///         })
///     })
/// });
/// Pool::with_hooks(manager, Config::default(), hooks)
/// # }
/// ```
pub struct Hooks<M: Manager> {
    pub(crate) after_connect: Option<Hook<M, ()>>,
    pub(crate) before_acquire: Option<Hook<M, Decision>>,
    pub(crate) after_release: Option<Hook<M, Decision>>,
    pub(crate) on_close: Option<LastHook<M>>,
}

impl<M: Manager> Hooks<M> {
    /// Creates hooks that do nothing.
    pub fn new() -> Self {
        Self {
            after_connect: None,
            before_acquire: None,
            after_release: None,
            on_close: None,
        }
    }

    /// Runs `hook` on each new connection, before its first use.
    ///
    /// After an error, or when the rest of [`connect_timeout`](crate::Config::connect_timeout) is over, the connection is
    /// closed and its connect counts as failed.
    #[must_use]
    pub fn after_connect(
        mut self,
        hook: impl for<'c> Fn(&'c mut M::Connection, ConnectionInfo) -> HookFuture<'c, Result<(), M::Error>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.after_connect = Some(Arc::new(hook));
        self
    }

    /// Runs `hook` on each connection that a caller is about to get, after its [check](crate::Manager::check). It runs in the
    /// caller's task, so it sees that task's locals.
    ///
    /// * With [`Decision::Close`] the connection is closed, and the caller gets another one. If that one is new and is to be
    ///   closed too, the caller gets [`Reason::Rejected`](crate::Reason::Rejected).
    /// * After an error the connection is closed, and the caller gets [`Reason::Rejected`](crate::Reason::Rejected) with the
    ///   error.
    /// * After [`check_timeout`](crate::Config::check_timeout) the connection is closed, and the caller gets
    ///   [`Phase::Hook`](crate::Phase::Hook). This time is not part of `acquire_timeout`.
    ///
    /// [`Pool::try_get`](crate::Pool::try_get) cannot wait for a hook, so it returns `None` while this one is set; use
    /// [`get_within`](crate::Pool::get_within) with a zero.
    ///
    /// # Cancel safety
    ///
    /// If the caller is dropped meanwhile, the connection is released like any other: it is inspected, cleaned where
    /// necessary, and [`after_release`](Self::after_release) runs.
    #[must_use]
    pub fn before_acquire(
        mut self,
        hook: impl for<'c> Fn(&'c mut M::Connection, ConnectionInfo) -> HookFuture<'c, Result<Decision, M::Error>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.before_acquire = Some(Arc::new(hook));
        self
    }

    /// Runs `hook` on each connection that a caller has released, once it is clean. What the hook leaves is inspected, and
    /// cleaned again if necessary.
    ///
    /// It costs each release a task, and the next caller waits for it. It does not run on connections that are closed
    /// instead: broken or discarded ones. After an error, or after [`clean_timeout`](crate::Config::clean_timeout), the
    /// connection is closed.
    #[must_use]
    pub fn after_release(
        mut self,
        hook: impl for<'c> Fn(&'c mut M::Connection, ConnectionInfo) -> HookFuture<'c, Result<Decision, M::Error>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.after_release = Some(Arc::new(hook));
        self
    }

    /// Runs `hook` on each connection that the pool closes, before [`Manager::close`], and tells it why. The connection may
    /// be broken.
    ///
    /// The hook and the close together take at most [`close_timeout`](crate::Config::close_timeout). The hook does not run
    /// when a connection is [detached](crate::Pooled::detach), when its runtime has ended, or when the last handle of a pool
    /// is dropped without [`Pool::close`](crate::Pool::close).
    #[must_use]
    pub fn on_close(
        mut self,
        hook: impl for<'c> Fn(&'c mut M::Connection, ConnectionInfo, Retired) -> HookFuture<'c, ()> + Send + Sync + 'static,
    ) -> Self {
        self.on_close = Some(Arc::new(hook));
        self
    }
}

impl<M: Manager> Default for Hooks<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M: Manager> Clone for Hooks<M> {
    fn clone(&self) -> Self {
        Self {
            after_connect: self.after_connect.clone(),
            before_acquire: self.before_acquire.clone(),
            after_release: self.after_release.clone(),
            on_close: self.on_close.clone(),
        }
    }
}

impl<M: Manager> fmt::Debug for Hooks<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("after_connect", &self.after_connect.is_some())
            .field("before_acquire", &self.before_acquire.is_some())
            .field("after_release", &self.after_release.is_some())
            .field("on_close", &self.on_close.is_some())
            .finish()
    }
}
