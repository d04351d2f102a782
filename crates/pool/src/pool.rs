//! The handle. Invariant: it holds nothing but its share of the pool, so every clone is as good as
//! any other.

use std::{fmt, panic::Location, sync::Arc, time::Duration};

use crate::{
    AcquireError, Config, ConnectError, Holder, InvalidConfig, Limits, Manager, OwnedPooled, Phase, Pooled, Reason,
    Stats,
    acquire::{acquire, permanent, snapshot, take},
    caller::{Caller, RuntimeIndex},
    counters::Counters,
    guard::Guard,
    inner::{Core, PoolInner},
    shim::{Handle, timeout},
};

/// A pool of connections. Cloning it gives another handle to the same pool.
///
/// When the last handle and the last guard are gone, idle connections are dropped without waiting;
/// [`close`](Self::close) ends them in good order.
pub struct Pool<M: Manager> {
    inner: Arc<PoolInner<M>>,
    /// Whose connections are preferred.
    runtime: RuntimeIndex,
}

impl<M: Manager> Pool<M> {
    /// Builds a pool and starts opening `min_size` connections in the background, on the current
    /// tokio runtime, where all connects and closes of this pool will run.
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

    /// As [`new`](Self::new), but connections are opened on these runtimes in turn, and live there: what wakes their
    /// tasks, and whoever waits for them there, need not cross from one thread to another.
    ///
    /// The pool stays one: its limits are for all of it, and a caller takes what is idle, wherever it is. Callers
    /// through the handles that [`runtimes`](Self::per_runtime) gives take one of their own runtime first. Where they often find
    /// none, the housekeeper has one opened, as long as there are fewer than `max_size`.
    ///
    /// # Errors
    ///
    /// The configuration contradicts itself, or there is no runtime.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    pub fn on_runtimes(manager: M, config: Config, runtimes: Vec<Handle>) -> Result<Self, InvalidConfig> {
        config.validate()?;
        if runtimes.is_empty() {
            return Err(InvalidConfig("connections need a runtime to live on"));
        }
        let inner = PoolInner::start(manager, config, runtimes);
        Ok(Self { inner, runtime: 0 })
    }

    /// A handle for each runtime that connections live on, in their order, for those who call from there.
    pub fn per_runtime(&self) -> impl Iterator<Item = Self> + '_ {
        (0..self.inner.runtime_count()).map(|runtime| Self {
            inner: self.inner.clone(),
            runtime,
        })
    }

    /// Takes a connection, waiting in line for at most `acquire_timeout`.
    ///
    /// # Errors
    ///
    /// The time ran out or would do so in line, too many callers are waiting, the server has been out of reach for a
    /// while, or the pool is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the line; a connection handed over in that moment goes to the
    /// next in line.
    #[track_caller]
    pub fn get(&self) -> impl Future<Output = Result<Pooled<'_, M>, AcquireError<M::Error>>> + Send {
        self.get_within(self.inner.config.acquire_timeout)
    }

    /// The same with another bound on the wait.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    #[track_caller]
    pub fn get_within(
        &self,
        limit: Duration,
    ) -> impl Future<Output = Result<Pooled<'_, M>, AcquireError<M::Error>>> + Send {
        acquire(&self.inner, limit, self.caller(Location::caller()))
    }

    /// As [`get`](Self::get), with a guard that does not borrow from this handle.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    #[track_caller]
    pub fn get_owned(&self) -> impl Future<Output = Result<OwnedPooled<M>, AcquireError<M::Error>>> + Send + use<M> {
        let limit = self.inner.config.acquire_timeout;
        let caller = self.caller(Location::caller());
        acquire(self.inner.clone(), limit, caller)
    }

    /// Takes a connection if one is idle, without waiting.
    #[track_caller]
    pub fn try_get(&self) -> Option<Pooled<'_, M>> {
        let (live, _) = take(&self.inner, self.caller(Location::caller()))?;
        Some(Guard::new(&self.inner, live))
    }

    fn caller(&self, at: &'static Location<'static>) -> Caller {
        Caller::new(at, self.runtime)
    }

    /// What the pool has done and is doing.
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
            timeouts: totals.timeouts,
            refused: totals.refused,
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
        }
    }

    /// Who has a connection now, and since when.
    pub fn holders(&self) -> Vec<Holder> {
        let now = self.inner.now();
        self.inner.core().holders(now).collect()
    }

    /// Why the most recent connect failed, if none has succeeded since.
    pub fn last_connect_error(&self) -> Option<Arc<ConnectError<M::Error>>> {
        self.inner.core().last_error()
    }

    /// The pool's manager.
    pub fn manager(&self) -> &M {
        &self.inner.manager
    }

    /// The pool's configuration, with the [limits](Self::limits) of now.
    pub fn config(&self) -> Config {
        self.inner.core().config().clone()
    }

    /// How many connections the pool may have now.
    pub fn limits(&self) -> Limits {
        self.inner.core().config().limits()
    }

    /// Changes how many connections the pool may have, at once and for good.
    ///
    /// Where there are too many, idle ones are closed now and those in use when they come back;
    /// none is handed over or opened before the pool is down to its limits. Where there may be
    /// more, they are opened for those in line and for the warm minimum.
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
    /// The limits contradict each other. Nothing is changed then.
    pub fn resize(&self, limits: Limits) -> Result<(), InvalidConfig> {
        self.inner.resize(limits)
    }

    /// Stops handing out connections, for as long as it takes to move or restart the server.
    ///
    /// Takes effect with the call: callers may join the line and those in it stay, all of them at
    /// most until their own deadlines; [`try_get`](Self::try_get) finds nothing; nothing is
    /// connected. The future completes when no connection is in use, being cleaned or being closed,
    /// or when the pause is over. [`resume`](Self::resume) ends it, and so do
    /// [`drain`](Self::drain), which then serves the line, and [`close`](Self::close).
    ///
    /// # Cancel safety
    ///
    /// The pause stays when the future is dropped; calling again waits for the same.
    pub fn pause(&self) -> impl Future<Output = ()> + Send + '_ {
        self.inner.core().pause();
        self.inner.until(|core| core.is_quiesced() || !core.is_paused())
    }

    /// Ends a [`pause`](Self::pause): idle connections go to those in line, in their order, and
    /// for the rest of them connects begin.
    pub fn resume(&self) {
        self.inner.resume();
    }

    /// Asks [`Manager::inspect`] of every idle connection now, and has those cleaned or closed that
    /// are not clean. The pool does so by itself about every second; call it when something is
    /// known to have changed, such as which server is to be used, and the rest of the pool is to
    /// stay as it is.
    ///
    /// One connection at a time is looked at, and no caller in line is passed over for it. In that
    /// moment [`try_get`](Self::try_get) does not find it.
    ///
    /// # Panics
    ///
    /// If the manager does; the connection it was looking at is closed then.
    pub fn sweep(&self) {
        self.inner.sweep();
    }

    /// Completes when the warm minimum of `min_size` connections is open, or after
    /// `connect_timeout`.
    ///
    /// # Errors
    ///
    /// [`Reason::Timeout`] if there are fewer by then, with the last
    /// connect error in the snapshot; at once [`Reason::Permanent`] if connecting
    /// fails for good, and [`Reason::Closed`] if the pool
    /// is draining or closed. Connecting goes on after an error.
    ///
    /// # Cancel safety
    ///
    /// Safe: the pool connects in any case, this only waits for it.
    pub async fn warm_up(&self) -> Result<(), AcquireError<M::Error>> {
        self.warm_up_within(self.inner.config.connect_timeout).await
    }

    /// As [`warm_up`](Self::warm_up), with another limit.
    ///
    /// # Errors
    ///
    /// As [`warm_up`](Self::warm_up).
    pub async fn warm_up_within(&self, limit: Duration) -> Result<(), AcquireError<M::Error>> {
        let released = |core: &Core<M>| core.is_warm() || !core.is_open() || core.fails_permanently();
        let warm = self.inner.until(released);
        let reason = match timeout(limit, warm).await {
            Ok(()) if !self.inner.core().is_open() => Reason::Closed,
            Ok(()) => match self.refusal() {
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

    /// The error that callers are refused with while connecting fails for good.
    fn refusal(&self) -> Option<AcquireError<M::Error>> {
        let failure = {
            let core = self.inner.core();
            core.last_error().filter(|_| core.fails_permanently())?
        };
        Some(permanent(&self.inner, failure))
    }

    /// Refuses newcomers, serves whoever is in line, and completes when every connection has come
    /// back and is closed.
    ///
    /// # Cancel safety
    ///
    /// The drain goes on when the future is dropped; calling again waits for its end.
    pub async fn drain(&self) {
        self.inner.shut(true).await;
    }

    /// As [`drain`](Self::drain), but refuses those in line too.
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
