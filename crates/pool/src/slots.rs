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
    holder::{Caller, HomeId},
    outage::Outage,
    runtime::RuntimeId,
    stats::Retired,
    tally::Tally,
    waiters::Waiters,
};

mod ageing;
mod connects;
mod homes;
mod line;
mod modes;
mod moves;
mod views;

use homes::Home;
pub(crate) use line::{Joined, Refusal};

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
    /// With the cleaner, or taken from the idle stack to be looked at. Ends in `Idle`, `InUse` or
    /// `Closing`.
    Cleaning,
    /// Being closed. Ends free, once that is confirmed or was waited for long enough.
    Closing,
    /// Its connect, cleaning or close is on a runtime that nobody runs. Does not count. Ends free or in `Closing` when
    /// that goes on or is dropped after all.
    Abandoned,
}

const STATES: usize = 6;

struct Slot {
    state: State,
    since: Duration,
    /// Who asked for the connection, while it is in use.
    holder: Option<Caller>,
    /// Whether it was warned that this holder has had it for too long.
    reported: bool,
    /// Where its connection lives.
    home: HomeId,
    /// What its connection needs is gone, so it is not to be used again.
    lost: bool,
}

/// An open connection with its slot. It is always in exactly one place: the idle stack, on its way to
/// a caller in line, a guard, or a task that cleans it.
pub(crate) struct Live<C> {
    pub(crate) slot: SlotId,
    pub(crate) connection: C,
    expires: Duration,
    idle_since: Duration,
    /// When it was last known to work. `MAX`: it was opened for a caller in line.
    pub(crate) proven: Duration,
    /// What its last inspection found says nothing.
    pub(crate) unknown: bool,
    /// A user has doubts about it.
    pub(crate) suspect: bool,
}

impl<C> Live<C> {
    /// Whether it was opened for a caller in line, and nobody has had it yet.
    pub(crate) fn is_fresh(&self) -> bool {
        self.proven == Duration::MAX
    }
}

/// What became of a connection that its user, its cleaner or its connect let go of.
pub(crate) enum Settled<C, W> {
    /// Kept. `at_rest` if that was what a paused pool was waiting for.
    Idle { at_rest: bool },
    /// It is for this caller, who is no longer in line. Some before it gave way, so that the others
    /// wait less.
    Handed { to: W, live: Live<C>, shed: Vec<W> },
    /// Its slot is closing: close it.
    Retired(Live<C>),
    /// The same, but its runtime is gone: it cannot be closed in good order.
    Lost(Live<C>),
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

/// The state machine. `C` is a connection, `W` is where a caller in line is given what it waits for,
/// `F` says why a connect failed.
pub(crate) struct Slots<C, W, F> {
    /// Here the limits are those of now.
    config: Config,
    mode: Mode,
    slots: Slab<Slot>,
    count: [u32; STATES],
    homes: Box<[Home]>,
    idle: Vec<Live<C>>,
    waiters: Waiters<W>,
    now: Duration,
    /// When the housekeeper will look again by itself.
    next_round: Duration,
    /// When to look next whether a newcomer's task holds a connection, and when to say so next.
    next_nested_look: Duration,
    next_nested_warning: Duration,
    /// Connects that have succeeded since the line was empty.
    grown: u32,
    outage: Outage<F>,
    forecast: Forecast,
    codel: Option<Codel>,
    /// When a caller was last refused or shed because too many wait.
    overloaded: Option<Duration>,
    tally: Tally,
    /// Where the housekeeper has been from the start. `None` if it has moved. Here, because callers in line ask.
    kept_on: Option<RuntimeId>,
}

impl<C, W, F: Clone> Slots<C, W, F> {
    pub(crate) fn new(config: Config, homes: usize) -> Self {
        Self {
            mode: Mode::Open,
            slots: Slab::with_capacity(config.capacity().min(1024) as usize),
            count: [0; STATES],
            homes: vec![Home::default(); homes].into(),
            idle: Vec::with_capacity(config.max_size.min(1024) as usize),
            waiters: Waiters::new(),
            now: Duration::ZERO,
            next_round: Duration::ZERO,
            next_nested_look: Duration::ZERO,
            next_nested_warning: Duration::ZERO,
            grown: 0,
            outage: Outage::new(&config),
            forecast: Forecast::default(),
            codel: config.shed_target.map(Codel::new),
            overloaded: None,
            tally: Tally::default(),
            kept_on: None,
            config,
        }
    }

    /// Takes the connection that was idle for the shortest time, one of the caller's home before others, and says for
    /// how long it was.
    pub(crate) fn take(&mut self, caller: Caller) -> Option<(Live<C>, Duration)> {
        if self.mode == Mode::Paused {
            return None;
        }
        let live = self.pop_idle(caller.home)?;
        self.lend(live.slot, caller);
        self.tally.counts.acquired_at_once += 1;
        let idle_for = self.now.saturating_sub(live.idle_since);
        Some((live, idle_for))
    }

    /// Lets go of a clean connection that was in use or being cleaned. The time matters only if
    /// someone was in line already.
    pub(crate) fn settle(&mut self, live: Live<C>, now: Option<Duration>) -> Settled<C, W> {
        if let Some(now) = now {
            self.advance(now);
        }
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
    pub(crate) fn put_back(&mut self, live: Live<C>, now: Duration) -> Settled<C, W> {
        self.advance(now);
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

    /// Hands a connection to the next in line, keeps it, or has it closed.
    fn place(&mut self, mut live: Live<C>, origin: Origin) -> Settled<C, W> {
        let slot = live.slot;
        if self.slots[slot].lost {
            self.retire(slot, Retired::Broken);
            return Settled::Lost(live);
        }
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
    #[inline(never)] // seldom, and large: on the way of a connection that nobody waits for it only costs
    fn hand_over(&mut self, mut live: Live<C>, fresh: bool) -> Settled<C, W> {
        let shed = self.shed();
        let Some((to, place)) = self.waiters.next() else {
            unreachable!("the last in line is never shed");
        };
        self.lend(live.slot, place.caller);
        self.forecast.served(1, self.now);
        if fresh {
            live.proven = Duration::MAX;
        }
        let times = match fresh {
            true => &mut self.tally.connecting_times,
            false => &mut self.tally.waiting_times,
        };
        times.record(self.now.saturating_sub(place.since));
        Settled::Handed { to, live, shed }
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

    fn reserve(&mut self, home: HomeId) -> SlotId {
        self.count[State::Connecting as usize] += 1;
        self.homes[home].slots += 1;
        self.slots.insert(Slot {
            state: State::Connecting,
            since: self.now,
            holder: None,
            reported: false,
            home,
            lost: false,
        })
    }

    fn remove(&mut self, slot: SlotId) {
        let slot = self.slots.remove(slot);
        self.count[slot.state as usize] -= 1;
        self.homes[slot.home].slots -= 1;
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

    /// Slots that have a connection that is not being closed.
    fn existing(&self) -> u32 {
        self.open() - self.count(State::Connecting)
    }

    /// Slots that may still be opened.
    fn room(&self) -> u32 {
        self.config.capacity().saturating_sub(self.len())
    }

    fn len(&self) -> u32 {
        self.slots.len() as u32 - self.count(State::Abandoned)
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod model;
