//! Connections in use. Invariant: a connection that a user has is inside a [`Pooled`], whose drop releases it.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use crate::{Acquisition, ConnectionInfo, Manager, inner::PoolInner, retired::Retired, slots::Live};

/// A connection in use. Dropping it releases the connection.
///
/// It borrows the [`Pool`](crate::Pool) handle that it was acquired from. One of
/// [`get_owned`](crate::Pool::get_owned) borrows nothing and keeps the pool alive: [`OwnedPooled`].
pub struct Pooled<'pool, M: Manager> {
    pool: PoolRef<'pool, M>,
    /// Empty only while it is being dropped.
    pub(crate) live: Option<Live<M::Connection>>,
}

/// A connection in use that keeps its pool alive.
pub type OwnedPooled<M> = Pooled<'static, M>;

/// The pool of a connection in use.
pub(crate) enum PoolRef<'pool, M: Manager> {
    Borrowed(&'pool Arc<PoolInner<M>>),
    Owned(Arc<PoolInner<M>>),
}

impl<M: Manager> Deref for PoolRef<'_, M> {
    type Target = Arc<PoolInner<M>>;

    #[inline]
    fn deref(&self) -> &Arc<PoolInner<M>> {
        match self {
            Self::Borrowed(pool) => pool,
            Self::Owned(pool) => pool,
        }
    }
}

impl<'pool, M: Manager> Pooled<'pool, M> {
    pub(crate) fn new(pool: PoolRef<'pool, M>, live: Live<M::Connection>) -> Self {
        Self { pool, live: Some(live) }
    }

    /// Tells the manager that a caller has the connection now.
    pub(crate) fn acquired(mut self, acquisition: Acquisition) -> Self {
        if let Some(live) = &mut self.live {
            self.pool.manager.acquired(&mut live.connection, acquisition);
        }
        self
    }

    /// Returns what the pool knows of the connection: its age, how often it was used, what it leads to.
    pub fn info(&self) -> ConnectionInfo {
        match &self.live {
            Some(live) => self.pool.describe(live.slot),
            None => unreachable!("BUG: a connection was used after its release"),
        }
    }

    /// Takes the connection out of the pool for good, and frees its place: the pool may open another one at once. The caller
    /// closes the connection.
    ///
    /// Neither [`Manager::close`] nor a [hook](crate::Hooks) is called for it.
    pub fn detach(mut self) -> M::Connection {
        match self.live.take() {
            Some(live) => {
                self.pool.detach(live.slot);
                live.connection
            }
            None => unreachable!("BUG: a connection was used after its release"),
        }
    }

    /// Closes the connection instead of releasing it.
    pub fn discard(self) {
        self.retire(Retired::Discarded);
    }

    /// Requires a [check](crate::Manager::check) of the connection before its next use, even if
    /// [`inspect`](crate::Manager::inspect) finds it clean. For callers that saw something odd but cannot tell whether
    /// the connection is broken.
    ///
    /// Without a `check` in the manager this has no effect: [`discard`](Self::discard) the connection instead.
    pub fn mark_suspect(&mut self) {
        if let Some(live) = &mut self.live {
            live.suspect = true;
        }
    }

    pub(crate) fn retire(mut self, reason: Retired) {
        if let Some(live) = self.live.take() {
            self.pool.retire(live, reason);
        }
    }
}

impl<M: Manager> Drop for Pooled<'_, M> {
    #[inline]
    fn drop(&mut self) {
        if let Some(live) = self.live.take() {
            self.pool.give_back(live);
        }
    }
}

impl<M: Manager> Deref for Pooled<'_, M> {
    type Target = M::Connection;

    #[inline]
    fn deref(&self) -> &M::Connection {
        match &self.live {
            Some(live) => &live.connection,
            None => unreachable!("BUG: a connection was used after its release"),
        }
    }
}

impl<M: Manager> DerefMut for Pooled<'_, M> {
    #[inline]
    fn deref_mut(&mut self) -> &mut M::Connection {
        match &mut self.live {
            Some(live) => &mut live.connection,
            None => unreachable!("BUG: a connection was used after its release"),
        }
    }
}

impl<M: Manager> fmt::Debug for Pooled<'_, M>
where
    M::Connection: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pooled").field(&**self).finish()
    }
}
