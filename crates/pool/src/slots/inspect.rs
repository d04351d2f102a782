//! Read-only questions to the core. Invariant: nothing here takes `&mut self`.

use std::time::Duration;

use super::{
    Slots,
    slot::{Mode, Occupancy, Slot, SlotId, State},
};
use crate::{Config, ConnectionInfo, ConnectionState, Holder, Retired, counters::Counters};

impl<C, W, F: Clone> Slots<C, W, F> {
    /// True once a drained or closed pool has neither connections nor waiters left.
    pub(crate) fn is_terminated(&self) -> bool {
        !self.is_open() && self.len() == 0 && self.waiters.is_empty()
    }

    pub(crate) fn nothing_idle(&self) -> bool {
        self.idle.is_empty()
    }

    pub(crate) fn has_waiters(&self) -> bool {
        !self.waiters.is_empty()
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.mode, Mode::Open | Mode::Paused)
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.mode == Mode::Paused
    }

    /// True while the warm minimum is open.
    pub(crate) fn is_warm(&self) -> bool {
        self.existing() >= self.config.warm()
    }

    /// True while the pool is paused and no connection is in use, being cleaned or being closed.
    pub(crate) fn is_quiesced(&self) -> bool {
        self.is_paused() && self.len() == self.count(State::Idle) + self.count(State::Connecting)
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn occupancy(&self) -> Occupancy {
        Occupancy {
            connecting: self.count(State::Connecting),
            idle: self.count(State::Idle),
            in_use: self.count(State::InUse),
            cleaning: self.count(State::Cleaning),
            closing: self.count(State::Closing),
            waiting: self.waiters.len(),
        }
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Why the last connect failed. `None` after a success.
    pub(crate) fn last_error(&self) -> Option<F> {
        self.outage.last_error().cloned()
    }

    /// The number of failed connects since the last success.
    pub(crate) fn failures(&self) -> u32 {
        self.outage.failures()
    }

    /// After what time a refused caller may try again.
    pub(crate) fn retry_after(&self, now: Duration) -> Duration {
        self.outage.retry_after(now)
    }

    /// How long one more waiter would wait, if that is known.
    pub(crate) fn expected_wait(&self, now: Duration) -> Option<Duration> {
        self.forecast.wait_behind(self.waiters.len(), now)
    }

    /// True if a caller was refused or shed within the last second because too many wait.
    pub(crate) fn is_shedding(&self, now: Duration) -> bool {
        self.last_overload
            .is_some_and(|at| now < at.saturating_add(Duration::from_secs(1)))
    }

    pub(crate) fn breaker_is_open(&self) -> bool {
        self.outage.breaker_is_open()
    }

    /// How long the first waiter has waited.
    pub(crate) fn longest_wait(&self, now: Duration) -> Option<Duration> {
        Some(now.saturating_sub(self.waiters.oldest()?))
    }

    /// Everyone who holds a connection.
    pub(crate) fn holders(&self, now: Duration) -> impl Iterator<Item = Holder> + '_ {
        self.slots
            .iter()
            .filter(|(_, slot)| slot.state == State::InUse)
            .filter_map(move |(_, slot)| Some(slot.holder?.holding(now.saturating_sub(slot.since))))
    }

    /// At most this number of the connections that count against the capacity, in the order of their slots.
    pub(crate) fn connections(&self, most: usize, now: Duration) -> Vec<ConnectionInfo> {
        let described = self.slots.iter().filter_map(|(id, slot)| describe(id, slot, now));
        let mut connections: Vec<_> = described.take(most).collect();
        // An inspection interrupts the state of a slot, but not how long its connection is idle.
        for live in &self.idle {
            if let Ok(at) = connections.binary_search_by_key(&live.slot, |info| info.slot) {
                connections[at].idle = live.idle_for(now);
            }
        }
        connections
    }

    /// The connection of a slot. `None` if its runtime is not run.
    pub(crate) fn connection(&self, slot: SlotId, now: Duration) -> Option<ConnectionInfo> {
        describe(slot, self.slots.get(slot)?, now)
    }

    /// Why the connection of a slot is being closed.
    pub(crate) fn retired_for(&self, slot: SlotId) -> Option<Retired> {
        self.slots.get(slot)?.retired
    }

    pub(crate) fn oldest_holder(&self, now: Duration) -> Option<Holder> {
        self.holders(now).max_by_key(|holder| holder.held)
    }

    /// The number of holders that have reached `leak_after`.
    pub(crate) fn leaked(&self, now: Duration) -> u32 {
        self.config.leak_after.map_or(0, |limit| {
            let leaked = self.holders(now).filter(|holder| holder.held >= limit);
            leaked.count() as u32
        })
    }
}

fn describe(id: SlotId, slot: &Slot, now: Duration) -> Option<ConnectionInfo> {
    let state = match slot.state {
        State::Connecting => ConnectionState::Connecting,
        State::Idle => ConnectionState::Idle,
        State::InUse => ConnectionState::InUse,
        State::Cleaning => ConnectionState::Cleaning,
        State::Closing => ConnectionState::Closing,
        State::Abandoned => return None,
    };
    let held = now.saturating_sub(slot.since);
    let mut info = ConnectionInfo::new(id, state);
    info.age = now.saturating_sub(slot.opened);
    info.idle = slot.rested;
    info.uses = slot.uses;
    info.peer.clone_from(&slot.peer);
    if state == ConnectionState::InUse {
        info.holder = slot.holder.map(|caller| caller.holding(held));
    }
    Some(info)
}
