//! Connections in use. Invariant: a connection that a user has is inside a guard, whose drop releases it.

use std::{
    borrow::Borrow,
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use crate::{Acquisition, Manager, inner::PoolInner, retired::Retired, slots::Live};

/// A connection in use that borrows its [`Pool`](crate::Pool) handle. Dropping it releases the connection.
pub type Pooled<'pool, M> = Guard<M, &'pool Arc<PoolInner<M>>>;

/// A connection in use that keeps the pool alive. Dropping it releases the connection.
pub type OwnedPooled<M> = Guard<M, Arc<PoolInner<M>>>;

/// A connection in use; see [`Pooled`] and [`OwnedPooled`].
pub struct Guard<M: Manager, P: Borrow<Arc<PoolInner<M>>>> {
    pool: P,
    /// Empty only while the guard is being dropped.
    pub(crate) live: Option<Live<M::Connection>>,
    manager: PhantomData<fn() -> M>,
}

impl<M: Manager, P: Borrow<Arc<PoolInner<M>>>> Guard<M, P> {
    pub(crate) fn new(pool: P, live: Live<M::Connection>) -> Self {
        Self {
            pool,
            live: Some(live),
            manager: PhantomData,
        }
    }

    /// Tells the manager that a caller has the connection now.
    pub(crate) fn acquired(mut self, acquisition: Acquisition) -> Self {
        if let Some(live) = &mut self.live {
            let inner: &PoolInner<M> = self.pool.borrow();
            inner.manager.acquired(&mut live.connection, acquisition);
        }
        self
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
            self.pool.borrow().retire(live, reason);
        }
    }
}

impl<M: Manager, P: Borrow<Arc<PoolInner<M>>>> Drop for Guard<M, P> {
    #[inline]
    fn drop(&mut self) {
        if let Some(live) = self.live.take() {
            self.pool.borrow().release(live);
        }
    }
}

impl<M: Manager, P: Borrow<Arc<PoolInner<M>>>> Deref for Guard<M, P> {
    type Target = M::Connection;
    #[inline]
    fn deref(&self) -> &M::Connection {
        match &self.live {
            Some(live) => &live.connection,
            None => unreachable!("BUG: a guard was used after its drop"),
        }
    }
}

impl<M: Manager, P: Borrow<Arc<PoolInner<M>>>> DerefMut for Guard<M, P> {
    #[inline]
    fn deref_mut(&mut self) -> &mut M::Connection {
        match &mut self.live {
            Some(live) => &mut live.connection,
            None => unreachable!("BUG: a guard was used after its drop"),
        }
    }
}

impl<M: Manager, P: Borrow<Arc<PoolInner<M>>>> fmt::Debug for Guard<M, P>
where
    M::Connection: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pooled").field(&**self).finish()
    }
}
