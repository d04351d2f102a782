//! The pool's core: which slots exist and in what state, which connections are idle, who waits.
//!
//! A pure, synchronous state machine behind one short lock. It does no I/O, reads no clock, wakes
//! nobody and runs no destructor of a connection, waker or error: all of those are handed out to be
//! dealt with after the lock is released. Time is a `Duration` since the pool was built.
//!
//! Invariants: someone waits ⇒ nothing is idle; slots ≤ capacity, closing ones included; every
//! change of a slot's state goes through [`Slots::shift`], which also counts.

use std::{panic::Location, time::Duration};

use slab::Slab;

use crate::{
    Config, Histogram,
    stats::Retired,
    waiters::{Left, Ticket, Waiters},
};

/// A permit to have one connection, from before it is opened until its close is confirmed.
pub(crate) type SlotId = usize;

/// What a slot is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// A connect is under way. Ends in `Idle`, `InUse`, `Closing`, or free when it fails.
    Connecting,
    /// On the idle stack. Ends in `InUse` or `Closing`.
    Idle,
    /// With a caller, or handed to one that has not woken yet. Ends in any but `Connecting`.
    InUse,
    /// With the cleaner. Ends in `Idle`, `InUse` or `Closing`.
    Cleaning,
    /// Being closed. Ends free, once that is confirmed or was waited for long enough.
    Closing,
}

const STATES: usize = 5;

struct Slot {
    state: State,
    since: Duration,
    /// Who asked for the connection, while it is in use.
    holder: Option<&'static Location<'static>>,
}

/// An open connection with its slot. It is always in exactly one place: the idle stack, a delivery,
/// a guard, or a task that cleans it.
pub(crate) struct Live<C> {
    pub(crate) slot: SlotId,
    pub(crate) connection: C,
    expires: Duration,
    idle_since: Duration,
}

/// What a waiting caller is given.
pub(crate) enum Delivery<C> {
    /// A connection, and whether it was opened just now.
    Connection { live: Live<C>, fresh: bool },
    /// The pool was closed.
    Closed,
    /// Its time ran out.
    Late,
}

/// What became of a caller that found nothing idle.
pub(crate) enum Joined<C, W> {
    /// Something was idle after all.
    Taken(Live<C>, W),
    /// In line; these slots are to be connected, and the housekeeper is to be told if this makes
    /// something due before its next round.
    Queued {
        ticket: Ticket,
        due: Vec<SlotId>,
        is_next: bool,
    },
    /// Not let in.
    Refused(Refusal, W),
}

/// Why a caller was not let into the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Closed,
    Full,
}

/// What became of a connection that its user, its cleaner or its connect let go of.
pub(crate) enum Settled<C, W> {
    Idle,
    /// The next in line has it: wake it.
    Handed(W),
    /// Its slot is closing: close it.
    Retired(Live<C>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Open,
    /// No newcomers; whoever waits is still served.
    Draining,
    Closed,
}

/// Shared by all connects: after a failure nobody tries again before `until`.
struct Backoff<F> {
    failures: u32,
    until: Duration,
    last_error: Option<F>,
}

/// Counts of what happened since the pool was built.
#[derive(Clone, Default)]
pub(crate) struct Tally {
    pub(crate) acquired_at_once: u64,
    pub(crate) timeouts: u64,
    pub(crate) refused: u64,
    pub(crate) connect_failures: u64,
    pub(crate) cleaned: u64,
    pub(crate) retired: [u64; Retired::ALL.len()],
    pub(crate) waiting_times: Histogram,
    pub(crate) connecting_times: Histogram,
    pub(crate) connect_times: Histogram,
}

/// How many slots are in each state, and how many callers wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    pub(crate) connecting: u32,
    pub(crate) idle: u32,
    pub(crate) in_use: u32,
    pub(crate) cleaning: u32,
    pub(crate) closing: u32,
    pub(crate) waiting: u32,
}

/// The state machine. `C` is a connection, `W` wakes a caller, `F` says why a connect failed.
pub(crate) struct Slots<C, W, F> {
    limits: Config,
    mode: Mode,
    slots: Slab<Slot>,
    count: [u32; STATES],
    idle: Vec<Live<C>>,
    waiters: Waiters<Delivery<C>, W>,
    now: Duration,
    /// When the housekeeper will look again by itself.
    next_round: Duration,
    backoff: Backoff<F>,
    tally: Tally,
}

impl<C, W, F: Clone> Slots<C, W, F> {
    pub(crate) fn new(limits: Config) -> Self {
        Self {
            mode: Mode::Open,
            slots: Slab::with_capacity(limits.capacity().min(1024) as usize),
            count: [0; STATES],
            idle: Vec::with_capacity(limits.max_size.min(1024) as usize),
            waiters: Waiters::new(),
            now: Duration::ZERO,
            next_round: Duration::ZERO,
            backoff: Backoff {
                failures: 0,
                until: Duration::ZERO,
                last_error: None,
            },
            tally: Tally::default(),
            limits,
        }
    }

    /// Takes the connection that was idle for the shortest time, and says for how long it was.
    pub(crate) fn take(
        &mut self,
        caller: &'static Location<'static>,
    ) -> Option<(Live<C>, Duration)> {
        let live = self.idle.pop()?;
        self.shift(live.slot, State::InUse);
        self.slots[live.slot].holder = Some(caller);
        self.tally.acquired_at_once += 1;
        let idle_for = self.now.saturating_sub(live.idle_since);
        Some((live, idle_for))
    }

    /// Joins the line, unless a connection has become idle since [`take`](Self::take) found none.
    pub(crate) fn join(
        &mut self,
        waker: W,
        caller: &'static Location<'static>,
        now: Duration,
        deadline: Duration,
    ) -> Joined<C, W> {
        self.advance(now);
        if self.mode != Mode::Open {
            return Joined::Refused(Refusal::Closed, waker);
        }
        if let Some((live, _)) = self.take(caller) {
            return Joined::Taken(live, waker);
        }
        // Those for whom a connect can be under way do not count as waiting for others.
        let growing = self.count(State::Connecting) + self.room();
        if self.waiters.len() >= self.limits.max_waiters.saturating_add(growing) {
            self.tally.refused += 1;
            return Joined::Refused(Refusal::Full, waker);
        }
        let ticket = self.waiters.join(waker, caller, now, deadline);
        let due = self.connects_due();
        let wake_at = self
            .retry_at()
            .map_or(deadline, |retry| retry.min(deadline));
        let is_next = wake_at < self.next_round;
        self.next_round = self.next_round.min(wake_at);
        Joined::Queued {
            ticket,
            due,
            is_next,
        }
    }

    /// Collects what a caller in line was given, if anything yet.
    pub(crate) fn collect(&mut self, ticket: Ticket, now: Duration) -> Option<Delivery<C>> {
        let (delivery, since) = self.waiters.collect(ticket)?;
        self.advance(now);
        if let Delivery::Connection { fresh, .. } = delivery {
            let times = match fresh {
                true => &mut self.tally.connecting_times,
                false => &mut self.tally.waiting_times,
            };
            times.record(now.saturating_sub(since));
        }
        Some(delivery)
    }

    /// See [`Waiters::rewake`].
    pub(crate) fn rewake(&mut self, ticket: Ticket, waker: W) -> W {
        self.waiters.rewake(ticket, waker)
    }

    /// Leaves the line.
    pub(crate) fn leave(&mut self, ticket: Ticket) -> Left<Delivery<C>, W> {
        self.waiters.leave(ticket)
    }

    /// Counts a caller whose time ran out.
    pub(crate) fn timed_out(&mut self) {
        self.tally.timeouts += 1;
    }

    /// Sends those away whose time has run out, and returns whom to wake.
    pub(crate) fn expire(&mut self, now: Duration) -> Vec<W> {
        self.waiters.expire(now, || Delivery::Late)
    }

    /// When the housekeeper has something to do next, and at the latest at `round`.
    pub(crate) fn schedule(&mut self, round: Duration) -> Duration {
        let retry = self.retry_at().unwrap_or(round);
        let deadline = self.waiters.next_deadline().unwrap_or(round);
        self.next_round = round.min(retry).min(deadline);
        self.next_round
    }

    /// Lets go of a clean connection that was in use or being cleaned.
    pub(crate) fn settle(&mut self, live: Live<C>) -> Settled<C, W> {
        self.place(live, false)
    }

    /// Takes a connection from its user to have it cleaned.
    pub(crate) fn start_cleaning(&mut self, slot: SlotId) {
        self.shift(slot, State::Cleaning);
        self.tally.cleaned += 1;
    }

    /// Starts closing a connection, whoever has it.
    pub(crate) fn retire(&mut self, slot: SlotId, reason: Retired) {
        self.shift(slot, State::Closing);
        self.tally.retired[reason as usize] += 1;
    }

    /// Frees a slot whose connection is closed. True if it was the last of a pool being closed.
    pub(crate) fn free(&mut self, slot: SlotId) -> bool {
        self.remove(slot);
        self.is_over()
    }

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
        self.backoff.failures = 0;
        self.backoff.until = Duration::ZERO;
        self.tally.connect_times.record(took);
        let live = Live {
            slot,
            connection,
            expires: lifetime.map_or(Duration::MAX, |lifetime| now.saturating_add(lifetime)),
            idle_since: now,
        };
        let healed = self.backoff.last_error.take();
        (self.place(live, true), healed)
    }

    /// A connect failed: its slot is free, and nobody tries again for a while. `jitter` is random
    /// in 0..1. Gives back the error that the new one replaces.
    pub(crate) fn connect_failed(
        &mut self,
        slot: SlotId,
        error: F,
        jitter: f64,
        now: Duration,
    ) -> Option<F> {
        self.advance(now);
        self.remove(slot);
        self.tally.connect_failures += 1;
        // Connects that were under way together fail together: that is one failure, not many.
        if now >= self.backoff.until {
            let doublings = self.backoff.failures.min(16);
            let pause = (self.limits.backoff_base * (1 << doublings)).min(self.limits.backoff_max);
            self.backoff.until = now + pause.mul_f64(0.5 + jitter / 2.0);
            self.backoff.failures += 1;
        }
        self.backoff.last_error.replace(error)
    }

    /// Slots to connect now, reserved by this call: enough for everyone who waits and for the warm
    /// minimum, within the capacity, the concurrency and the backoff.
    pub(crate) fn connects_due(&mut self) -> Vec<SlotId> {
        let connecting = self.count(State::Connecting);
        let concurrency = match self.backoff.failures {
            0 => self.limits.connect_concurrency,
            _ => 1,
        };
        if self.mode == Mode::Closed || self.now < self.backoff.until || connecting >= concurrency {
            return Vec::new();
        }
        let warm = match self.mode {
            Mode::Open => self.limits.min_size.saturating_sub(self.open()),
            _ => 0,
        };
        // A connection being cleaned will be free sooner than one that is not even asked for.
        let coming = connecting + self.count(State::Cleaning);
        let wanted = self.waiters.len().saturating_sub(coming).max(warm);
        let due = wanted.min(self.room()).min(concurrency - connecting);
        (0..due).map(|_| self.reserve()).collect()
    }

    /// When to ask [`connects_due`](Self::connects_due) again, if a backoff holds connects up.
    fn retry_at(&self) -> Option<Duration> {
        let warming = self.mode == Mode::Open && self.open() < self.limits.min_size;
        let wanting = warming || !self.waiters.is_empty();
        (wanting && self.backoff.until > self.now).then_some(self.backoff.until)
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
            } else if open > self.limits.min_size
                && self
                    .limits
                    .idle_timeout
                    .is_some_and(|limit| rested >= limit)
            {
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

    /// Ends the taking in of callers; gives out what is idle to be closed and, unless those in
    /// line are still to be served, whom to wake.
    pub(crate) fn shut(&mut self, serve_waiters: bool) -> (Vec<Live<C>>, Vec<W>) {
        self.mode = match (self.mode, serve_waiters) {
            (Mode::Closed, _) | (_, false) => Mode::Closed,
            (_, true) => Mode::Draining,
        };
        let idle = std::mem::take(&mut self.idle);
        for live in &idle {
            self.retire(live.slot, Retired::Closed);
        }
        let mut wakers = Vec::new();
        while self.mode == Mode::Closed
            && let Ok(waker) = self.waiters.serve(Delivery::Closed)
        {
            wakers.push(waker);
        }
        (idle, wakers)
    }

    /// True once a pool that was shut has neither connections nor callers left.
    pub(crate) fn is_over(&self) -> bool {
        self.mode != Mode::Open && self.slots.is_empty() && self.waiters.is_empty()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.mode == Mode::Open
    }

    pub(crate) fn census(&self) -> Census {
        Census {
            connecting: self.count(State::Connecting),
            idle: self.count(State::Idle),
            in_use: self.count(State::InUse),
            cleaning: self.count(State::Cleaning),
            closing: self.count(State::Closing),
            waiting: self.waiters.len(),
        }
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    pub(crate) fn last_error(&self) -> Option<F> {
        self.backoff.last_error.clone()
    }

    /// Connects that failed one after another, up to now.
    pub(crate) fn failures(&self) -> u32 {
        self.backoff.failures
    }

    /// How long the caller at the head has waited.
    pub(crate) fn longest_wait(&self, now: Duration) -> Option<Duration> {
        Some(now.saturating_sub(self.waiters.oldest()?))
    }

    /// Who has held a connection longest, and for how long.
    pub(crate) fn oldest_holder(
        &self,
        now: Duration,
    ) -> Option<(&'static Location<'static>, Duration)> {
        self.slots
            .iter()
            .filter(|(_, slot)| slot.state == State::InUse)
            .filter_map(|(_, slot)| Some((slot.holder?, now.saturating_sub(slot.since))))
            .max_by_key(|&(_, held)| held)
    }

    /// Hands a connection to the next in line, keeps it, or has it closed.
    fn place(&mut self, mut live: Live<C>, fresh: bool) -> Settled<C, W> {
        let slot = live.slot;
        if live.expires <= self.now {
            self.retire(slot, Retired::Lifetime);
            return Settled::Retired(live);
        }
        if let Some(caller) = self.waiters.next_caller() {
            self.shift(slot, State::InUse);
            self.slots[slot].holder = Some(caller);
            return match self.waiters.serve(Delivery::Connection { live, fresh }) {
                Ok(waker) => Settled::Handed(waker),
                Err(_) => unreachable!("there is a next caller"),
            };
        }
        if self.mode != Mode::Open {
            self.retire(slot, Retired::Closed);
            return Settled::Retired(live);
        }
        if self.open() > self.limits.max_size {
            self.retire(slot, Retired::Overflow);
            return Settled::Retired(live);
        }
        self.shift(slot, State::Idle);
        live.idle_since = self.now;
        self.idle.push(live);
        Settled::Idle
    }

    /// The one place where a slot changes its state.
    fn shift(&mut self, slot: SlotId, to: State) {
        let slot = &mut self.slots[slot];
        self.count[slot.state as usize] -= 1;
        self.count[to as usize] += 1;
        slot.state = to;
        slot.since = self.now;
    }

    fn reserve(&mut self) -> SlotId {
        self.count[State::Connecting as usize] += 1;
        self.slots.insert(Slot {
            state: State::Connecting,
            since: self.now,
            holder: None,
        })
    }

    fn remove(&mut self, slot: SlotId) {
        let slot = self.slots.remove(slot);
        self.count[slot.state as usize] -= 1;
    }

    fn advance(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    fn count(&self, state: State) -> u32 {
        self.count[state as usize]
    }

    /// Slots that have a connection or will: all but those being closed.
    fn open(&self) -> u32 {
        self.len() - self.count(State::Closing)
    }

    /// Slots that may still be opened.
    fn room(&self) -> u32 {
        self.limits.capacity().saturating_sub(self.len())
    }

    fn len(&self) -> u32 {
        self.slots.len() as u32
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod model;
