//! What all parts of a pool share, and the tasks it starts: connecting, cleaning, closing.
//!
//! Invariant: whoever holds a slot outside the state machine is a value whose `Drop` gives the slot
//! on, so a task that panics or is dropped by its runtime loses nothing.

use std::{
    ops::{Deref, DerefMut},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::sync::{Notify, oneshot};

use crate::{
    Condition, Config, ConnectError, InvalidConfig, Limits, Manager,
    house::{House, vigil},
    outage,
    runtime::{AtomicU8, Handle, Instant, Mutex, MutexGuard, timeout},
    slots::{Live, Settled, SlotId, Slots},
    stats::Retired,
};

pub(crate) type Failure<M> = Arc<ConnectError<<M as Manager>::Error>>;
pub(crate) type Seat<M> = oneshot::Sender<Delivery<M>>;
pub(crate) type Core<M> = Slots<<M as Manager>::Connection, Seat<M>, Failure<M>>;

/// What a caller in line is given.
pub(crate) enum Delivery<M: Manager> {
    Connection(Live<M::Connection>),
    /// The pool was closed.
    Closed,
    /// Its time ran out.
    Late,
    /// It gave way so that the others wait less.
    Shed,
    /// Connecting fails for a reason that time does not cure.
    InVain(Failure<M>),
}

/// What all handles, guards and tasks of one pool share.
pub struct Shared<M: Manager> {
    pub(crate) manager: M,
    /// As it was at the start; the limits of now are the core's.
    pub(crate) config: Config,
    /// The lock that callers take. Held for a few dozen nanoseconds on the way of a connection, for a walk along
    /// the line when someone's time has run out; never across an await, and nothing foreign runs
    /// under it.
    core: Mutex<Core<M>>,
    hints: Hints,
    /// Where the pool's own work is done, and where connections live. Held for moments, and seldom.
    pub(crate) house: Mutex<House>,
    pub(crate) built: Instant,
    /// Wakes the housekeeper when there is something to do before its next round.
    pub(crate) poke: Arc<Notify>,
    /// Tells those who [wait](Self::until) for the pool to come to some state to look again.
    pub(crate) milestone: Notify,
}

/// How it was when the lock was last let go of, in bits. What it says may be over, so nothing but speed depends on it.
#[derive(Default)]
struct Hints(AtomicU8);

/// Joining the line will tell the same, so there is no need to look first.
const NOTHING_IDLE: u8 = 1;
/// Whoever brings a connection back should say at what time. If nobody waited, anyone who does by the time the lock is
/// taken has joined just now, and told the time.
const SOMEONE_WAITS: u8 = 2;

impl Hints {
    fn say(&self, hint: u8) -> bool {
        self.0.load(Relaxed) & hint != 0
    }

    /// Writes only what has changed, so that those who read it on other cores need not fetch it anew each time.
    #[inline]
    fn renew(&self, nothing_idle: bool, someone_waits: bool) {
        let now = u8::from(nothing_idle) * NOTHING_IDLE + u8::from(someone_waits) * SOMEONE_WAITS;
        if self.0.load(Relaxed) != now {
            self.0.store(now, Relaxed);
        }
    }
}

/// The core, locked.
pub(crate) struct Locked<'a, M: Manager> {
    core: MutexGuard<'a, Core<M>>,
    hints: &'a Hints,
}

impl<M: Manager> Deref for Locked<'_, M> {
    type Target = Core<M>;
    fn deref(&self) -> &Core<M> {
        &self.core
    }
}

impl<M: Manager> DerefMut for Locked<'_, M> {
    fn deref_mut(&mut self) -> &mut Core<M> {
        &mut self.core
    }
}

impl<M: Manager> Drop for Locked<'_, M> {
    fn drop(&mut self) {
        let core = &self.core;
        self.hints.renew(core.nothing_idle(), core.someone_waits());
    }
}

impl<M: Manager> Shared<M> {
    pub(crate) fn start(manager: M, config: Config, homes: Vec<Handle>) -> Arc<Self> {
        let shared = Arc::new(Self {
            core: Mutex::new(Slots::new(config.clone(), homes.len())),
            hints: Hints::default(),
            manager,
            house: Mutex::new(House::new(homes)),
            built: Instant::now(),
            poke: Arc::new(Notify::new()),
            milestone: Notify::new(),
            config,
        });
        shared.move_in();
        shared.connect_what_is_due();
        shared
    }

    pub(crate) fn core(&self) -> Locked<'_, M> {
        Locked {
            core: self.core.lock().unwrap_or_else(PoisonError::into_inner),
            hints: &self.hints,
        }
    }

    /// Whether there was nothing to be taken a moment ago.
    pub(crate) fn nothing_idle(&self) -> bool {
        self.hints.say(NOTHING_IDLE)
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
    pub(crate) fn sort_out(self: &Arc<Self>, mut live: Live<M::Connection>) -> Option<Live<M::Connection>> {
        // Not a value with a `Drop`, which would move the connection twice more on the way of every caller.
        let inspect = AssertUnwindSafe(|| self.manager.inspect(&mut live.connection));
        let condition = match catch_unwind(inspect) {
            Ok(condition) => condition,
            Err(panic) => {
                self.retire(live, Retired::Broken);
                resume_unwind(panic)
            }
        };
        match condition {
            Condition::Clean | Condition::Unknown => {
                live.unknown = condition == Condition::Unknown;
                return Some(live);
            }
            Condition::Dirty => self.clean(live),
            Condition::Broken => self.retire(live, Retired::Broken),
        }
        None
    }

    /// Looks at every idle connection, and deals with those that are not clean. One at a time is
    /// away from the idle stack, so a caller finds the others or is handed that one.
    pub(crate) fn sweep(self: &Arc<Self>) {
        let idle = self.core().idle();
        for slot in idle {
            let lifted = self.core().lift(slot);
            if let Some(live) = lifted
                && let Some(live) = self.sort_out(live)
            {
                let now = self.now();
                let settled = self.core().put_back(live, now);
                self.follow(settled);
            }
        }
    }

    /// Puts a clean connection where it belongs.
    fn settle(self: &Arc<Self>, live: Live<M::Connection>) {
        let now = self.hints.say(SOMEONE_WAITS).then(|| self.now());
        let settled = self.core().settle(live, now);
        self.follow(settled);
    }

    #[inline(always)] // the usual case does nothing, and is not worth a call
    fn follow(self: &Arc<Self>, settled: Settled<M::Connection, Seat<M>>) {
        match settled {
            Settled::Idle { at_rest: false } => {}
            Settled::Idle { at_rest: true } => self.milestone.notify_waiters(),
            Settled::Handed { to, live, shed } => {
                self.hand_over(to, live);
                send_away(shed, || Delivery::Shed);
            }
            Settled::Retired(live) => self.close(live),
            Settled::Lost(live) => self.close_one_lost(live),
        }
    }

    /// Gives a connection to the caller it is for; to the next, if that one has just left.
    fn hand_over(self: &Arc<Self>, to: Seat<M>, live: Live<M::Connection>) {
        if let Err(Delivery::Connection(live)) = to.send(Delivery::Connection(live)) {
            self.settle(live);
        }
    }

    pub(crate) fn clean(self: &Arc<Self>, live: Live<M::Connection>) {
        self.core().start_cleaning(live.slot);
        let mut cleaning = Cleaning {
            shared: self.clone(),
            live: Some(live),
        };
        let Some(runtime) = self.household() else {
            return;
        };
        runtime.spawn(async move {
            let Some(live) = &mut cleaning.live else {
                return;
            };
            let shared = cleaning.shared.clone();
            let cleaned = shared.manager.clean(&mut live.connection);
            let cleaned = timeout(shared.config.clean_timeout, cleaned).await;
            if matches!(cleaned, Ok(Ok(())))
                && is_kept(shared.manager.inspect(&mut live.connection))
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

    pub(crate) fn close(self: &Arc<Self>, live: Live<M::Connection>) {
        self.close_within(live, self.config.close_timeout);
    }

    pub(crate) fn close_within(self: &Arc<Self>, live: Live<M::Connection>, limit: Duration) {
        let closing = Closing {
            shared: self.clone(),
            slot: live.slot,
        };
        let Some(runtime) = self.household() else {
            return;
        };
        runtime.spawn(async move {
            let shared = &closing.shared;
            let closed = shared.manager.close(live.connection);
            if timeout(limit, closed).await.is_err() {
                tracing::debug!("a connection's close was not confirmed in time");
            }
        });
        self.connect_what_is_due();
    }

    pub(crate) fn connect_what_is_due(self: &Arc<Self>) {
        let due = self.core().connects_due();
        self.connect(due);
    }

    pub(crate) fn connect_at_homes(self: &Arc<Self>) {
        let due = self.core().connects_at_homes();
        self.connect(due);
    }

    pub(crate) fn connect(self: &Arc<Self>, slots: Vec<SlotId>) {
        for slot in slots {
            let home = self.core().home(slot);
            let connecting = Connecting {
                shared: self.clone(),
                slot: Some(slot),
                started: Instant::now(),
            };
            if let Some(runtime) = self.runtime_of(home) {
                runtime.spawn(connecting.run());
            }
        }
    }

    /// Changes the limits, and has what is too many closed and what is too few connected.
    pub(crate) fn resize(self: &Arc<Self>, limits: Limits) -> Result<(), InvalidConfig> {
        let excess = {
            let mut core = self.core();
            let resized = core.config().resized(limits)?;
            core.resize(resized)
        };
        for live in excess {
            self.close(live);
        }
        self.connect_what_is_due();
        // There may be more to wait for, or enough.
        self.milestone.notify_waiters();
        Ok(())
    }

    pub(crate) fn resume(self: &Arc<Self>) {
        let now = self.now();
        let settled = self.core().resume(now);
        for settled in settled {
            self.follow(settled);
        }
        self.connect_what_is_due();
        self.poke.notify_one();
        self.milestone.notify_waiters();
    }

    /// Ends the pool; completes when every connection is closed.
    pub(crate) async fn shut(self: &Arc<Self>, serve_waiters: bool) {
        let now = self.now();
        let (settled, refused) = self.core().shut(serve_waiters, now);
        send_away(refused, || Delivery::Closed);
        for settled in settled {
            self.follow(settled);
        }
        self.connect_what_is_due();
        self.poke.notify_one();
        // Also tells an earlier call, whose line this one may have emptied.
        self.milestone.notify_waiters();
        self.until(Slots::is_over).await;
    }

    /// Completes when the pool has come to a state. Whatever brings it there notifies `milestone`.
    pub(crate) async fn until(self: &Arc<Self>, reached: impl Fn(&Core<M>) -> bool) {
        self.household();
        let reaching = async {
            loop {
                let mut milestone = std::pin::pin!(self.milestone.notified());
                milestone.as_mut().enable();
                if reached(&self.core()) {
                    return;
                }
                milestone.await;
            }
        };
        if !self.needs_vigil() {
            return reaching.await;
        }
        tokio::select! {
            biased;
            () = reaching => {}
            () = vigil(Arc::downgrade(self), None) => {}
        }
    }

    /// A tenth of the lifetime is random, so that connections opened together end apart.
    fn lifetime(&self) -> Option<Duration> {
        let jitter = 0.1 * fastrand::f64();
        let lifetime = self.config.max_lifetime?;
        Some(lifetime - lifetime.mul_f64(jitter))
    }
}

/// Whether a connection in this condition needs neither cleaning nor closing.
fn is_kept(condition: Condition) -> bool {
    matches!(condition, Condition::Clean | Condition::Unknown)
}

/// Tells callers that were taken out of the line why. Whoever has left by itself need not know.
pub(crate) fn send_away<M: Manager>(seats: Vec<Seat<M>>, why: impl Fn() -> Delivery<M>) {
    for seat in seats {
        drop(seat.send(why()));
    }
}

/// A slot whose connect is under way.
struct Connecting<M: Manager> {
    shared: Arc<Shared<M>>,
    slot: Option<SlotId>,
    started: Instant,
}

impl<M: Manager> Connecting<M> {
    async fn run(mut self) {
        let shared = self.shared.clone();
        if let Some(slot) = self.slot
            && shared.core().is_lost(slot)
        {
            // Nobody ran this for so long that others have done without it.
            return;
        }
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
        let (took, lifetime, now) = (self.started.elapsed(), shared.lifetime(), shared.now());
        let (settled, healed) = shared.core().connected(slot, connection, took, lifetime, now);
        if healed.is_some() {
            tracing::info!("connecting works again");
        }
        shared.follow(settled);
        shared.connect_what_is_due();
        shared.milestone.notify_waiters();
    }

    fn fail(&mut self, error: ConnectError<M::Error>) {
        // First, while a panic of the manager still leaves the slot to the destructor.
        let is_permanent = match &error {
            ConnectError::Failed(error) => self.shared.manager.is_permanent(error),
            ConnectError::TimedOut(_) | ConnectError::Aborted => false,
        };
        let Some(slot) = self.slot.take() else { return };
        let (shared, error) = (&self.shared, Arc::new(error));
        let failure = outage::Failure {
            error: error.clone(),
            is_permanent,
            jitter: fastrand::f64(),
        };
        let (took, now) = (self.started.elapsed(), shared.now());
        let (failed, in_vain, refusing, over) = {
            let mut core = shared.core();
            let (failed, in_vain) = core.connect_failed(slot, failure, took, now);
            (failed, in_vain, core.waits_in_vain(), core.is_over())
        };
        send_away(in_vain, || Delivery::InVain(error.clone()));
        // Once per outage and cause, not once per attempt.
        if failed.became_permanent {
            let every = shared.config.backoff_permanent.as_secs_f64();
            tracing::warn!(%error, "connecting fails until its cause is removed; trying again every {every} s");
        } else if failed.previous.is_none() && matches!(*error, ConnectError::Aborted) {
            tracing::debug!(%error, "connecting failed; trying again");
        } else if failed.previous.is_none() {
            tracing::warn!(%error, "connecting failed; trying again until it works");
        }
        if let Some(failing_for) = failed.opened_breaker {
            let seconds = failing_for.as_secs_f64();
            tracing::warn!(seconds, %error, "the server is taken for dead; refusing callers");
        }
        if over || refusing {
            shared.milestone.notify_waiters();
        }
        if !over {
            shared.poke.notify_one();
        }
    }
}

impl<M: Manager> Drop for Connecting<M> {
    fn drop(&mut self) {
        self.fail(ConnectError::Aborted);
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
            self.shared.milestone.notify_waiters();
        }
        self.shared.connect_what_is_due();
    }
}
