//! What the pool does on its own: connecting, cleaning, closing, keeping house.
//!
//! Invariant: whoever holds a slot outside the state machine is a value whose `Drop` gives the slot
//! on, so a task that panics or is dropped by its runtime loses nothing.

use std::{
    sync::{Arc, PoisonError, Weak},
    task::Waker,
    time::Duration,
};

use tokio::sync::Notify;

use crate::{
    Condition, Config, ConnectError, Manager,
    runtime::{Handle, Instant, Mutex, MutexGuard, sleep_until, timeout},
    slots::{Live, Settled, SlotId, Slots},
    stats::Retired,
};

pub(crate) type Failure<M> = Arc<ConnectError<<M as Manager>::Error>>;
pub(crate) type Core<M> = Slots<<M as Manager>::Connection, Waker, Failure<M>>;

/// What all handles, guards and tasks of one pool share.
pub struct Shared<M: Manager> {
    pub(crate) manager: M,
    pub(crate) config: Config,
    /// The only lock. Held for a few dozen nanoseconds on the way of a connection, for a walk along
    /// the line when someone's time has run out; never across an await, and nothing foreign runs
    /// under it.
    core: Mutex<Core<M>>,
    runtime: Handle,
    pub(crate) built: Instant,
    /// Wakes the housekeeper when there is something to do before its next round.
    pub(crate) poke: Arc<Notify>,
    /// Tells those who wait for the end that the last slot is free.
    pub(crate) over: Notify,
}

impl<M: Manager> Shared<M> {
    pub(crate) fn start(manager: M, config: Config, runtime: Handle) -> Arc<Self> {
        let shared = Arc::new(Self {
            core: Mutex::new(Slots::new(config.clone())),
            manager,
            runtime,
            built: Instant::now(),
            poke: Arc::new(Notify::new()),
            over: Notify::new(),
            config,
        });
        shared.connect_what_is_due();
        let keeper = keep_house(Arc::downgrade(&shared), shared.poke.clone());
        shared.runtime.spawn(keeper);
        shared
    }

    pub(crate) fn core(&self) -> MutexGuard<'_, Core<M>> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time since the pool was built.
    pub(crate) fn now(&self) -> Duration {
        self.built.elapsed()
    }

    /// Takes back a connection from a caller, in whatever state it is.
    pub(crate) fn give_back(self: &Arc<Self>, live: Live<M::Connection>) {
        if let Some(live) = self.sort_out(live) {
            self.settle(live);
        }
    }

    /// Gives a connection back if it is clean; if not, it is dealt with.
    #[inline]
    pub(crate) fn sort_out(
        self: &Arc<Self>,
        live: Live<M::Connection>,
    ) -> Option<Live<M::Connection>> {
        let mut inspected = Inspected {
            shared: self,
            live: Some(live),
        };
        let live = inspected.live.as_mut()?;
        let condition = self.manager.inspect(&mut live.connection);
        let live = inspected.live.take()?;
        match condition {
            Condition::Clean => return Some(live),
            Condition::Dirty => self.clean(live),
            Condition::Broken => self.retire(live, Retired::Broken),
        }
        None
    }

    /// Puts a clean connection where it belongs.
    fn settle(self: &Arc<Self>, live: Live<M::Connection>) {
        let settled = self.core().settle(live);
        self.follow(settled);
    }

    fn follow(self: &Arc<Self>, settled: Settled<M::Connection, Waker>) {
        match settled {
            Settled::Idle => {}
            Settled::Handed(waker) => waker.wake(),
            Settled::Retired(live) => self.close(live),
        }
    }

    pub(crate) fn clean(self: &Arc<Self>, live: Live<M::Connection>) {
        self.core().start_cleaning(live.slot);
        let mut cleaning = Cleaning {
            shared: self.clone(),
            live: Some(live),
        };
        self.runtime.spawn(async move {
            let Some(live) = &mut cleaning.live else {
                return;
            };
            let shared = cleaning.shared.clone();
            let cleaned = shared.manager.clean(&mut live.connection);
            let cleaned = timeout(shared.config.clean_timeout, cleaned).await;
            if matches!(cleaned, Ok(Ok(())))
                && shared.manager.inspect(&mut live.connection) == Condition::Clean
                && let Some(live) = cleaning.live.take()
            {
                shared.settle(live);
            }
        });
    }

    /// The one way in which an open connection ends.
    pub(crate) fn retire(self: &Arc<Self>, live: Live<M::Connection>, reason: Retired) {
        self.core().retire(live.slot, reason);
        self.close(live);
    }

    fn close(self: &Arc<Self>, live: Live<M::Connection>) {
        let closing = Closing {
            shared: self.clone(),
            slot: live.slot,
        };
        self.runtime.spawn(async move {
            let shared = &closing.shared;
            let closed = shared.manager.close(live.connection);
            if timeout(shared.config.close_timeout, closed).await.is_err() {
                tracing::debug!("a connection's close was not confirmed in time");
            }
        });
        self.connect_what_is_due();
    }

    pub(crate) fn connect_what_is_due(self: &Arc<Self>) {
        let due = self.core().connects_due();
        self.connect(due);
    }

    pub(crate) fn connect(self: &Arc<Self>, slots: Vec<SlotId>) {
        for slot in slots {
            let connecting = Connecting {
                shared: self.clone(),
                slot: Some(slot),
            };
            self.runtime.spawn(connecting.run());
        }
    }

    /// Ends the pool; completes when every connection is closed.
    pub(crate) async fn shut(self: &Arc<Self>, serve_waiters: bool) {
        let over = self.over.notified();
        let mut over = std::pin::pin!(over);
        over.as_mut().enable();
        let (idle, wakers) = self.core().shut(serve_waiters);
        wakers.into_iter().for_each(Waker::wake);
        for live in idle {
            self.close(live);
        }
        self.poke.notify_one();
        // Also tells an earlier call, whose line this one may have emptied.
        let is_over = self.core().is_over();
        match is_over {
            true => self.over.notify_waiters(),
            false => over.await,
        }
    }

    /// A tenth of the lifetime is random, so that connections opened together end apart.
    fn lifetime(&self) -> Option<Duration> {
        let jitter = 0.9 + 0.1 * fastrand::f64();
        self.config.max_lifetime.map(|limit| limit.mul_f64(jitter))
    }
}

/// A slot whose connect is under way.
struct Connecting<M: Manager> {
    shared: Arc<Shared<M>>,
    slot: Option<SlotId>,
}

impl<M: Manager> Connecting<M> {
    async fn run(mut self) {
        let shared = self.shared.clone();
        let started = Instant::now();
        let limit = shared.config.connect_timeout;
        let connected = match timeout(limit, shared.manager.connect()).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(ConnectError::Failed(error)),
            Err(_) => Err(ConnectError::TimedOut(limit)),
        };
        let connection = match connected {
            Ok(connection) => connection,
            Err(error) => return self.fail(error),
        };
        let Some(slot) = self.slot.take() else { return };
        let (took, lifetime, now) = (started.elapsed(), shared.lifetime(), shared.now());
        let (settled, healed) = shared
            .core()
            .connected(slot, connection, took, lifetime, now);
        if healed.is_some() {
            tracing::info!("connecting works again");
        }
        shared.follow(settled);
        shared.connect_what_is_due();
    }

    fn fail(&mut self, error: ConnectError<M::Error>) {
        let Some(slot) = self.slot.take() else { return };
        let (shared, error) = (&self.shared, Arc::new(error));
        let (jitter, now) = (fastrand::f64(), shared.now());
        let (previous, over) = {
            let mut core = shared.core();
            let previous = core.connect_failed(slot, error.clone(), jitter, now);
            (previous, core.is_over())
        };
        // Once per outage, not once per attempt.
        if previous.is_none() {
            tracing::warn!(%error, "connecting failed; trying again until it works");
        }
        match over {
            true => shared.over.notify_waiters(),
            false => shared.poke.notify_one(),
        }
    }
}

impl<M: Manager> Drop for Connecting<M> {
    fn drop(&mut self) {
        self.fail(ConnectError::Aborted);
    }
}

/// A connection under inspection. Dropped with the connection still inside, which is when the manager panics, it is
/// closed.
struct Inspected<'a, M: Manager> {
    shared: &'a Arc<Shared<M>>,
    live: Option<Live<M::Connection>>,
}

impl<M: Manager> Drop for Inspected<'_, M> {
    fn drop(&mut self) {
        if let Some(live) = self.live.take() {
            self.shared.retire(live, Retired::Broken);
        }
    }
}

/// A connection with the cleaner. Dropped with the connection still inside, it is closed.
struct Cleaning<M: Manager> {
    shared: Arc<Shared<M>>,
    live: Option<Live<M::Connection>>,
}

impl<M: Manager> Drop for Cleaning<M> {
    fn drop(&mut self) {
        if let Some(live) = self.live.take() {
            self.shared.retire(live, Retired::Broken);
        }
    }
}

/// A slot whose connection is being closed; dropping it frees the slot.
struct Closing<M: Manager> {
    shared: Arc<Shared<M>>,
    slot: SlotId,
}

impl<M: Manager> Drop for Closing<M> {
    fn drop(&mut self) {
        if self.shared.core().free(self.slot) {
            self.shared.over.notify_waiters();
        }
        self.shared.connect_what_is_due();
    }
}

/// Moves the core's coarse clock, ends connections and sends callers away that had their time, keeps
/// the warm minimum and tries again after a failed connect. Ends with the pool.
///
/// One timer for all callers in line: arming one for each costs more than the rest of a hand-over.
async fn keep_house<M: Manager>(pool: Weak<Shared<M>>, poke: Arc<Notify>) {
    loop {
        let wake_at = {
            let Some(shared) = pool.upgrade() else { return };
            let now = shared.now();
            let (expired, late) = {
                let mut core = shared.core();
                (core.tick(now), core.expire(now))
            };
            late.into_iter().for_each(Waker::wake);
            for live in expired {
                shared.close(live);
            }
            shared.connect_what_is_due();
            let mut core = shared.core();
            if core.is_over() {
                drop(core);
                shared.over.notify_waiters();
                return;
            }
            shared.built + core.schedule(now + period(&shared.config))
        };
        tokio::select! {
            biased;
            () = sleep_until(wake_at) => {}
            () = poke.notified() => {}
        }
    }
}

/// Lifetimes are kept to within a tenth, but at least every second and at most every 10 ms.
fn period(config: &Config) -> Duration {
    let shortest = [config.max_lifetime, config.idle_timeout, config.check_after];
    let shortest = shortest.into_iter().flatten().min();
    (shortest.unwrap_or(Duration::MAX) / 10)
        .clamp(Duration::from_millis(10), Duration::from_secs(1))
}
