//! The pool's core: which slots exist and in what state, which connections are idle, who waits.
//!
//! A pure, synchronous state machine behind one short lock. It does no I/O, reads no clock, wakes
//! nobody and runs no destructor of a connection, waker or error: all of those are handed out to be
//! dealt with after the lock is released. Time is a `Duration` since the pool was built.
//!
//! Invariants: someone waits and the pool is not paused ⇒ nothing is idle; slots ≤ capacity, closing
//! ones included, and where a smaller capacity left more, none is opened or handed over before they
//! are gone; every change of a slot's state goes through [`Slots::shift`], which also counts.

use std::time::Duration;

use slab::Slab;

use crate::{
    Config,
    codel::Codel,
    forecast::Forecast,
    holder::{Caller, Holder},
    outage::{Failed, Outage},
    stats::Retired,
    tally::Tally,
    waiters::{Left, Place, Ticket, Waiters},
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
    /// With the cleaner, or taken from the idle stack to be looked at. Ends in `Idle`, `InUse` or `Closing`.
    Cleaning,
    /// Being closed. Ends free, once that is confirmed or was waited for long enough.
    Closing,
}

const STATES: usize = 5;

/// In a pool of this many connections at most it is looked for tasks that wait for a connection
/// while they hold one: with few connections all holders may soon be such tasks, and then none of
/// them ever gets its second.
const SMALL: u32 = 32;

struct Slot {
    state: State,
    since: Duration,
    /// Who asked for the connection, while it is in use.
    holder: Option<Caller>,
    /// Whether it was warned that this holder has had it for too long.
    reported: bool,
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
    /// It gave way so that the others wait less.
    Shed,
}

/// What became of a caller that found nothing idle.
pub(crate) enum Joined<C, W> {
    /// Something was idle after all.
    Taken(Live<C>, W),
    /// In line; these slots are to be connected, and the housekeeper is to be told if this makes
    /// something due before its next round. `holds` is worth a warning: the task that waits now
    /// already has a connection.
    Queued {
        ticket: Ticket,
        due: Vec<SlotId>,
        is_next: bool,
        holds: Option<Holder>,
    },
    /// Not let in.
    Refused(Refusal, W),
}

/// Why a caller was not let into the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Closed,
    /// As many wait as may; how long one more would wait, if that is known.
    Full(Option<Duration>),
    /// It would wait for longer than it can, by so much.
    Hopeless(Duration),
    /// The server is taken for dead; it is worth asking again after this time.
    Unavailable(Duration),
}

/// What became of a connection that its user, its cleaner or its connect let go of.
pub(crate) enum Settled<C, W> {
    /// Kept. `at_rest` if that was what a paused pool was waiting for.
    Idle { at_rest: bool },
    /// The next in line has it, and some before it were shed: wake them.
    Handed { to: W, shed: Vec<W> },
    /// Its slot is closing: close it.
    Retired(Live<C>),
}

/// Where a connection comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Connect,
    /// Its user, or the cleaner.
    User,
    /// The idle stack, to which it goes back as if it had not left.
    Stack,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Open,
    /// Nothing is handed out or connected; callers may join the line.
    Paused,
    /// No newcomers; whoever waits is still served.
    Draining,
    Closed,
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
    /// Here the limits are those of now.
    config: Config,
    mode: Mode,
    slots: Slab<Slot>,
    count: [u32; STATES],
    idle: Vec<Live<C>>,
    waiters: Waiters<Delivery<C>, W>,
    now: Duration,
    /// When the housekeeper will look again by itself.
    next_round: Duration,
    next_nested_warning: Duration,
    outage: Outage<F>,
    forecast: Forecast,
    codel: Option<Codel>,
    /// When a caller was last refused or shed because too many wait.
    overloaded: Option<Duration>,
    tally: Tally,
}

impl<C, W, F: Clone> Slots<C, W, F> {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            mode: Mode::Open,
            slots: Slab::with_capacity(config.capacity().min(1024) as usize),
            count: [0; STATES],
            idle: Vec::with_capacity(config.max_size.min(1024) as usize),
            waiters: Waiters::new(),
            now: Duration::ZERO,
            next_round: Duration::ZERO,
            next_nested_warning: Duration::ZERO,
            outage: Outage::new(&config),
            forecast: Forecast::default(),
            codel: config.shed_target.map(Codel::new),
            overloaded: None,
            tally: Tally::default(),
            config,
        }
    }

    /// Takes the connection that was idle for the shortest time, and says for how long it was.
    pub(crate) fn take(&mut self, caller: Caller) -> Option<(Live<C>, Duration)> {
        if self.mode == Mode::Paused {
            return None;
        }
        let live = self.idle.pop()?;
        self.lend(live.slot, caller);
        self.tally.counts.acquired_at_once += 1;
        let idle_for = self.now.saturating_sub(live.idle_since);
        Some((live, idle_for))
    }

    /// Joins the line, unless a connection has become idle since [`take`](Self::take) found none.
    pub(crate) fn join(&mut self, waker: W, place: Place, now: Duration) -> Joined<C, W> {
        self.advance(now);
        if !self.is_open() {
            return Joined::Refused(Refusal::Closed, waker);
        }
        if let Some((live, _)) = self.take(place.caller) {
            return Joined::Taken(live, waker);
        }
        if self.mode == Mode::Open && self.outage.breaker_is_open() {
            self.tally.counts.refused += 1;
            return Joined::Refused(Refusal::Unavailable(self.outage.next_news(now)), waker);
        }
        self.watch_for_new_line();
        if let Some(refusal) = self.overload(place.deadline) {
            self.tally.counts.refused += 1;
            self.overloaded = Some(self.now);
            return Joined::Refused(refusal, waker);
        }
        let holds = self.nested(place.caller);
        let ticket = self.waiters.join(waker, place);
        self.queued(ticket, place.deadline, holds)
    }

    /// What was measured of one line does not hold for the next.
    fn watch_for_new_line(&mut self) {
        if self.waiters.is_empty() {
            self.forecast.restart(self.now);
            self.codel.iter_mut().for_each(Codel::calm);
        }
    }

    /// Whether one more in line would be one too many.
    fn overload(&self, deadline: Duration) -> Option<Refusal> {
        let ahead = self.waiters.len();
        // Those for whom a connect can be under way do not count as waiting for others.
        let growing = self.count(State::Connecting) + self.room();
        let wait = match self.mode {
            Mode::Paused => None,
            _ => self.forecast.wait_behind(ahead, self.now),
        };
        if ahead >= self.config.max_waiters.saturating_add(growing) {
            return Some(Refusal::Full(wait));
        }
        let patience = deadline.saturating_sub(self.now);
        match wait {
            Some(wait) if growing == 0 && wait > patience => {
                Some(Refusal::Hopeless(wait - patience))
            }
            _ => None,
        }
    }

    /// Goes back to the front of the line with the place held there before: what it was handed
    /// turned out to be broken. It is no newcomer, so nothing but the end of the pool keeps it out.
    pub(crate) fn rejoin(&mut self, waker: W, place: Place, now: Duration) -> Joined<C, W> {
        self.advance(now);
        if self.mode == Mode::Closed {
            return Joined::Refused(Refusal::Closed, waker);
        }
        if let Some((live, _)) = self.take(place.caller) {
            return Joined::Taken(live, waker);
        }
        self.watch_for_new_line();
        let ticket = self.waiters.rejoin(waker, place);
        self.queued(ticket, place.deadline, None)
    }

    /// What is to be done now that one more is in line.
    fn queued(
        &mut self,
        ticket: Ticket,
        deadline: Duration,
        holds: Option<Holder>,
    ) -> Joined<C, W> {
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
            holds,
        }
    }

    /// Counts a task that waits for a connection while it has one. Gives out the one it has, at
    /// most once a second.
    fn nested(&mut self, caller: Caller) -> Option<Holder> {
        if self.config.capacity() > SMALL {
            return None;
        }
        let task = Some(caller.task?);
        let same_task = |holder: &Holder| holder.task == task;
        let holds = self.holders(self.now).find(same_task)?;
        self.tally.counts.nested_waits += 1;
        if self.now < self.next_nested_warning {
            return None;
        }
        self.next_nested_warning = self.now + Duration::from_secs(1);
        Some(holds)
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
        self.tally.counts.timeouts += 1;
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
        self.place(live, Origin::User)
    }

    /// Who is on the idle stack.
    pub(crate) fn idle(&self) -> Vec<SlotId> {
        self.idle.iter().map(|live| live.slot).collect()
    }

    /// Takes a connection from the idle stack to look at it, if it is still there.
    pub(crate) fn lift(&mut self, slot: SlotId) -> Option<Live<C>> {
        let at = self.idle.iter().position(|live| live.slot == slot)?;
        self.shift(slot, State::Cleaning);
        Some(self.idle.remove(at))
    }

    /// Puts a connection that was lifted and is clean back where it was, unless it is needed.
    pub(crate) fn put_back(&mut self, live: Live<C>) -> Settled<C, W> {
        self.place(live, Origin::Stack)
    }

    /// Takes a connection from its user to have it cleaned.
    pub(crate) fn start_cleaning(&mut self, slot: SlotId) {
        self.shift(slot, State::Cleaning);
        self.tally.counts.cleaned += 1;
    }

    /// Starts closing a connection, whoever has it.
    pub(crate) fn retire(&mut self, slot: SlotId, reason: Retired) {
        self.shift(slot, State::Closing);
        self.tally.counts.retired[reason as usize] += 1;
    }

    /// Frees a slot whose connection is closed. True if it was the last that a pool being closed
    /// or paused was waiting for.
    pub(crate) fn free(&mut self, slot: SlotId) -> bool {
        self.remove(slot);
        self.is_over() || self.is_at_rest()
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
        let healed = self.outage.connected();
        self.tally.connect_times.record(took);
        let live = Live {
            slot,
            connection,
            expires: lifetime.map_or(Duration::MAX, |lifetime| now.saturating_add(lifetime)),
            idle_since: now,
        };
        (self.place(live, Origin::Connect), healed)
    }

    /// A connect that took so long failed: its slot is free, and nobody tries again for a while.
    /// `jitter` is random in 0..1.
    pub(crate) fn connect_failed(
        &mut self,
        slot: SlotId,
        error: F,
        took: Duration,
        jitter: f64,
        now: Duration,
    ) -> Failed<F> {
        self.advance(now);
        self.remove(slot);
        self.tally.counts.connect_failures += 1;
        let (began, none_open) = (now.saturating_sub(took), self.existing() == 0);
        self.outage.failed(error, began, none_open, jitter, now)
    }

    /// Slots to connect now, reserved by this call: enough for everyone who waits and for the warm
    /// minimum, within the capacity, the concurrency and the backoff.
    pub(crate) fn connects_due(&mut self) -> Vec<SlotId> {
        let connecting = self.count(State::Connecting);
        let concurrency = match self.outage.failures() {
            0 => self.config.connect_concurrency,
            _ => 1,
        };
        let idles = matches!(self.mode, Mode::Paused | Mode::Closed);
        if idles || self.now < self.outage.until() || connecting >= concurrency {
            return Vec::new();
        }
        let warm = match self.mode {
            Mode::Open => self.warm_size().saturating_sub(self.open()),
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
        let warming = self.mode == Mode::Open && self.open() < self.warm_size();
        let waiting = self.mode != Mode::Paused && !self.waiters.is_empty();
        let wanting = warming || waiting;
        (wanting && self.outage.until() > self.now).then_some(self.outage.until())
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
            } else if open > self.config.min_size
                && self
                    .config
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

    /// Hands a connection to the next in line, keeps it, or has it closed.
    fn place(&mut self, mut live: Live<C>, origin: Origin) -> Settled<C, W> {
        let slot = live.slot;
        if live.expires <= self.now {
            self.retire(slot, Retired::Lifetime);
            return Settled::Retired(live);
        }
        if self.mode != Mode::Paused && !self.waiters.is_empty() {
            if self.open() > self.config.capacity() {
                self.retire(slot, Retired::Overflow);
                return Settled::Retired(live);
            }
            return self.hand_over(live, origin == Origin::Connect);
        }
        if !self.is_open() {
            self.retire(slot, Retired::Closed);
            return Settled::Retired(live);
        }
        if self.open() > self.config.max_size {
            self.retire(slot, Retired::Overflow);
            return Settled::Retired(live);
        }
        self.shift(slot, State::Idle);
        if origin == Origin::Stack {
            let older = |other: &Live<C>| other.idle_since <= live.idle_since;
            let at = self.idle.partition_point(older);
            self.idle.insert(at, live);
        } else {
            live.idle_since = self.now;
            self.idle.push(live);
        }
        Settled::Idle {
            at_rest: self.is_at_rest(),
        }
    }

    /// Hands a connection to the first in line who is to be served.
    fn hand_over(&mut self, live: Live<C>, fresh: bool) -> Settled<C, W> {
        let shed = self.shed();
        let Some(caller) = self.waiters.next_caller() else {
            unreachable!("the last in line is never shed");
        };
        self.lend(live.slot, caller);
        self.forecast.served(self.now);
        match self.waiters.serve(Delivery::Connection { live, fresh }) {
            Ok(to) => Settled::Handed { to, shed },
            Err(_) => unreachable!("there is a next caller"),
        }
    }

    /// Sends callers at the head away while the line has been standing for too long.
    fn shed(&mut self) -> Vec<W> {
        let mut shed = Vec::new();
        while let Some(codel) = &mut self.codel
            && let Some(since) = self.waiters.oldest()
            && codel.sheds(
                self.now.saturating_sub(since),
                self.waiters.len() == 1,
                self.now,
            )
            && let Ok(waker) = self.waiters.serve(Delivery::Shed)
        {
            self.tally.counts.shed += 1;
            self.overloaded = Some(self.now);
            shed.push(waker);
        }
        shed
    }

    fn lend(&mut self, slot: SlotId, caller: Caller) {
        self.shift(slot, State::InUse);
        let slot = &mut self.slots[slot];
        slot.holder = Some(caller);
        slot.reported = false;
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
            reported: false,
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

    /// How many are to be open although nobody needs them. While the breaker is open that is one
    /// at least: it shows when the server is back.
    fn warm_size(&self) -> u32 {
        let probe = u32::from(self.outage.breaker_is_open());
        self.config.min_size.max(probe)
    }

    /// Slots that have a connection that is not being closed.
    fn existing(&self) -> u32 {
        self.open() - self.count(State::Connecting)
    }

    /// Slots that may still be opened.
    fn room(&self) -> u32 {
        self.config.capacity().saturating_sub(self.len())
    }

    fn len(&self) -> u32 {
        self.slots.len() as u32
    }
}

mod modes;
mod views;

#[cfg(test)]
mod tests;

#[cfg(test)]
mod model;
