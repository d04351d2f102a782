//! The pool's core: which slots exist and in what state, which connections are idle, who waits.
//!
//! A pure, synchronous state machine behind one short lock. It does no I/O, reads no clock, wakes nobody and runs no
//! destructor of a connection, waker or error: it returns them, and the caller deals with them after unlocking. Times
//! are durations since the pool was built.
//!
//! Invariants:
//! * while a caller waits and the pool is not paused, nothing is idle;
//! * there are at most as many slots as the capacity, closing ones included; where a resize has left more, none is
//!   opened or handed over until they are gone;
//! * every change of a slot's state goes through [`Slots::set_state`], which also counts.

use std::time::Duration;

use slab::Slab;

use crate::{
    Config,
    caller::{Caller, RuntimeIndex},
    codel::Codel,
    counters::Counters,
    forecast::Forecast,
    outage::Outage,
    retired::Retired,
    shim::RuntimeId,
    waiters::Waiters,
};

mod affinity;
mod connects;
mod inspect;
mod lifetime;
mod nested_wait;
mod pool_state;
mod runtime_loss;
mod slot;
pub(crate) mod wait_queue;

use slot::{FRESH, Mode, RuntimeLoad, STATES, Slot, Source, State};
pub(crate) use slot::{Live, Opened, Released, SlotId};

/// The state machine. `C` is a connection, `W` is where a waiter receives one, `F` says why a connect failed.
pub(crate) struct Slots<C, W, F> {
    /// With the current limits, which [`resize`](Self::resize) changes.
    config: Config,
    mode: Mode,
    slots: Slab<Slot>,
    count: [u32; STATES],
    runtimes: Box<[RuntimeLoad]>,
    /// Last in, first out, so that surplus connections age and are closed.
    idle: Vec<Live<C>>,
    waiters: Waiters<W>,
    /// The latest time that the core was told.
    now: Duration,
    /// When the maintenance task wakes by itself.
    next_round: Duration,
    /// When to look again whether the task of a new waiter holds a connection, and when to warn again.
    next_nested_look: Duration,
    next_nested_warning: Duration,
    /// Connects that have succeeded since the queue was empty.
    connects_since_empty: u32,
    outage: Outage<F>,
    forecast: Forecast,
    codel: Option<Codel>,
    /// When a caller was last refused or shed because too many wait.
    last_overload: Option<Duration>,
    counters: Counters,
    /// Where the maintenance task has run from the start. `None` if it has moved. It is here because every waiter
    /// asks, under this lock.
    maintenance_runtime: Option<RuntimeId>,
}

impl<C, W, F: Clone> Slots<C, W, F> {
    pub(crate) fn new(config: Config, runtimes: usize) -> Self {
        Self {
            mode: Mode::Open,
            // No more than 1,024 in advance: a huge maximum is a safety limit, not an estimate.
            slots: Slab::with_capacity(config.capacity().min(1024) as usize),
            count: [0; STATES],
            runtimes: vec![RuntimeLoad::default(); runtimes].into(),
            idle: Vec::with_capacity(config.max_size.min(1024) as usize),
            waiters: Waiters::new(),
            now: Duration::ZERO,
            next_round: Duration::ZERO,
            next_nested_look: Duration::ZERO,
            next_nested_warning: Duration::ZERO,
            connects_since_empty: 0,
            outage: Outage::new(&config),
            forecast: Forecast::default(),
            codel: config.shed_target.map(Codel::new),
            last_overload: None,
            counters: Counters::default(),
            maintenance_runtime: None,
            config,
        }
    }

    /// Takes the connection that was idle for the shortest time, preferring the caller's runtime. Returns it with the
    /// time for which it was idle. Both times are exact if the clock was [advanced](Self::advance) just before.
    pub(crate) fn take(&mut self, caller: Caller) -> Option<(Live<C>, Duration)> {
        if self.mode == Mode::Paused {
            return None;
        }
        let live = self.pop_idle(caller.runtime)?;
        let idle_for = self.now.saturating_sub(live.idle_since);
        self.check_out(live.slot, caller, idle_for);
        self.counters.totals.acquired_at_once += 1;
        Some((live, idle_for))
    }

    /// Takes back a clean connection that was in use or being cleaned. The time matters only if a caller was waiting
    /// already.
    pub(crate) fn release(&mut self, live: Live<C>, now: Option<Duration>) -> Released<C, W> {
        if let Some(now) = now {
            self.advance(now);
        }
        self.assign(live, Source::User)
    }

    /// The slots on the idle stack.
    pub(crate) fn idle(&self) -> Vec<SlotId> {
        self.idle.iter().map(|live| live.slot).collect()
    }

    /// Takes a connection from the idle stack for an inspection, if it is still there.
    pub(crate) fn begin_inspection(&mut self, slot: SlotId) -> Option<Live<C>> {
        let at = self.idle.iter().position(|live| live.slot == slot)?;
        self.set_state(slot, State::Cleaning);
        Some(self.idle.remove(at))
    }

    /// Puts an inspected, clean connection back where it was, unless a caller waits.
    pub(crate) fn end_inspection(&mut self, live: Live<C>, now: Duration) -> Released<C, W> {
        self.advance(now);
        self.assign(live, Source::IdleStack)
    }

    /// Notes that a connection that was in use is being cleaned.
    pub(crate) fn start_cleaning(&mut self, slot: SlotId) {
        self.set_state(slot, State::Cleaning);
        self.counters.totals.cleaned += 1;
    }

    /// Notes that the hook after a release runs for a connection.
    pub(crate) fn start_hook(&mut self, slot: SlotId) {
        self.set_state(slot, State::Cleaning);
    }

    /// Notes that an open connection is being closed.
    pub(crate) fn retire(&mut self, slot: SlotId, reason: Retired) {
        self.set_state(slot, State::Closing);
        self.slots[slot].retired = Some(reason);
        self.counters.totals.retired[reason as usize] += 1;
    }

    /// Frees the slot of a connection that its holder keeps. True if a drain, close or pause was waiting for it.
    pub(crate) fn detach(&mut self, slot: SlotId) -> bool {
        self.retire(slot, Retired::Detached);
        self.free(slot)
    }

    /// Frees a slot whose connection is closed. True if a drain, close or pause was waiting for it.
    pub(crate) fn free(&mut self, slot: SlotId) -> bool {
        self.remove(slot);
        self.is_terminated() || self.is_quiesced()
    }

    /// Hands a connection to the first waiter, keeps it idle, or retires it.
    fn assign(&mut self, mut live: Live<C>, source: Source) -> Released<C, W> {
        let slot = live.slot;
        if self.slots[slot].lost {
            self.retire(slot, Retired::Broken);
            return Released::Lost(live);
        }
        if self.slots[slot].outdated {
            self.retire(slot, Retired::Replaced);
            return Released::Retired(live);
        }
        if live.expires <= self.now {
            self.retire(slot, Retired::Lifetime);
            return Released::Retired(live);
        }
        if self.mode != Mode::Paused && !self.waiters.is_empty() {
            // After a resize: the limits come before the waiters.
            if self.open() > self.config.capacity() {
                self.retire(slot, Retired::Overflow);
                return Released::Retired(live);
            }
            return self.hand_over(live, source == Source::Connect);
        }
        if !self.is_open() {
            self.retire(slot, Retired::Closed);
            return Released::Retired(live);
        }
        if self.open() > self.config.max_size {
            self.retire(slot, Retired::Overflow);
            return Released::Retired(live);
        }
        self.set_state(slot, State::Idle);
        if source == Source::IdleStack {
            let older = |other: &Live<C>| other.idle_since <= live.idle_since;
            let at = self.idle.partition_point(older);
            self.idle.insert(at, live);
        } else {
            live.idle_since = self.now;
            self.idle.push(live);
        }
        Released::Idle {
            quiesced: self.is_quiesced(),
        }
    }

    /// Hands a connection to the first waiter that is not shed.
    #[inline(never)] // rare and large: inlined it slows down the release that nobody waits for
    fn hand_over(&mut self, mut live: Live<C>, fresh: bool) -> Released<C, W> {
        let shed = self.shed();
        let Some((to, waiter)) = self.waiters.next() else {
            unreachable!("BUG: CoDel shed the last waiter");
        };
        self.check_out(live.slot, waiter.caller, Duration::ZERO);
        self.forecast.served(1, self.now);
        if fresh {
            live.proven = FRESH;
        }
        let times = match fresh {
            true => &mut self.counters.connecting_times,
            false => &mut self.counters.waiting_times,
        };
        times.record(self.now.saturating_sub(waiter.since));
        Released::Handed { to, live, shed }
    }

    fn check_out(&mut self, slot: SlotId, caller: Caller, rested: Duration) {
        self.set_state(slot, State::InUse);
        let slot = &mut self.slots[slot];
        slot.holder = Some(caller);
        slot.reported = false;
        slot.rested = rested;
        slot.uses += 1;
    }

    /// Changes the state of a slot. Nothing else does.
    fn set_state(&mut self, slot: SlotId, to: State) {
        let slot = &mut self.slots[slot];
        if slot.state == State::InUse && self.config.time_uses {
            self.counters.use_times.record(self.now.saturating_sub(slot.since));
        }
        self.count[slot.state as usize] -= 1;
        self.count[to as usize] += 1;
        slot.state = to;
        slot.since = self.now;
    }

    /// Adds a slot for a connect on this runtime.
    fn reserve(&mut self, runtime: RuntimeIndex) -> SlotId {
        self.count[State::Connecting as usize] += 1;
        self.runtimes[runtime].slots += 1;
        self.slots.insert(Slot::connecting(runtime, self.now))
    }

    fn remove(&mut self, slot: SlotId) {
        let slot = self.slots.remove(slot);
        self.count[slot.state as usize] -= 1;
        self.runtimes[slot.runtime].slots -= 1;
    }

    /// Advances the clock. Callers read theirs before they lock, so a later call may bring an earlier time.
    pub(crate) fn advance(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    fn count(&self, state: State) -> u32 {
        self.count[state as usize]
    }

    /// Slots that have a connection or will: all but those being closed.
    fn open(&self) -> u32 {
        self.len() - self.count(State::Closing)
    }

    /// Slots that have a connection that is not being closed.
    fn existing(&self) -> u32 {
        self.open() - self.count(State::Connecting)
    }

    /// How many slots may still be opened.
    fn room(&self) -> u32 {
        self.config.capacity().saturating_sub(self.len())
    }

    fn len(&self) -> u32 {
        self.slots.len() as u32 - self.count(State::Abandoned)
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod model;
