//! Lifetimes: idle connections reach their lifetime or idle timeout, and connections held for too long are reported as
//! leaks. The lifetime of a connection, with its random part, is chosen in `connecting.rs`.
//!
//! Invariant: only the maintenance task calls these methods, because each of them walks a whole list.

use std::time::Duration;

use super::{
    Slots,
    slot::{Live, State},
};
use crate::{Holder, retired::Retired};

impl<C, W, F: Clone> Slots<C, W, F> {
    /// Returns when the maintenance task has to wake next, at the latest at `round`.
    pub(crate) fn schedule(&mut self, round: Duration) -> Duration {
        let retry = self.retry_at().unwrap_or(round);
        let deadline = self.waiters.next_deadline().unwrap_or(round);
        self.next_round = round.min(retry).min(deadline);
        self.next_round
    }

    /// Advances the clock and removes idle connections that reached their lifetime or idle timeout.
    pub(crate) fn tick(&mut self, now: Duration) -> Vec<Live<C>> {
        self.advance(now);
        let mut retired = Vec::new();
        let mut open = self.open();
        let mut kept = Vec::with_capacity(self.idle.capacity());
        // From the bottom of the stack, so that the connection that was idle longest goes first.
        for live in std::mem::take(&mut self.idle) {
            let rested = now.saturating_sub(live.idle_since);
            let reason = if live.expires <= now {
                Some(Retired::Lifetime)
            } else if open > self.config.warm() && self.config.idle_timeout.is_some_and(|limit| rested >= limit) {
                Some(Retired::Idle)
            } else {
                None
            };
            match reason {
                None => kept.push(live),
                Some(reason) => {
                    open -= 1;
                    self.retire(live.slot, reason);
                    retired.push(live);
                }
            }
        }
        self.idle = kept;
        retired
    }

    /// Returns the holders that have just reached `leak_after`, each once.
    pub(crate) fn new_leaks(&mut self) -> Vec<Holder> {
        let (Some(limit), now) = (self.config.leak_after, self.now) else {
            return Vec::new();
        };
        let in_use = self.slots.iter_mut().map(|(_, slot)| slot);
        in_use
            .filter(|slot| slot.state == State::InUse && !slot.reported)
            .filter_map(|slot| {
                let held = now.saturating_sub(slot.since);
                let holder = slot.holder?.holding(held);
                slot.reported = held >= limit;
                slot.reported.then_some(holder)
            })
            .collect()
    }
}
