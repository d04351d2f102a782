//! A plain model of the core: the same rules, written as a few lists that are counted afresh for every question.
//!
//! Invariant: after every step of a random history, the core and the model have given the same answers. A change of the
//! core's rules must be made here too.
//!
//! These mutations of the core made the test fail:
//! * idle: the connection that was idle longest is taken, or one of another runtime first; idle connections are closed
//!   below the warm minimum; one too many is kept; a lifetime ends a moment late;
//! * runtimes: filled one after the other; one gets a connection that the pool would not keep, or too early;
//! * queue: last in, first out; a connect ignores connections being cleaned; a refusal ignores connects that may start;
//! * outage: a failure during a backoff extends it; a success does not end it; many connects probe; a cold pool is not
//!   warmed after it;
//! * permanent failures: waiters stay with nothing open, or are refused with something open or during a pause;
//!   newcomers join; it is retried too soon, or not without callers;
//! * the maintenance task is not told its next deadline; a drain refuses waiters; a slot forgets since when it is held.

mod lockstep;

use super::{
    slot::Occupancy,
    wait_queue::{Joined, Refusal},
    *,
};

/// One connection, from the start of its connect to the end of its close.
struct ModelConnection {
    name: u32,
    state: State,
    since: Duration,
    expires: Duration,
    idle_since: Duration,
    runtime: RuntimeIndex,
    /// When it was opened; when the connect began, until then.
    opened: Duration,
    /// It is to be replaced.
    outdated: bool,
    uses: u64,
}

struct Waiting {
    name: u32,
    joined: Duration,
    deadline: Duration,
}

#[derive(Debug, PartialEq)]
enum Given {
    Connection { name: u32, fresh: bool },
    Closed,
    TimedOut,
    Permanent,
}

#[derive(Debug, PartialEq)]
enum Placed {
    Idle,
    HandedTo(u32),
    ToClose(u32),
}

#[derive(Debug, PartialEq)]
enum Entered {
    Took(u32),
    Waits { connects: usize, is_next: bool },
    Refused(Refusal),
}

/// The rules.
struct Model {
    limits: Config,
    mode: Mode,
    now: Duration,
    connections: Vec<ModelConnection>,
    runtimes: RuntimeIndex,
    /// For each runtime, how many callers took a connection of another one since the last round.
    misses: Vec<u32>,
    /// By name. The last one was released last.
    idle: Vec<u32>,
    /// In order of arrival.
    queue: Vec<Waiting>,
    given: Vec<(u32, Given)>,
    next_name: u32,
    next_round: Duration,
    failures: u32,
    pause_ends: Duration,
    has_error: bool,
    has_worked: bool,
    /// Since when every failure was permanent.
    permanent_since: Option<Duration>,
    is_permanent: bool,
    /// Connects that have succeeded since a caller found the queue empty.
    connects_since_empty: usize,
    refused: u64,
    retired: [u64; Retired::ALL.len()],
}

impl Model {
    fn new(limits: Config, runtimes: RuntimeIndex) -> Self {
        Self {
            limits,
            mode: Mode::Open,
            now: Duration::ZERO,
            connections: Vec::new(),
            runtimes,
            misses: vec![0; runtimes],
            idle: Vec::new(),
            queue: Vec::new(),
            given: Vec::new(),
            next_name: 0,
            next_round: Duration::ZERO,
            failures: 0,
            pause_ends: Duration::ZERO,
            has_error: false,
            has_worked: false,
            permanent_since: None,
            is_permanent: false,
            connects_since_empty: 0,
            refused: 0,
            retired: [0; Retired::ALL.len()],
        }
    }

    fn connection(&mut self, name: u32) -> &mut ModelConnection {
        self.connections
            .iter_mut()
            .find(|connection| connection.name == name)
            .unwrap()
    }

    fn count(&self, state: State) -> usize {
        self.connections
            .iter()
            .filter(|connection| connection.state == state)
            .count()
    }

    fn usable(&self) -> usize {
        self.connections.len() - self.count(State::Closing)
    }

    fn set(&mut self, name: u32, state: State) {
        let now = self.now;
        let connection = self.connection(name);
        (connection.state, connection.since) = (state, now);
        connection.uses += u64::from(state == State::InUse);
    }

    fn retire(&mut self, name: u32, reason: Retired) {
        self.set(name, State::Closing);
        self.retired[reason as usize] += 1;
    }

    /// One connect after the other, while a waiter needs one or the pool is not warm.
    fn connects(&mut self) -> Vec<u32> {
        let mut started = Vec::new();
        loop {
            let connecting = self.count(State::Connecting);
            // While connections are in use, growth is limited.
            let growth = match self.count(State::InUse) {
                0 => usize::MAX,
                _ => 1 + self.connects_since_empty,
            };
            let awaited = self.queue.len() > connecting + self.count(State::Cleaning) && connecting < growth;
            let cold = self.is_cold();
            let possible = !matches!(self.mode, Mode::Paused | Mode::Closed) && self.may_connect();
            if !possible || !(awaited || cold) {
                return started;
            }
            started.push(self.connect(self.least_loaded_runtime()));
        }
    }

    /// Fewer connections are open than the warm minimum.
    fn is_cold(&self) -> bool {
        let probe = usize::from(self.fails_permanently());
        let warm = (self.limits.warm() as usize).max(probe);
        self.mode == Mode::Open && self.usable() < warm
    }

    /// Connects fail permanently, and nothing is open that could be released.
    fn fails_permanently(&self) -> bool {
        let nothing_open = self.usable() == self.count(State::Connecting);
        self.is_permanent && nothing_open && self.mode != Mode::Paused
    }

    fn may_connect(&self) -> bool {
        let at_once = if self.failures == 0 {
            self.limits.connect_concurrency as usize
        } else {
            1
        };
        self.now >= self.pause_ends
            && self.count(State::Connecting) < at_once
            && self.connections.len() < self.limits.capacity() as usize
    }

    fn connect(&mut self, runtime: RuntimeIndex) -> u32 {
        let name = self.next_name;
        self.connections.push(ModelConnection {
            name,
            state: State::Connecting,
            since: self.now,
            expires: Duration::MAX,
            idle_since: Duration::ZERO,
            runtime,
            opened: self.now,
            outdated: false,
            uses: 0,
        });
        self.next_name += 1;
        name
    }

    /// One for each runtime whose callers missed sixteen times, while the pool would keep it.
    fn connects_for_affinity(&mut self) -> Vec<u32> {
        let mut started = Vec::new();
        for runtime in 0..self.runtimes {
            let times = std::mem::take(&mut self.misses[runtime]);
            let keeps = self.usable() < self.limits.max_size as usize;
            if times >= 16 && self.mode == Mode::Open && keeps && self.may_connect() {
                started.push(self.connect(runtime));
            }
        }
        started
    }

    fn takes_callers(&self) -> bool {
        matches!(self.mode, Mode::Open | Mode::Paused)
    }

    fn runtime(&self, any: RuntimeIndex) -> RuntimeIndex {
        any % self.runtimes
    }

    /// The first of those with the fewest connections.
    fn least_loaded_runtime(&self) -> RuntimeIndex {
        let in_home = |runtime: &RuntimeIndex| {
            self.connections
                .iter()
                .filter(|connection| connection.runtime == *runtime)
                .count()
        };
        (0..self.runtimes).min_by_key(in_home).unwrap()
    }

    fn take(&mut self, runtime: RuntimeIndex) -> Option<u32> {
        if self.mode == Mode::Paused {
            return None;
        }
        let at_home = |name: &u32| {
            let connection = self.connections.iter().find(|connection| connection.name == *name);
            connection.unwrap().runtime == runtime
        };
        let near = self.idle.iter().rposition(at_home);
        let at = near.or(self.idle.len().checked_sub(1))?;
        if near.is_none() {
            self.misses[runtime] += 1;
        }
        let name = self.idle.remove(at);
        self.set(name, State::InUse);
        Some(name)
    }

    fn join(&mut self, name: u32, runtime: RuntimeIndex, deadline: Duration) -> Entered {
        if !self.takes_callers() {
            return Entered::Refused(Refusal::Closed);
        }
        if let Some(name) = self.take(runtime) {
            return Entered::Took(name);
        }
        if self.mode == Mode::Open && self.fails_permanently() {
            self.refused += 1;
            return Entered::Refused(Refusal::Permanent(Duration::ZERO));
        }
        if self.queue.is_empty() {
            self.connects_since_empty = 0;
        }
        if self.queue.len() >= self.limits.max_waiters as usize + self.served_by_connects() {
            self.refused += 1;
            return Entered::Refused(Refusal::Full(None));
        }
        let joined = self.now;
        self.queue.push(Waiting { name, joined, deadline });
        let connects = self.connects().len();
        let wake_at = self.retry().unwrap_or(deadline).min(deadline);
        let is_next = wake_at < self.next_round;
        self.next_round = self.next_round.min(wake_at);
        Entered::Waits { connects, is_next }
    }

    /// How many waiters a connect serves, under way or possible.
    fn served_by_connects(&self) -> usize {
        let capacity = self.limits.capacity() as usize;
        self.count(State::Connecting) + capacity.saturating_sub(self.connections.len())
    }

    fn collect(&mut self, caller: u32) -> Option<Given> {
        let at = self.given.iter().position(|(name, _)| *name == caller)?;
        Some(self.given.remove(at).1)
    }

    fn leave(&mut self, caller: u32) -> Option<Given> {
        self.queue.retain(|waiting| waiting.name != caller);
        self.collect(caller)
    }

    fn assign(&mut self, name: u32, source: Source) -> Placed {
        let (now, paused) = (self.now, self.mode == Mode::Paused);
        let expired = self.connection(name).expires <= now;
        let reason = if self.connection(name).outdated {
            Retired::Replaced
        } else if expired {
            Retired::Lifetime
        } else if !self.queue.is_empty() && !paused && self.is_too_many(self.limits.capacity()) {
            Retired::Overflow
        } else if !self.queue.is_empty() && !paused {
            let fresh = source == Source::Connect;
            let first = self.queue.remove(0).name;
            self.set(name, State::InUse);
            self.given.push((first, Given::Connection { name, fresh }));
            return Placed::HandedTo(first);
        } else if !self.takes_callers() {
            Retired::Closed
        } else if self.is_too_many(self.limits.max_size) {
            Retired::Overflow
        } else {
            self.set(name, State::Idle);
            if source != Source::IdleStack {
                self.connection(name).idle_since = now;
            }
            self.idle.push(name);
            // The sort is stable: of those idle since the same time, this one is on top.
            let connections = &self.connections;
            let idle_since = |name: &u32| {
                let connection = connections.iter().find(|connection| connection.name == *name);
                connection.unwrap().idle_since
            };
            self.idle.sort_by_key(idle_since);
            return Placed::Idle;
        };
        self.retire(name, reason);
        Placed::ToClose(name)
    }

    fn is_too_many(&self, limit: u32) -> bool {
        self.usable() > limit as usize
    }

    fn connected(&mut self, name: u32, lifetime: Duration) -> (Placed, bool) {
        (self.failures, self.pause_ends) = (0, Duration::ZERO);
        (self.has_worked, self.permanent_since) = (true, None);
        self.is_permanent = false;
        let now = self.now;
        let connection = self.connection(name);
        (connection.opened, connection.expires) = (now, now + lifetime);
        self.connects_since_empty += 1;
        let healed = std::mem::take(&mut self.has_error);
        (self.assign(name, Source::Connect), healed)
    }

    /// Returns whether connects had failed before, and the refused waiters.
    fn connect_failed(&mut self, name: u32, is_permanent: bool) -> (bool, Vec<u32>) {
        self.free(name);
        let since = self.permanent_since.unwrap_or(self.now);
        self.permanent_since = is_permanent.then_some(since);
        let long_enough = self.now - since >= self.limits.backoff_permanent;
        self.is_permanent = is_permanent && (!self.has_worked || long_enough);
        if self.now >= self.pause_ends {
            let doubled = self.limits.backoff_base * 2u32.pow(self.failures.min(16));
            self.pause_ends = self.now
                + match self.is_permanent {
                    true => self.limits.backoff_permanent,
                    false => doubled.min(self.limits.longest_pause()),
                };
            self.failures += 1;
        }
        let mut refused = Vec::new();
        if self.fails_permanently() {
            refused.extend(self.queue.drain(..).map(|caller| caller.name));
            self.refused += refused.len() as u64;
            self.given.extend(refused.iter().map(|&name| (name, Given::Permanent)));
        }
        (std::mem::replace(&mut self.has_error, true), refused)
    }

    fn free(&mut self, name: u32) {
        self.connections.retain(|connection| connection.name != name);
    }

    fn retry(&self) -> Option<Duration> {
        let awaited = self.mode != Mode::Paused && !self.queue.is_empty();
        let held_up = self.pause_ends > self.now && (self.is_cold() || awaited);
        held_up.then_some(self.pause_ends)
    }

    /// Advances to `now`. Returns the connections to close, the waiters that timed out, and when to wake next.
    fn pass(&mut self, now: Duration, round: Duration) -> (Vec<u32>, Vec<u32>, Duration) {
        self.now = now;
        let mut closed = Vec::new();
        for name in self.idle.clone() {
            let spare = self.usable() > self.limits.warm() as usize;
            let connection = self.connection(name);
            let (expires, rested) = (connection.expires, now - connection.idle_since);
            let reason = if expires <= now {
                Retired::Lifetime
            } else if spare && self.limits.idle_timeout.is_some_and(|most| rested >= most) {
                Retired::Idle
            } else {
                continue;
            };
            self.idle.retain(|other| *other != name);
            self.retire(name, reason);
            closed.push(name);
        }
        let (late, patient): (Vec<_>, Vec<_>) = std::mem::take(&mut self.queue)
            .into_iter()
            .partition(|caller| caller.deadline <= now);
        self.queue = patient;
        let late: Vec<_> = late.into_iter().map(|caller| caller.name).collect();
        self.given.extend(late.iter().map(|&name| (name, Given::TimedOut)));
        let deadlines = self.queue.iter().map(|caller| caller.deadline);
        let next = deadlines.chain(self.retry()).chain([round]).min();
        self.next_round = next.unwrap();
        (closed, late, self.next_round)
    }

    fn pause(&mut self) {
        if self.mode == Mode::Open {
            self.mode = Mode::Paused;
        }
    }

    fn resume(&mut self) -> Vec<Placed> {
        let mut placed = Vec::new();
        if self.mode == Mode::Paused {
            self.mode = Mode::Open;
            while !self.queue.is_empty() && !self.idle.is_empty() {
                let name = self.idle.pop().unwrap();
                placed.push(self.assign(name, Source::IdleStack));
            }
        }
        placed
    }

    /// Closes those that were idle longest, while too many exist.
    fn resize(&mut self, limits: Config) -> Vec<u32> {
        self.limits = limits;
        let existing = self.usable() - self.count(State::Connecting);
        let excess = existing.saturating_sub(self.limits.max_size as usize);
        let excess: Vec<_> = self.idle.drain(..excess.min(self.idle.len())).collect();
        for &name in &excess {
            self.retire(name, Retired::Overflow);
        }
        excess
    }

    /// Closes the idle ones, and has the others closed when they come back.
    fn replace_all(&mut self) -> Vec<u32> {
        let idle = std::mem::take(&mut self.idle);
        for &name in &idle {
            self.retire(name, Retired::Replaced);
        }
        for connection in &mut self.connections {
            connection.outdated = true;
        }
        idle
    }

    fn begin_inspection(&mut self, name: u32) {
        self.idle.retain(|other| *other != name);
        self.set(name, State::Cleaning);
    }

    fn shut(&mut self, serve_waiters: bool) -> (Vec<Placed>, Vec<u32>) {
        let mut released = Vec::new();
        if !serve_waiters {
            self.mode = Mode::Closed;
        } else if self.takes_callers() {
            released = self.resume();
            self.mode = Mode::Draining;
        }
        for name in std::mem::take(&mut self.idle) {
            self.retire(name, Retired::Closed);
            released.push(Placed::ToClose(name));
        }
        let mut refused = Vec::new();
        if self.mode == Mode::Closed {
            refused.extend(self.queue.drain(..).map(|caller| caller.name));
        }
        self.given.extend(refused.iter().map(|&name| (name, Given::Closed)));
        (released, refused)
    }

    fn occupancy(&self) -> Occupancy {
        let count = |state| self.count(state) as u32;
        Occupancy {
            connecting: count(State::Connecting),
            idle: count(State::Idle),
            in_use: count(State::InUse),
            cleaning: count(State::Cleaning),
            closing: count(State::Closing),
            waiting: self.queue.len() as u32,
        }
    }

    fn is_terminated(&self) -> bool {
        !self.takes_callers() && self.connections.is_empty() && self.queue.is_empty()
    }
}
