//! Where connections live. Invariant: preferring a home never makes anyone wait: a caller takes what is idle, from
//! wherever it is.
//!
//! Two callers of two homes can come to have each other's connection, and as long as both are busy each finds only that
//! one when it comes back. So a home whose callers have often had to go elsewhere is given one more connection.

use super::{Live, Mode, SlotId, Slots, State};
use crate::holder::HomeId;

/// So many idle connections are looked at for one of the caller's home.
const LOOK: usize = 32;

/// So many callers that had to go elsewhere, between two looks of the housekeeper, are worth a connection.
const OFTEN: u32 = 16;

/// One of the runtimes on which connections live.
#[derive(Clone, Default)]
pub(super) struct Home {
    /// Those whose connection lives here, or will.
    pub(super) slots: u32,
    /// Callers that took another home's connection since the last look.
    went_elsewhere: u32,
}

impl<C, W, F: Clone> Slots<C, W, F> {
    /// Where the connection of a slot lives, or will.
    pub(crate) fn home(&self, slot: SlotId) -> HomeId {
        self.slots[slot].home
    }

    /// The home with the fewest slots.
    pub(super) fn emptiest_home(&self) -> HomeId {
        let homes = self.homes.iter().enumerate();
        match homes.min_by_key(|(_, home)| home.slots) {
            Some((home, _)) => home,
            None => unreachable!("a pool has a home"),
        }
    }

    /// Slots to connect now, reserved by this call: one for each home whose callers have often had to go elsewhere since
    /// the last call, as long as no more are open than the pool keeps.
    pub(crate) fn connects_at_homes(&mut self) -> Vec<SlotId> {
        let mut due = Vec::new();
        for home in 0..self.homes.len() {
            let went_elsewhere = std::mem::take(&mut self.homes[home].went_elsewhere);
            if went_elsewhere >= OFTEN && self.mode == Mode::Open && self.has_room_at_rest() {
                due.push(self.reserve(home));
            }
        }
        due
    }

    /// Whether a connection may be opened that nobody waits for.
    fn has_room_at_rest(&self) -> bool {
        let may_connect = self.count(State::Connecting) < self.concurrency();
        self.open() < self.config.max_size && self.room() > 0 && may_connect
    }

    /// Takes from the top of the idle stack the first of this home, or else the first.
    pub(super) fn pop_idle(&mut self, home: HomeId) -> Option<Live<C>> {
        let top = self.idle.last()?;
        if self.homes.len() == 1 || self.slots[top.slot].home == home {
            return self.idle.pop();
        }
        self.pop_from_below(home)
    }

    #[inline(never)] // what is on top usually is of the home of whoever comes next
    fn pop_from_below(&mut self, home: HomeId) -> Option<Live<C>> {
        let near = self.idle.iter().rev().take(LOOK);
        let depth = near.map(|live| self.slots[live.slot].home).position(|at| at == home);
        let top = self.idle.len().checked_sub(1)?;
        if depth.is_none() {
            self.homes[home].went_elsewhere += 1;
        }
        Some(self.idle.remove(top - depth.unwrap_or(0)))
    }
}
