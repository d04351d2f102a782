//! What time does: connections end, waits end, holders become suspicious. Invariant: each question
//! costs a walk only over what it is about, and is asked by the housekeeper alone.

use std::time::Duration;

use super::{Live, Slots, State};
use crate::{Holder, stats::Retired};

impl<C, W, F: Clone> Slots<C, W, F> {
    /// When the housekeeper has something to do next, and at the latest at `round`.
    pub(crate) fn schedule(&mut self, round: Duration) -> Duration {
        let retry = self.retry_at().unwrap_or(round);
        let deadline = self.waiters.next_deadline().unwrap_or(round);
        self.next_round = round.min(retry).min(deadline);
        self.next_round
    }

    /// Moves the coarse clock on and takes out idle connections that have had their time.
    pub(crate) fn tick(&mut self, now: Duration) -> Vec<Live<C>> {
        self.advance(now);
        let mut retired = Vec::new();
        let mut open = self.open();
        let mut kept = Vec::with_capacity(self.idle.capacity());
        // From the bottom of the stack: what has been idle longest comes first.
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

    /// Those who have had a connection for too long, each once.
    pub(crate) fn overdue(&mut self) -> Vec<Holder> {
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
