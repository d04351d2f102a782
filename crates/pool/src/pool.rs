//! The handle of a pool. Invariant: all clones are equal; none owns more of the pool than another.

use std::{fmt, panic::Location, sync::Arc, time::Duration};

use crate::{
    AcquireError, Config, ConnectError, ConnectionInfo, Holder, InvalidConfig, Limits, Manager, OwnedPooled, Phase,
    Pooled, Reason, Stats,
    acquire::{acquire, handed, permanent, snapshot, take},
    caller::{Caller, RuntimeIndex},
    counters::Counters,
    inner::{Core, PoolInner},
    pooled::PoolRef,
    shim::{Handle, timeout},
};

/// A pool of connections. A clone is another handle to the same pool.
///
/// When the last handle and the last connection in use are dropped, idle connections are dropped without waiting for their close.
/// [`close`](Self::close) closes them in good order.
pub struct Pool<M: Manager> {
    inner: Arc<PoolInner<M>>,
    /// The runtime whose connections callers of this handle prefer.
    runtime: RuntimeIndex,
}

impl<M: Manager> Pool<M> {
    /// Builds a pool and starts opening `min_size` connections in the background.
    ///
    /// All tasks of the pool run on the current tokio runtime.
    ///
    /// # Errors
    ///
    /// The configuration contradicts itself.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, or in one without timers.
    pub fn new(manager: M, config: Config) -> Result<Self, InvalidConfig> {
        Self::on_runtimes(manager, config, vec![Handle::current()])
    }

    /// Like [`new`](Self::new), but opens connections on these runtimes in turn. A connection stays on the runtime that
    /// opened it, so a caller there need not wait for another thread to wake.
    ///
    /// It is one pool: its limits hold for all runtimes together, and a caller takes an idle connection of any runtime.
    /// Callers through the handles of [`per_runtime`](Self::per_runtime) take one of their own runtime first. If they
    /// often find none, the pool opens one there, as long as there are fewer than `max_size`.
    ///
    /// # Errors
    ///
    /// The configuration contradicts itself, or `runtimes` is empty.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    pub fn on_runtimes(manager: M, config: Config, runtimes: Vec<Handle>) -> Result<Self, InvalidConfig> {
        config.validate()?;
        if runtimes.is_empty() {
            return Err(InvalidConfig("on_runtimes needs at least one runtime"));
        }
        let inner = PoolInner::start(manager, config, runtimes);
        Ok(Self { inner, runtime: 0 })
    }

    /// Returns one handle for each runtime of [`on_runtimes`](Self::on_runtimes), in their order. Callers of a handle
    /// prefer connections of its runtime.
    pub fn per_runtime(&self) -> impl Iterator<Item = Self> + '_ {
        (0..self.inner.runtime_count()).map(|runtime| Self {
            inner: self.inner.clone(),
            runtime,
        })
    }

    /// Acquires a connection, waiting for at most `acquire_timeout`.
    ///
    /// # Errors
    ///
    /// The [`Reason`] in the error says which: the wait timed out, too many callers wait, connects fail, or the pool is
    /// closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue. A connection that was handed over in the same moment goes to the next
    /// waiter.
    #[track_caller]
    pub fn get(&self) -> impl Future<Output = Result<Pooled<'_, M>, AcquireError<M::Error>>> + Send {
        self.get_within(self.inner.config.acquire_timeout)
    }

    /// Like [`get`](Self::get), with another limit for the wait. With zero it takes an idle connection or fails.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    #[track_caller]
    pub fn get_within(
        &self,
        limit: Duration,
    ) -> impl Future<Output = Result<Pooled<'_, M>, AcquireError<M::Error>>> + Send {
        self.get_at(Location::caller(), limit)
    }

    /// Like [`get_within`](Self::get_within), for code that acquires on behalf of another: this line, instead of its own, is
    /// shown as the holder.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    pub fn get_at(
        &self,
        holder: &'static Location<'static>,
        limit: Duration,
    ) -> impl Future<Output = Result<Pooled<'_, M>, AcquireError<M::Error>>> + Send {
        acquire(PoolRef::Borrowed(&self.inner), limit, self.caller(holder))
    }

    /// Like [`get`](Self::get), with a connection that does not borrow this handle.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    #[track_caller]
    pub fn get_owned(&self) -> impl Future<Output = Result<OwnedPooled<M>, AcquireError<M::Error>>> + Send + use<M> {
        let limit = self.inner.config.acquire_timeout;
        let caller = self.caller(Location::caller());
        acquire(PoolRef::Owned(self.inner.clone()), limit, caller)
    }

    /// Takes an idle connection without waiting and without a [check](Manager::check). `None` if none is idle.
    #[track_caller]
    pub fn try_get(&self) -> Option<Pooled<'_, M>> {
        let caller = self.caller(Location::caller());
        let (live, _) = take(&self.inner, caller)?;
        Some(handed(PoolRef::Borrowed(&self.inner), live, caller, Duration::ZERO))
    }

    fn caller(&self, at: &'static Location<'static>) -> Caller {
        Caller::new(at, self.runtime)
    }

    /// Returns the statistics of this moment.
    pub fn stats(&self) -> Stats {
        let now = self.inner.now();
        let mut counters = Counters::default();
        let core = self.inner.core();
        counters.copy_from(core.counters());
        let (occupancy, limits) = (core.occupancy(), core.config().limits());
        let min_size = core.config().warm();
        let shedding = core.is_shedding(now);
        let (failures, breaker_open) = (core.failures(), core.breaker_is_open());
        let (open, paused) = (core.is_open(), core.is_paused());
        let (longest_wait, leaked) = (core.longest_wait(now), core.leaked(now));
        drop(core);

        let totals = counters.totals;
        let mut waiting_times = counters.waiting_times;
        waiting_times.record_many(Duration::ZERO, totals.acquired_at_once);
        Stats {
            min_size,
            max_size: limits.max_size,
            max_overflow: limits.max_overflow,
            idle: occupancy.idle,
            in_use: occupancy.in_use,
            connecting: occupancy.connecting,
            cleaning: occupancy.cleaning,
            closing: occupancy.closing,
            waiting: occupancy.waiting,
            longest_wait,
            leaked,
            open,
            paused,
            acquired: waiting_times.count() + counters.connecting_times.count(),
            waited: totals.waited,
            timeouts: totals.timeouts,
            refused: totals.refused,
            refused_unavailable: totals.refused_unavailable,
            refused_closed: totals.refused_closed,
            shed: totals.shed,
            shedding,
            nested_waits: totals.nested_waits,
            connects: counters.connect_times.count(),
            connect_failures: totals.connect_failures,
            breaker_open,
            connect_failures_in_a_row: failures,
            cleaned: totals.cleaned,
            retired: totals.retired,
            waiting_times,
            connecting_times: counters.connecting_times,
            connect_times: counters.connect_times,
            use_times: counters.use_times,
        }
    }

    /// Returns everyone who holds a connection now.
    pub fn holders(&self) -> Vec<Holder> {
        let now = self.inner.now();
        self.inner.core().holders(now).collect()
    }

    /// Returns at most this number of connections, in the order of their slots.
    pub fn connections(&self, most: usize) -> Vec<ConnectionInfo> {
        let now = self.inner.now();
        self.inner.core().connections(now).take(most).collect()
    }

    /// Returns why the last connect failed. `None` if it succeeded.
    pub fn last_connect_error(&self) -> Option<Arc<ConnectError<M::Error>>> {
        self.inner.core().last_error()
    }

    /// Returns the manager.
    pub fn manager(&self) -> &M {
        &self.inner.manager
    }

    /// Returns the configuration, with the current [limits](Self::limits).
    pub fn config(&self) -> Config {
        self.inner.core().config().clone()
    }

    /// Returns the current limits.
    pub fn limits(&self) -> Limits {
        self.inner.core().config().limits()
    }

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
    pub fn sweep(&self) {
        self.inner.sweep();
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

impl<M: Manager> Clone for Pool<M> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            runtime: self.runtime,
        }
    }
}

impl<M: Manager> fmt::Debug for Pool<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let occupancy = self.inner.core().occupancy();
        f.debug_tuple("Pool").field(&occupancy).finish()
    }
}
