//! The handle of a pool. Invariant: all clones are equal; none owns more of the pool than another.

use std::{fmt, panic::Location, sync::Arc, time::Duration};

use crate::{
    AcquireError, Config, ConnectError, ConnectionInfo, Holder, Hooks, InvalidConfig, Limits, Manager, OwnedPooled,
    Pooled, Stats,
    acquire::{acquire, handed, take},
    caller::{Caller, RuntimeIndex},
    counters::Counters,
    inner::PoolInner,
    pooled::PoolRef,
    shim::Handle,
};

/// A pool of connections. A clone is another handle to the same pool.
///
/// When the last handle and the last connection in use are dropped, idle connections are dropped without waiting for their close.
/// [`close`](Self::close) closes them in good order.
pub struct Pool<M: Manager> {
    pub(crate) inner: Arc<PoolInner<M>>,
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

    /// Like [`new`](Self::new), with functions that run at the turns of a connection's life.
    ///
    /// # Errors
    ///
    /// The configuration contradicts itself.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    pub fn with_hooks(manager: M, config: Config, hooks: Hooks<M>) -> Result<Self, InvalidConfig> {
        Self::with_hooks_on(manager, config, hooks, vec![Handle::current()])
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
        Self::with_hooks_on(manager, config, Hooks::new(), runtimes)
    }

    /// Like [`on_runtimes`](Self::on_runtimes), with [hooks](Hooks).
    ///
    /// # Errors
    ///
    /// As [`on_runtimes`](Self::on_runtimes).
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    pub fn with_hooks_on(
        manager: M,
        config: Config,
        hooks: Hooks<M>,
        runtimes: Vec<Handle>,
    ) -> Result<Self, InvalidConfig> {
        config.validate()?;
        if runtimes.is_empty() {
            return Err(InvalidConfig("a pool needs at least one runtime"));
        }
        let inner = PoolInner::start(manager, config, hooks, runtimes);
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
    /// The [`Reason`](crate::Reason) in the error says which: the wait timed out, too many callers wait, connects fail, or the pool is
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
        self.get_owned_at(Location::caller())
    }

    /// Like [`get_owned`](Self::get_owned), for code that acquires on behalf of another: this line, instead of its own, is shown
    /// as the holder.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    pub fn get_owned_at(
        &self,
        holder: &'static Location<'static>,
    ) -> impl Future<Output = Result<OwnedPooled<M>, AcquireError<M::Error>>> + Send + use<M> {
        let limit = self.inner.config.acquire_timeout;
        let caller = self.caller(holder);
        acquire(PoolRef::Owned(self.inner.clone()), limit, caller)
    }

    /// Takes an idle connection without waiting and without a [check](Manager::check). `None` if none is idle, and while the
    /// hook [`before_acquire`](Hooks::before_acquire) is set, because that may wait.
    #[track_caller]
    pub fn try_get(&self) -> Option<Pooled<'_, M>> {
        if self.inner.hooks.before_acquire.is_some() {
            return None;
        }
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
        self.inner.core().connections(most, now)
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
