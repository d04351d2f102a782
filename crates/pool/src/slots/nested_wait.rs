//! Detects tasks that wait for a connection while they hold one. In a small pool all holders may soon be such tasks,
//! and then none of them is ever served.
//!
//! Invariant: detection is a diagnosis. It never refuses, serves or delays a caller.

use std::time::Duration;

use super::{Slots, slot::State};
use crate::{Holder, caller::Caller};

/// Only pools of at most this many connections are searched: in larger ones the deadlock is unlikely and the search
/// long.
const SMALL: u32 = 32;

/// The shortest time between two searches for newcomers, because a search takes longer than joining the queue. Callers
/// that time out are always searched for.
const SEARCH_INTERVAL: Duration = Duration::from_millis(10);

/// The time without a search after a warning, so that the log is not filled.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

impl<C, W, F: Clone> Slots<C, W, F> {
    /// Returns a connection that the task of this newcomer holds, if a search is due and finds one.
    pub(super) fn nested(&mut self, caller: Caller) -> Option<Holder> {
        if self.now < self.next_nested_look || self.count(State::InUse) == 0 {
            return None;
        }
        self.next_nested_look = self.now + SEARCH_INTERVAL;
        self.held_by_same_task(caller)
    }

    /// Counts a caller that timed out. Returns a connection that its task holds, if that deserves a warning.
    pub(crate) fn timed_out(&mut self, caller: Caller) -> Option<Holder> {
        self.counters.totals.timeouts += 1;
        self.held_by_same_task(caller)
    }

    fn held_by_same_task(&mut self, caller: Caller) -> Option<Holder> {
        if self.now < self.next_nested_warning || self.config.capacity() > SMALL {
            return None;
        }
        let task = Some(caller.task?);
        let same_task = |holder: &Holder| holder.task == task;
        let holds = self.holders(self.now).find(same_task)?;
        self.counters.totals.nested_waits += 1;
        self.next_nested_warning = self.now + WARNING_INTERVAL;
        Some(holds)
    }
}
