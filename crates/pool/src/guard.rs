//! Connections on loan. Invariant: a connection outside the pool is always inside a guard, and a
//! guard always gives it back.

use std::{
    borrow::Borrow,
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use crate::{Manager, inner::PoolInner, retired::Retired, slots::Live};

/// A connection on loan, borrowed from its [`Pool`](crate::Pool) handle. Dropping it gives the connection back.
pub type Pooled<'pool, M> = Guard<M, &'pool Arc<PoolInner<M>>>;

/// A connection on loan that keeps the pool alive by itself. Dropping it gives the connection back.
pub type OwnedPooled<M> = Guard<M, Arc<PoolInner<M>>>;

/// A connection on loan. See [`Pooled`] and [`OwnedPooled`].
pub struct Guard<M: Manager, P: Borrow<Arc<PoolInner<M>>>> {
    pool: P,
    /// Empty only while the guard is being taken apart.
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

    /// Closes the connection instead of giving it back.
    pub fn discard(self) {
        self.retire(Retired::Discarded);
    }

    /// Has the connection [checked](crate::Manager::check) before anyone has it again, however well it looks: for
    /// callers that saw something odd but cannot tell whether it is broken.
    ///
    /// With a manager that has no `check` this does nothing; [`discard`](Self::discard) it instead.
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
            None => unreachable!("a guard is emptied only when it ends"),
        }
    }
}

impl<M: Manager, P: Borrow<Arc<PoolInner<M>>>> DerefMut for Guard<M, P> {
    #[inline]
    fn deref_mut(&mut self) -> &mut M::Connection {
        match &mut self.live {
            Some(live) => &mut live.connection,
            None => unreachable!("a guard is emptied only when it ends"),
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
