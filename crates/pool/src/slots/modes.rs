//! Changes to the pool as a whole: its limits, pauses, its end. Invariant: afterwards the core's
//! invariants hold for what the pool is now.

use std::time::Duration;

use super::{Live, Mode, Origin, Settled, Slots};
use crate::{Config, stats::Retired};

impl<C, W, F: Clone> Slots<C, W, F> {
    /// Changes how many connections there may be; gives out idle ones that are now too many.
    pub(crate) fn resize(&mut self, config: Config) -> Vec<Live<C>> {
        self.config = config;
        // Connects under way may still fail; those that do not are closed when they are there.
        let excess = self.existing().saturating_sub(self.config.max_size) as usize;
        let excess: Vec<_> = self.idle.drain(..excess.min(self.idle.len())).collect();
        for live in &excess {
            self.retire(live.slot, Retired::Overflow);
        }
        excess
    }

    /// Stops handing out and connecting. Nothing else can be paused than an open pool.
    pub(crate) fn pause(&mut self) {
        if self.mode == Mode::Open {
            self.mode = Mode::Paused;
        }
    }

    /// Ends a pause: what is idle goes to those in line, in their order.
    pub(crate) fn resume(&mut self, now: Duration) -> Vec<Settled<C, W>> {
        self.advance(now);
        if self.mode != Mode::Paused {
            return Vec::new();
        }
        self.mode = Mode::Open;
        self.forecast.restart(self.now);
        let mut settled = Vec::new();
        while !self.waiters.is_empty()
            && let Some(live) = self.idle.pop()
        {
            settled.push(self.place(live, Origin::Stack));
        }
        settled
    }

    /// Ends the taking in of callers, and a pause; gives out what is idle to be closed and, unless
    /// they are still to be served, those in line.
    pub(crate) fn shut(&mut self, serve_waiters: bool, now: Duration) -> (Vec<Settled<C, W>>, Vec<W>) {
        let mut settled = match serve_waiters {
            true => self.resume(now),
            false => Vec::new(),
        };
        self.mode = match (self.mode, serve_waiters) {
            (Mode::Closed, _) | (_, false) => Mode::Closed,
            (_, true) => Mode::Draining,
        };
        for live in std::mem::take(&mut self.idle) {
            self.retire(live.slot, Retired::Closed);
            settled.push(Settled::Retired(live));
        }
        let mut refused = Vec::new();
        while self.mode == Mode::Closed
            && let Some((seat, _)) = self.waiters.next()
        {
            refused.push(seat);
        }
        (settled, refused)
    }
}
