//! Where connections live. Invariant: preferring a home never makes anyone wait: a caller takes what is idle, from
//! wherever it is.

use super::{Live, SlotId, Slots};
use crate::holder::HomeId;

/// So many idle connections are looked at for one of the caller's home.
const LOOK: usize = 32;

impl<C, W, F: Clone> Slots<C, W, F> {
    /// Where the connection of a slot lives, or will.
    pub(crate) fn home(&self, slot: SlotId) -> HomeId {
        self.slots[slot].home
    }

    /// The home with the fewest slots, which it now has one more of.
    pub(super) fn settle_in(&mut self) -> HomeId {
        let homes = self.homes.iter_mut().enumerate();
        match homes.min_by_key(|(_, slots)| **slots) {
            Some((home, slots)) => {
                *slots += 1;
                home
            }
            None => unreachable!("a pool has a home"),
        }
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
        let depth = near
            .map(|live| self.slots[live.slot].home)
            .position(|at| at == home);
        let top = self.idle.len().checked_sub(1)?;
        Some(self.idle.remove(top - depth.unwrap_or(0)))
    }
}
