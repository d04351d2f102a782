//! Changes to the pool as a whole: resize, replace all, pause, resume, drain, close. The pool's part is in `pool_state.rs`.
//!
//! Invariant: afterwards the core's invariants hold for the new limits and mode.

use std::time::Duration;

use super::{
    Slots,
    slot::{Live, Mode, Released, Source, State},
};
use crate::{Config, retired::Retired};

impl<C, W, F: Clone> Slots<C, W, F> {
    /// Changes the limits. Returns idle connections that are now too many, to be closed.
    pub(crate) fn resize(&mut self, config: Config) -> Vec<Live<C>> {
        self.config = config;
        // Connects under way do not count: they may fail, and those that succeed are closed then.
        let excess = self.existing().saturating_sub(self.config.max_size) as usize;
        let excess: Vec<_> = self.idle.drain(..excess.min(self.idle.len())).collect();
        for live in &excess {
            self.retire(live.slot, Retired::Overflow);
        }
        excess
    }

    /// Marks every connection that exists or is being opened as outdated. Returns the idle ones, to be closed; the others are
    /// closed instead of being handed over or idle.
    pub(crate) fn replace_all(&mut self, now: Duration) -> Vec<Live<C>> {
        self.advance(now);
        let idle: Vec<_> = self.idle.drain(..).collect();
        for live in &idle {
            self.retire(live.slot, Retired::Replaced);
        }
        for (_, slot) in &mut self.slots {
            slot.outdated |= matches!(slot.state, State::Connecting | State::InUse | State::Cleaning);
        }
        idle
    }

    /// Stops handing out and connecting. Does nothing unless the pool is open.
    pub(crate) fn pause(&mut self) {
        if self.mode == Mode::Open {
            self.mode = Mode::Paused;
        }
    }

    /// Ends a pause. Idle connections go to the waiters, in their order.
    pub(crate) fn resume(&mut self, now: Duration) -> Vec<Released<C, W>> {
        self.advance(now);
        if self.mode != Mode::Paused {
            return Vec::new();
        }
        self.mode = Mode::Open;
        // The queue did not move during the pause, so the rate measured before is wrong.
        self.forecast.restart(self.now);
        let mut released = Vec::new();
        while !self.waiters.is_empty()
            && let Some(live) = self.idle.pop()
        {
            released.push(self.assign(live, Source::IdleStack));
        }
        released
    }

    /// Refuses callers from now on, and ends a pause. Returns the idle connections, to be closed, and the waiters to
    /// refuse: none if they are still to be served.
    pub(crate) fn shut(&mut self, serve_waiters: bool, now: Duration) -> (Vec<Released<C, W>>, Vec<W>) {
        let mut released = match serve_waiters {
            true => self.resume(now),
            false => Vec::new(),
        };
        // A drain does not reopen what a close has closed.
        self.mode = match (self.mode, serve_waiters) {
            (Mode::Closed, _) | (_, false) => Mode::Closed,
            (_, true) => Mode::Draining,
        };
        for live in std::mem::take(&mut self.idle) {
            self.retire(live.slot, Retired::Closed);
            released.push(Released::Retired(live));
        }
        let mut refused = Vec::new();
        while self.mode == Mode::Closed
            && let Some((sender, _)) = self.waiters.next()
        {
            refused.push(sender);
        }
        (released, refused)
    }
}
