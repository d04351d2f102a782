//! Opening connections: when, how many, and what comes of it. Invariant: a slot is reserved before
//! its connect begins, so however many begin, there are never more than the capacity.

use std::time::Duration;

use super::{Live, Mode, Origin, Settled, SlotId, Slots, State};
use crate::outage::{Failed, Failure};

impl<C, W, F: Clone> Slots<C, W, F> {
    /// A connect succeeded after `took`; `lifetime` is this connection's own, jitter included.
    pub(crate) fn connected(
        &mut self,
        slot: SlotId,
        connection: C,
        took: Duration,
        lifetime: Option<Duration>,
        now: Duration,
    ) -> (Settled<C, W>, Option<F>) {
        self.advance(now);
        let healed = self.outage.connected();
        self.tally.connect_times.record(took);
        self.grown = self.grown.saturating_add(1);
        let live = Live {
            slot,
            connection,
            expires: lifetime.map_or(Duration::MAX, |lifetime| now.saturating_add(lifetime)),
            idle_since: now,
            proven: now,
            unknown: false,
            suspect: false,
        };
        (self.place(live, Origin::Connect), healed)
    }

    /// A connect that took so long failed: its slot is free, and nobody tries again for a while.
    /// Gives out those in line if waiting cannot help them.
    pub(crate) fn connect_failed(
        &mut self,
        slot: SlotId,
        failure: Failure<F>,
        took: Duration,
        now: Duration,
    ) -> (Failed<F>, Vec<W>) {
        self.advance(now);
        let lost = self.slots[slot].lost;
        self.remove(slot);
        if lost {
            // It failed long ago, as far as anyone was concerned.
            let failed = Failed {
                previous: Some(failure.error),
                became_permanent: false,
                opened_breaker: None,
            };
            return (failed, Vec::new());
        }
        self.tally.counts.connect_failures += 1;
        let (began, none_open) = (now.saturating_sub(took), self.existing() == 0);
        let failed = self.outage.failed(failure, began, none_open, now);
        (failed, self.send_away_in_vain())
    }

    /// True while nothing is open and the last connect failed for a reason that time does not cure.
    /// While the pool is paused nobody connects, so nothing is said for good.
    pub(crate) fn waits_in_vain(&self) -> bool {
        self.outage.is_permanent() && self.existing() == 0 && self.mode != Mode::Paused
    }

    fn send_away_in_vain(&mut self) -> Vec<W> {
        if !self.waits_in_vain() {
            return Vec::new();
        }
        let in_vain = std::iter::from_fn(|| self.waiters.next());
        let in_vain: Vec<_> = in_vain.map(|(seat, _)| seat).collect();
        self.tally.counts.refused += in_vain.len() as u64;
        in_vain
    }

    /// Slots to connect now, reserved by this call: enough for everyone who waits and for the warm
    /// minimum, within the capacity, the concurrency and the backoff.
    pub(crate) fn connects_due(&mut self) -> Vec<SlotId> {
        let room = self.room();
        if room == 0 {
            return Vec::new();
        }
        let connecting = self.count(State::Connecting);
        let concurrency = self.concurrency();
        let idles = matches!(self.mode, Mode::Paused | Mode::Closed);
        if idles || connecting >= concurrency {
            return Vec::new();
        }
        let warm = match self.mode {
            Mode::Open => self.warm_size().saturating_sub(self.open()),
            _ => 0,
        };
        // A connection being cleaned will be free sooner than one that is not even asked for.
        let coming = connecting + self.count(State::Cleaning);
        let awaited = self.waiters.len().saturating_sub(coming);
        let growth = self.growth().saturating_sub(connecting);
        let wanted = awaited.min(growth).max(warm);
        let due = wanted.min(room).min(concurrency - connecting);
        let reserve = |_| self.reserve(self.emptiest_home());
        (0..due).map(reserve).collect()
    }

    /// How many connects may be under way at once: none during a backoff, and one until connecting works again.
    pub(super) fn concurrency(&self) -> u32 {
        match self.outage.failures() {
            _ if self.now < self.outage.until() => 0,
            0 => self.config.connect_concurrency,
            _ => 1,
        }
    }

    /// How many connects for those in line may be under way at once.
    ///
    /// While connections are in use, one of them often comes back before a new one is ready, and a
    /// burst is over before it would have needed any. So growth starts with one connect, and each
    /// that succeeds while the line still stands allows one more. Where nothing can come back there
    /// is nothing to wait for.
    fn growth(&self) -> u32 {
        match self.count(State::InUse) {
            0 => u32::MAX,
            _ => self.grown.saturating_add(1),
        }
    }

    /// When to ask [`connects_due`](Self::connects_due) again, if a backoff holds connects up.
    pub(super) fn retry_at(&self) -> Option<Duration> {
        let warming = self.mode == Mode::Open && self.open() < self.warm_size();
        let waiting = self.mode != Mode::Paused && !self.waiters.is_empty();
        let wanting = warming || waiting;
        (wanting && self.outage.until() > self.now).then_some(self.outage.until())
    }

    /// How many are to be open although nobody needs them. While callers are refused because
    /// connects fail that is one at least: it shows when they work again.
    fn warm_size(&self) -> u32 {
        let probe = u32::from(self.outage.breaker_is_open() || self.waits_in_vain());
        self.config.warm().max(probe)
    }
}
