//! What the core is made of: slots, their states, and connections on their way. Plain data without rules.
//!
//! Invariant: an open connection is in exactly one place: the idle stack, a delivery, a guard, or a task that cleans
//! it.

use std::{sync::Arc, time::Duration};

use crate::{
    caller::{Caller, RuntimeIndex},
    retired::Retired,
};

/// A permit for one connection, from before it is opened until its close is confirmed.
pub(crate) type SlotId = usize;

/// What a slot is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// A connect is under way. Ends in `Idle`, `InUse`, `Closing`, or free when it fails.
    Connecting,
    /// On the idle stack. Ends in `InUse`, `Cleaning` or `Closing`.
    Idle,
    /// Held by a caller, or delivered to one that has not woken yet. Ends in any but `Connecting`.
    InUse,
    /// Being cleaned, in the hook after a release, or taken from the idle stack for an inspection. Ends in `Idle`,
    /// `InUse` or `Closing`.
    Cleaning,
    /// Being closed. Ends free, once the close is confirmed or has timed out.
    Closing,
    /// Its connect, cleaning or close is on a runtime that is not run. Does not count against the capacity. Ends free
    /// or in `Closing` if that task is run or dropped after all.
    Abandoned,
}

pub(super) const STATES: usize = 6;

pub(super) struct Slot {
    pub(super) state: State,
    pub(super) since: Duration,
    /// Who asked for the connection, while it is in use.
    pub(super) holder: Option<Caller>,
    /// This holder has been reported as a leak.
    pub(super) reported: bool,
    /// Where its connection lives.
    pub(super) runtime: RuntimeIndex,
    /// The runtime of its connection is gone, so the connection must not be used again.
    pub(super) lost: bool,
    /// It is to be [replaced](super::Slots::replace_all): its connection is closed instead of being used again.
    pub(super) outdated: bool,
    /// How often callers have taken its connection.
    pub(super) uses: u64,
    /// How long its connection was idle before the caller took it that has it now.
    pub(super) rested: Duration,
    /// When its connection was opened; when the connect began, until then.
    pub(super) opened: Duration,
    /// What its connection leads to, if the manager says so.
    pub(super) peer: Option<Arc<str>>,
    /// Why its connection is being closed.
    pub(super) retired: Option<Retired>,
}

impl Slot {
    /// A slot whose connect begins now.
    pub(super) fn connecting(runtime: RuntimeIndex, now: Duration) -> Self {
        Self {
            state: State::Connecting,
            since: now,
            holder: None,
            reported: false,
            runtime,
            lost: false,
            outdated: false,
            uses: 0,
            rested: Duration::ZERO,
            opened: now,
            peer: None,
            retired: None,
        }
    }
}

/// What a successful connect brings.
pub(crate) struct Opened<C> {
    pub(crate) connection: C,
    /// What it leads to, if the manager says so.
    pub(crate) peer: Option<Arc<str>>,
    /// How long the connect took.
    pub(crate) took: Duration,
    /// This connection's own lifetime, with its random part. `None`: unlimited.
    pub(crate) lifetime: Option<Duration>,
}

/// An open connection with its slot.
pub(crate) struct Live<C> {
    pub(crate) slot: SlotId,
    pub(crate) connection: C,
    pub(super) expires: Duration,
    pub(super) idle_since: Duration,
    /// When it was last known to work. [`FRESH`] if it was opened for a waiter.
    pub(crate) proven: Duration,
    /// The last inspection found [`Condition::Unknown`](crate::Condition::Unknown).
    pub(crate) unknown: bool,
    /// A user marked it as suspect.
    pub(crate) suspect: bool,
    /// It comes from a caller, and the hook after a release has not run yet.
    pub(crate) hook_due: bool,
}

/// Marks a connection that was opened for a waiter: it is in good order at whatever time the waiter wakes.
pub(super) const FRESH: Duration = Duration::MAX;

impl<C> Live<C> {
    /// True if it was opened for a waiter and has not been used yet.
    pub(crate) fn is_fresh(&self) -> bool {
        self.proven == FRESH
    }

    /// How long it has been idle, if it is.
    pub(crate) fn idle_for(&self, now: Duration) -> Duration {
        now.saturating_sub(self.idle_since)
    }
}

/// What the core decided about a released connection. The caller carries it out without the lock.
pub(crate) enum Released<C, W> {
    /// It is idle. `quiesced` if a [pause](super::Slots::pause) was waiting for it.
    Idle { quiesced: bool },
    /// Send it to `to`, which has left the queue. `shed` are waiters ahead of it that were dropped by CoDel.
    Handed { to: W, live: Live<C>, shed: Vec<W> },
    /// Close it. Its slot is closing.
    Retired(Live<C>),
    /// Close it. Its runtime is gone, so the close cannot be confirmed.
    Lost(Live<C>),
}

/// Where a released connection comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Connect,
    /// A caller or the cleaning task.
    User,
    /// The idle stack. Its idle time goes on.
    IdleStack,
}

/// Whether the pool accepts callers and hands out connections.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Open,
    /// Callers may join the queue. Nothing is handed out or connected.
    Paused,
    /// New callers are refused. Waiters are still served.
    Draining,
    Closed,
}

/// The number of slots in each state, and of waiters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Occupancy {
    pub(crate) connecting: u32,
    pub(crate) idle: u32,
    pub(crate) in_use: u32,
    pub(crate) cleaning: u32,
    pub(crate) closing: u32,
    pub(crate) waiting: u32,
}

/// The load of one of the runtimes on which connections live.
#[derive(Clone, Default)]
pub(super) struct RuntimeLoad {
    /// Slots whose connection lives there, or will.
    pub(super) slots: u32,
    /// How many of its callers took a connection of another runtime since the last maintenance round.
    pub(super) misses: u32,
}
