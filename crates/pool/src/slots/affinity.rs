//! Runtime affinity: which connections a caller prefers, and where connections are opened.
//!
//! Invariant: affinity never makes a caller wait. If no connection of its runtime is idle, it takes any other.
//!
//! Two callers on two runtimes may come to hold each other's connection. While both are busy, each finds only that one
//! when it asks again. So a runtime whose callers often miss gets one more connection.

use super::{
    Slots,
    slot::{Live, Mode, SlotId, State},
};
use crate::caller::RuntimeIndex;

/// How deep the idle stack is searched for a connection of the caller's runtime. Bounds the time under the lock.
const SEARCH_DEPTH: usize = 32;

/// How many misses between two maintenance rounds are worth a connection.
const MANY_MISSES: u32 = 16;

impl<C, W, F: Clone> Slots<C, W, F> {
    /// The runtime on which the connection of a slot lives, or will.
    pub(crate) fn runtime_of(&self, slot: SlotId) -> RuntimeIndex {
        self.slots[slot].runtime
    }

    pub(super) fn least_loaded_runtime(&self) -> RuntimeIndex {
        let runtimes = self.runtimes.iter().enumerate();
        match runtimes.min_by_key(|(_, runtime)| runtime.slots) {
            Some((runtime, _)) => runtime,
            None => unreachable!("BUG: a pool has at least one runtime"),
        }
    }

    /// Reserves slots to connect now: one for each runtime whose callers have often missed since the last call, while
    /// the pool would keep it.
    pub(crate) fn connects_for_affinity(&mut self) -> Vec<SlotId> {
        let mut due = Vec::new();
        for runtime in 0..self.runtimes.len() {
            let misses = std::mem::take(&mut self.runtimes[runtime].misses);
            if misses >= MANY_MISSES && self.mode == Mode::Open && self.has_room_for_idle() {
                due.push(self.reserve(runtime));
            }
        }
        due
    }

    /// True if a connection may be opened that nobody waits for.
    fn has_room_for_idle(&self) -> bool {
        let may_connect = self.count(State::Connecting) < self.concurrency();
        self.open() < self.config.max_size && self.room() > 0 && may_connect
    }

    /// Pops the topmost idle connection of this runtime, or else the topmost.
    pub(super) fn pop_idle(&mut self, runtime: RuntimeIndex) -> Option<Live<C>> {
        let top = self.idle.last()?;
        if self.runtimes.len() == 1 || self.slots[top.slot].runtime == runtime {
            return self.idle.pop();
        }
        self.pop_from_below(runtime)
    }

    #[inline(never)] // rare: the topmost connection is usually of the next caller's runtime
    fn pop_from_below(&mut self, runtime: RuntimeIndex) -> Option<Live<C>> {
        let near = self.idle.iter().rev().take(SEARCH_DEPTH);
        let depth = near
            .map(|live| self.slots[live.slot].runtime)
            .position(|at| at == runtime);
        let top = self.idle.len().checked_sub(1)?;
        if depth.is_none() {
            self.runtimes[runtime].misses += 1;
        }
        Some(self.idle.remove(top - depth.unwrap_or(0)))
    }
}
