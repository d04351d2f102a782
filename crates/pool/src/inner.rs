//! What all handles, guards and tasks of one pool share.
//!
//! Invariant: the core's lock is never held across an await, and no code of a manager, waker or destructor runs under
//! it.

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::sync::Notify;

use crate::{
    Config, ConnectionInfo, ConnectionState, Hooks, Manager,
    delivery::{ConnectFailure, Sender},
    runtimes::Runtimes,
    shim::{AtomicU8, Handle, Instant, Mutex, MutexGuard},
    slots::{SlotId, Slots},
};

pub(crate) type Core<M> = Slots<<M as Manager>::Connection, Sender<M>, ConnectFailure<M>>;

/// What all handles, guards and tasks of one pool share.
pub(crate) struct PoolInner<M: Manager> {
    pub(crate) manager: M,
    pub(crate) hooks: Hooks<M>,
    /// The configuration at the start. The core has the current limits.
    pub(crate) config: Config,
    /// The lock that every caller takes. Held for a few dozen nanoseconds to take or release a connection, and for a
    /// walk along the queue when a deadline has passed.
    core: Mutex<Core<M>>,
    hints: Hints,
    /// Where tasks run and connections live. Locked rarely: when a task is spawned or a runtime ends.
    pub(crate) runtimes: Mutex<Runtimes>,
    pub(crate) built: Instant,
    /// Wakes the maintenance task before its next round.
    pub(crate) wake_maintenance: Arc<Notify>,
    /// Wakes those who wait [until](Self::until) the pool is in a certain state.
    pub(crate) state_changed: Notify,
}

impl<M: Manager> PoolInner<M> {
    pub(crate) fn new(manager: M, config: Config, hooks: Hooks<M>, runtimes: Vec<Handle>) -> Self {
        Self {
            core: Mutex::new(Slots::new(config.clone(), runtimes.len())),
            hints: Hints::default(),
            manager,
            hooks,
            runtimes: Mutex::new(Runtimes::new(runtimes)),
            built: Instant::now(),
            wake_maintenance: Arc::new(Notify::new()),
            state_changed: Notify::new(),
            config,
        }
    }

    pub(crate) fn core(&self) -> LockedCore<'_, M> {
        LockedCore {
            // A panic under the lock would be a bug of the core, and a poisoned lock would turn it into one of every
            // caller.
            core: self.core.lock().unwrap_or_else(PoisonError::into_inner),
            hints: &self.hints,
        }
    }

    /// The core, told the time.
    pub(crate) fn core_now(&self) -> LockedCore<'_, M> {
        let now = self.now();
        let mut core = self.core();
        core.advance(now);
        core
    }

    /// What is known of the connection of a slot.
    pub(crate) fn describe(&self, slot: SlotId) -> ConnectionInfo {
        let now = self.now();
        let known = self.core().connection(slot, now);
        // Abandoned: it counts as closing, because its slot will be freed.
        known.unwrap_or_else(|| ConnectionInfo::new(slot, ConnectionState::Closing))
    }

    /// True if no connection was idle when the lock was last released.
    pub(crate) fn nothing_idle(&self) -> bool {
        self.hints.contain(NOTHING_IDLE)
    }

    /// True if a caller was waiting when the lock was last released.
    pub(crate) fn has_waiters(&self) -> bool {
        self.hints.contain(HAS_WAITERS)
    }

    /// The time since the pool was built.
    pub(crate) fn now(&self) -> Duration {
        self.built.elapsed()
    }
}

/// A possibly outdated copy of two facts, written on unlock. Only speed depends on it.
#[derive(Default)]
struct Hints(AtomicU8);

/// A caller may skip looking for an idle connection: joining the queue looks again.
const NOTHING_IDLE: u8 = 1;
/// A release should tell the core the time. If nobody was waiting, any waiter that the release meets has joined since,
/// and told the core the time itself.
const HAS_WAITERS: u8 = 2;

// Relaxed throughout: a hint publishes no other memory, and a wrong one costs a look under the lock at most.
impl Hints {
    fn contain(&self, hint: u8) -> bool {
        self.0.load(Relaxed) & hint != 0
    }

    /// Writes only a change, so that the cache line stays shared between the cores that read it.
    #[inline]
    fn update(&self, nothing_idle: bool, has_waiters: bool) {
        let now = u8::from(nothing_idle) * NOTHING_IDLE + u8::from(has_waiters) * HAS_WAITERS;
        if self.0.load(Relaxed) != now {
            self.0.store(now, Relaxed);
        }
    }
}

/// The core while it is locked. Unlocking updates the hints.
pub(crate) struct LockedCore<'a, M: Manager> {
    core: MutexGuard<'a, Core<M>>,
    hints: &'a Hints,
}

impl<M: Manager> Deref for LockedCore<'_, M> {
    type Target = Core<M>;
    fn deref(&self) -> &Core<M> {
        &self.core
    }
}

impl<M: Manager> DerefMut for LockedCore<'_, M> {
    fn deref_mut(&mut self) -> &mut Core<M> {
        &mut self.core
    }
}

impl<M: Manager> Drop for LockedCore<'_, M> {
    fn drop(&mut self) {
        // Runs before the field `core` unlocks, so hints are written in the order of the lock.
        let core = &self.core;
        self.hints.update(core.nothing_idle(), core.has_waiters());
    }
}
