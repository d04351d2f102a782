//! What becomes of slots when a runtime ends or is not run any more.
//!
//! Invariant: a slot that is lost is never handed over or idle again.

use std::time::Duration;

use super::{
    Slots,
    slot::{Live, SlotId, State},
};
use crate::{caller::RuntimeIndex, retired::Retired, shim::RuntimeId};

impl<C, W, F: Clone> Slots<C, W, F> {
    /// Notes where the maintenance task runs; `None` if it is not where it was started first.
    pub(crate) fn set_maintenance_runtime(&mut self, runtime: Option<RuntimeId>) {
        self.maintenance_runtime = runtime;
    }

    /// True if the maintenance task has run on this runtime from the start.
    pub(crate) fn is_maintained_on(&self, runtime: RuntimeId) -> bool {
        self.maintenance_runtime == Some(runtime)
    }

    /// True if the pool has replaced this slot.
    pub(crate) fn is_lost(&self, slot: SlotId) -> bool {
        self.slots[slot].lost
    }

    /// Marks all connections of a runtime as lost. Returns the idle ones, to be closed; those in use are closed when
    /// they come back. Ends an outage: failures of that runtime say nothing about connects elsewhere.
    pub(crate) fn lose_runtime(&mut self, runtime: RuntimeIndex, now: Duration) -> (Vec<Live<C>>, Option<F>) {
        self.advance(now);
        let (lost, kept) = std::mem::take(&mut self.idle)
            .into_iter()
            .partition(|live: &Live<C>| self.slots[live.slot].runtime == runtime);
        self.idle = kept;
        let lost: Vec<_> = lost;
        for live in &lost {
            self.retire(live.slot, Retired::Broken);
        }
        for (_, slot) in &mut self.slots {
            let has_connection = matches!(slot.state, State::InUse | State::Cleaning);
            slot.lost |= slot.runtime == runtime && has_connection;
        }
        (lost, self.outage.connected())
    }

    /// Stops counting the connects that are under way on a runtime that is not run.
    pub(crate) fn abandon_connects(&mut self, runtime: RuntimeIndex) {
        self.abandon(|at, state| at == runtime && state == State::Connecting);
    }

    /// Stops counting the cleaning and closing that is under way on a runtime that is not run.
    pub(crate) fn abandon_tasks(&mut self) {
        self.abandon(|_, state| matches!(state, State::Cleaning | State::Closing));
    }

    fn abandon(&mut self, is_abandoned: impl Fn(RuntimeIndex, State) -> bool) {
        let slots = self.slots.iter();
        let abandoned: Vec<SlotId> = slots
            .filter(|(_, slot)| is_abandoned(slot.runtime, slot.state))
            .map(|(id, _)| id)
            .collect();
        for slot in abandoned {
            self.set_state(slot, State::Abandoned);
            self.slots[slot].lost = true;
        }
    }
}
