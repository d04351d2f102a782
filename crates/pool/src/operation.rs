//! What an operator does to a pool: resize, replace, pause, warm up, end it. Invariant: every change takes effect with the call,
//! and a future only waits for what follows from it.

use std::time::Duration;

use crate::{
    AcquireError, ConnectionInfo, InvalidConfig, Limits, Manager, Phase, Pool, Reason,
    acquire::{permanent, snapshot},
    inner::Core,
    shim::timeout,
};

impl<M: Manager> Pool<M> {
    /// Changes the limits, at once.
    ///
    /// If there are too many connections, idle ones are closed now and those in use when they are released. None is
    /// handed over or opened until the pool is within its limits. If there may be more, they are opened for waiters and
    /// for the warm minimum.
    ///
    /// ```
    /// # use cenote_pool::{InvalidConfig, Limits, Manager, Pool};
    /// # fn example<M: Manager>(pool: Pool<M>) -> Result<(), InvalidConfig> {
    /// pool.resize(Limits { max_size: 20, ..pool.limits() })
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The limits contradict each other. Nothing changes then.
    pub fn resize(&self, limits: Limits) -> Result<(), InvalidConfig> {
        self.inner.resize(limits)
    }

    /// Stops handing out and opening connections, for example to restart the server.
    ///
    /// The pause begins with the call, not with the first poll. Callers still join the queue and wait until their own
    /// deadlines; [`try_get`](Self::try_get) returns `None`. The future completes when no connection is in use, being
    /// cleaned or being closed, or when the pause ends. [`resume`](Self::resume) ends it; so does
    /// [`drain`](Self::drain), which serves the waiters, and [`close`](Self::close), which refuses them.
    ///
    /// # Cancel safety
    ///
    /// The pause stays when the future is dropped. Calling again waits for the same state.
    pub fn pause(&self) -> impl Future<Output = ()> + Send + '_ {
        self.inner.core().pause();
        self.inner.until(|core| core.is_quiesced() || !core.is_paused())
    }

    /// Ends a [`pause`](Self::pause). Idle connections go to the waiters, in their order, and connects begin for the
    /// others.
    pub fn resume(&self) {
        self.inner.resume();
    }

    /// Calls [`Manager::inspect`] for every idle connection, and cleans or closes those that are not clean.
    ///
    /// The pool does so by itself about every second. Call it when something has changed that connections depend on,
    /// such as which server to use. Only one connection at a time is inspected. During its inspection
    /// [`try_get`](Self::try_get) does not find it, and afterwards it goes to the first waiter, if there is one.
    ///
    /// # Panics
    ///
    /// If `inspect` panics. That connection is closed then.
    pub fn inspect_idle(&self) {
        self.inner.inspect_idle();
    }

    /// Closes the idle connections for which `keep` returns false, and returns how many. Those in use are left alone.
    ///
    /// As in [`inspect_idle`](Self::inspect_idle), one connection at a time is looked at. `keep` must be fast and must not use
    /// the pool.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use cenote_pool::{Manager, Pool};
    /// # fn example<M: Manager>(pool: &Pool<M>) {
    /// let closed = pool.retain(|_connection, info| info.age < Duration::from_secs(600));
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If `keep` panics. That connection is closed then.
    pub fn retain(&self, keep: impl FnMut(&mut M::Connection, ConnectionInfo) -> bool) -> usize {
        self.inner.retain(keep)
    }

    /// Replaces every connection that exists now: idle ones are closed at once, those in use when they are released, and those
    /// being opened once they are open. New ones are opened for waiters and for the warm minimum.
    ///
    /// Call it when connections should be opened anew, for example after the credentials have changed. No caller gets an
    /// error by it.
    pub fn replace_all(&self) {
        self.inner.replace_all();
    }

    /// Waits until `min_size` connections are open, for at most `connect_timeout`.
    ///
    /// # Errors
    ///
    /// * [`Reason::Timeout`] if fewer are open by then, with the last connect error in the snapshot.
    /// * [`Reason::Permanent`] at once if connects fail permanently.
    /// * [`Reason::Closed`] at once if the pool is draining or closed.
    ///
    /// After an error the pool goes on connecting.
    ///
    /// # Cancel safety
    ///
    /// Safe: the pool connects in any case, this only waits for it.
    pub async fn warm_up(&self) -> Result<(), AcquireError<M::Error>> {
        self.warm_up_within(self.inner.config.connect_timeout).await
    }

    /// Like [`warm_up`](Self::warm_up), with another limit.
    ///
    /// # Errors
    ///
    /// As [`warm_up`](Self::warm_up).
    ///
    /// # Cancel safety
    ///
    /// As [`warm_up`](Self::warm_up).
    pub async fn warm_up_within(&self, limit: Duration) -> Result<(), AcquireError<M::Error>> {
        let is_decided = |core: &Core<M>| core.is_warm() || !core.is_open() || core.fails_permanently();
        let decided = self.inner.until(is_decided);
        let reason = match timeout(limit, decided).await {
            Ok(()) if !self.inner.core().is_open() => Reason::Closed,
            Ok(()) => match self.permanent_error() {
                Some(error) => return Err(error),
                None => return Ok(()),
            },
            Err(_) => Reason::Timeout {
                phase: Phase::Connecting,
                waited: limit,
            },
        };
        Err(AcquireError::new(reason, None, snapshot(&self.inner)))
    }

    /// The error of refused callers while connects fail permanently.
    fn permanent_error(&self) -> Option<AcquireError<M::Error>> {
        let failure = {
            let core = self.inner.core();
            core.last_error().filter(|_| core.fails_permanently())?
        };
        Some(permanent(&self.inner, failure))
    }

    /// Refuses new callers, serves the waiters, and completes when every connection has been released and closed.
    ///
    /// # Cancel safety
    ///
    /// The drain goes on when the future is dropped. Calling again waits for its end.
    pub async fn drain(&self) {
        self.inner.shut(true).await;
    }

    /// Like [`drain`](Self::drain), and like [`close`](Self::close) once this time is over. It does not wait for what is in
    /// use then: that is closed when it is released. Returns whether every connection was released and closed in time.
    ///
    /// # Cancel safety
    ///
    /// The drain goes on when the future is dropped.
    pub async fn drain_within(&self, limit: Duration) -> bool {
        let drained = timeout(limit, self.drain()).await.is_ok();
        if !drained {
            // The call refuses the waiters, and nobody waits for its end.
            let _closing = timeout(Duration::ZERO, self.close()).await;
        }
        drained
    }

    /// Like [`drain`](Self::drain), but refuses the waiters too.
    ///
    /// # Cancel safety
    ///
    /// As [`drain`](Self::drain).
    pub async fn close(&self) {
        self.inner.shut(false).await;
    }
}
