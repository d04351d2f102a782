//! Opening connections: when, how many, and what follows from success and failure.
//!
//! Invariant: a slot is reserved before its connect begins, so there are never more than the capacity.

use std::time::Duration;

use super::{
    Slots,
    slot::{Live, Mode, Opened, Released, SlotId, Source, State},
};
use crate::outage::{Failure, FailureEffect};

impl<C, W, F: Clone> Slots<C, W, F> {
    /// A connect succeeded. Also returns the last error, if connects had been failing.
    pub(crate) fn connected(&mut self, slot: SlotId, opened: Opened<C>, now: Duration) -> (Released<C, W>, Option<F>) {
        self.advance(now);
        let recovered_from = self.outage.connected();
        self.counters.connect_times.record(opened.took);
        self.connects_since_empty = self.connects_since_empty.saturating_add(1);
        (self.slots[slot].opened, self.slots[slot].peer) = (now, opened.peer);
        let lifetime = opened.lifetime;
        let live = Live {
            slot,
            connection: opened.connection,
            expires: lifetime.map_or(Duration::MAX, |lifetime| now.saturating_add(lifetime)),
            idle_since: now,
            proven: now,
            unknown: false,
            suspect: false,
            hook_due: false,
        };
        (self.assign(live, Source::Connect), recovered_from)
    }

    /// A connect failed after `took`: its slot is free and a backoff begins. Also returns all waiters, if waiting
    /// cannot help them.
    pub(crate) fn connect_failed(
        &mut self,
        slot: SlotId,
        failure: Failure<F>,
        took: Duration,
        now: Duration,
    ) -> (FailureEffect<F>, Vec<W>) {
        self.advance(now);
        let lost = self.slots[slot].lost;
        self.remove(slot);
        if lost {
            // The pool gave up this connect long ago, so it says nothing about the server now.
            let none = FailureEffect {
                previous: Some(failure.error),
                became_permanent: false,
                opened_breaker: None,
            };
            return (none, Vec::new());
        }
        self.counters.totals.connect_failures += 1;
        let (began, none_open) = (now.saturating_sub(took), self.existing() == 0);
        let effect = self.outage.failed(failure, began, none_open, now);
        (effect, self.dismiss_if_permanent())
    }

    /// True while nothing is open and connecting fails for a reason that time does not cure. False during a pause, in
    /// which nothing is connected.
    pub(crate) fn fails_permanently(&self) -> bool {
        self.outage.is_permanent() && self.existing() == 0 && self.mode != Mode::Paused
    }

    fn dismiss_if_permanent(&mut self) -> Vec<W> {
        if !self.fails_permanently() {
            return Vec::new();
        }
        let waiters = std::iter::from_fn(|| self.waiters.next());
        let dismissed: Vec<_> = waiters.map(|(sender, _)| sender).collect();
        self.counters.totals.refused += dismissed.len() as u64;
        dismissed
    }

    /// Reserves slots to connect now: enough for every waiter and for the warm minimum, within the capacity, the
    /// concurrency and the backoff.
    pub(crate) fn connects_due(&mut self) -> Vec<SlotId> {
        let room = self.room();
        if room == 0 {
            return Vec::new();
        }
        let connecting = self.count(State::Connecting);
        let concurrency = self.concurrency();
        let suspended = matches!(self.mode, Mode::Paused | Mode::Closed);
        if suspended || connecting >= concurrency {
            return Vec::new();
        }
        let warm = match self.mode {
            Mode::Open => self.warm_size().saturating_sub(self.open()),
            _ => 0,
        };
        // A connection that is being cleaned is free sooner than a new one.
        let coming = connecting + self.count(State::Cleaning);
        let awaited = self.waiters.len().saturating_sub(coming);
        let growth = self.growth().saturating_sub(connecting);
        let wanted = awaited.min(growth).max(warm);
        let due = wanted.min(room).min(concurrency - connecting);
        let reserve = |_| self.reserve(self.least_loaded_runtime());
        (0..due).map(reserve).collect()
    }

    /// How many connects may be under way at once: none during a backoff, one until connecting works again.
    pub(super) fn concurrency(&self) -> u32 {
        match self.outage.failures() {
            _ if self.now < self.outage.until() => 0,
            0 => self.config.connect_concurrency,
            _ => 1,
        }
    }

    /// How many connects for waiters may be under way at once.
    ///
    /// While connections are in use, one of them often comes back before a new one is ready, and a burst is over before
    /// it needed any. So growth starts with one connect, and each success while the queue still stands allows one more.
    /// If nothing is in use, nothing can come back, and growth is not limited.
    fn growth(&self) -> u32 {
        match self.count(State::InUse) {
            0 => u32::MAX,
            _ => self.connects_since_empty.saturating_add(1),
        }
    }

    /// When to ask [`connects_due`](Self::connects_due) again, if a backoff holds connects up.
    pub(super) fn retry_at(&self) -> Option<Duration> {
        let warming = self.mode == Mode::Open && self.open() < self.warm_size();
        let waiting = self.mode != Mode::Paused && !self.waiters.is_empty();
        let wanting = warming || waiting;
        (wanting && self.outage.until() > self.now).then_some(self.outage.until())
    }

    /// How many connections to keep open although nobody needs them. At least one while callers are refused because
    /// connects fail: that one finds out when connecting works again.
    fn warm_size(&self) -> u32 {
        let probe = u32::from(self.outage.breaker_is_open() || self.fails_permanently());
        self.config.warm().max(probe)
    }
}
