//! What becomes of slots when a runtime is gone. Invariant: a slot that is lost is never handed over or idle again.

use std::time::Duration;

use super::{Live, SlotId, Slots, State};
use crate::{holder::HomeId, runtime::RuntimeId, stats::Retired};

impl<C, W, F: Clone> Slots<C, W, F> {
    /// Notes where the housekeeper is; `None` if it is not where it was at first.
    pub(crate) fn keep_on(&mut self, runtime: Option<RuntimeId>) {
        self.kept_on = runtime;
    }

    /// Whether the housekeeper has been on this runtime from the start.
    pub(crate) fn is_kept_on(&self, runtime: RuntimeId) -> bool {
        self.kept_on == Some(runtime)
    }

    /// Whether others do without this slot.
    pub(crate) fn is_lost(&self, slot: SlotId) -> bool {
        self.slots[slot].lost
    }

    /// The runtime of a home is gone: its connections are of no use. Gives out the idle ones, to be closed; those in use
    /// are closed when they come back. What was known of failed connects says nothing of those that begin elsewhere.
    pub(crate) fn lose(&mut self, home: HomeId, now: Duration) -> (Vec<Live<C>>, Option<F>) {
        self.advance(now);
        let (lost, kept) = std::mem::take(&mut self.idle)
            .into_iter()
            .partition(|live: &Live<C>| self.slots[live.slot].home == home);
        self.idle = kept;
        let lost: Vec<_> = lost;
        for live in &lost {
            self.retire(live.slot, Retired::Broken);
        }
        for (_, slot) in &mut self.slots {
            let has_connection = matches!(slot.state, State::InUse | State::Cleaning);
            slot.lost |= slot.home == home && has_connection;
        }
        (lost, self.outage.connected())
    }

    /// Does without the connects that are under way for a home whose runtime nobody runs.
    pub(crate) fn abandon_connects(&mut self, home: HomeId) {
        self.abandon(|slot_home, state| slot_home == home && state == State::Connecting);
    }

    /// Does without the cleaning and closing that is under way on a runtime that nobody runs.
    pub(crate) fn abandon_tasks(&mut self) {
        self.abandon(|_, state| matches!(state, State::Cleaning | State::Closing));
    }

    fn abandon(&mut self, which: impl Fn(HomeId, State) -> bool) {
        let slots = self.slots.iter();
        let abandoned: Vec<SlotId> = slots
            .filter(|(_, slot)| which(slot.home, slot.state))
            .map(|(id, _)| id)
            .collect();
        for slot in abandoned {
            self.shift(slot, State::Abandoned);
            self.slots[slot].lost = true;
        }
    }
}
