//! The core against a plain model of it: the rules written down once more, in a few lists that are
//! counted afresh for every question. Invariant: after every step of a random history the two have
//! given the same answers, so a change of the core either keeps the rules or has to change them
//! here.
//!
//! Seen to fail when: the connection idle longest is taken; a line is served from its end; a connect
//! does not reckon with connections being cleaned, or a refusal with connects that may start; a
//! failure during a pause makes it longer, or a success does not end it; an outage is probed by many
//! connects, or a cold pool not warmed after one; idle connections are closed below the warm
//! minimum; one too many is kept; a lifetime is off by its last moment; the housekeeper is not told
//! what is due next; a drain refuses those in line; a slot forgets since when it is held.

use proptest::prelude::*;

use super::*;
use crate::waiters::{Left, Place, Ticket};

/// One connection, from the start of its connect to the end of its close.
struct Link {
    name: u32,
    state: State,
    since: Duration,
    expires: Duration,
    idle_since: Duration,
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
    Late,
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
    links: Vec<Link>,
    /// By name; the one that came back last is at the end.
    idle: Vec<u32>,
    /// First come, first here.
    line: Vec<Waiting>,
    given: Vec<(u32, Given)>,
    next_name: u32,
    next_round: Duration,
    failures: u32,
    pause_ends: Duration,
    has_error: bool,
    refused: u64,
    retired: [u64; Retired::ALL.len()],
}

impl Model {
    fn new(limits: Config) -> Self {
        Self {
            limits,
            mode: Mode::Open,
            now: Duration::ZERO,
            links: Vec::new(),
            idle: Vec::new(),
            line: Vec::new(),
            given: Vec::new(),
            next_name: 0,
            next_round: Duration::ZERO,
            failures: 0,
            pause_ends: Duration::ZERO,
            has_error: false,
            refused: 0,
            retired: [0; Retired::ALL.len()],
        }
    }

    fn link(&mut self, name: u32) -> &mut Link {
        self.links
            .iter_mut()
            .find(|link| link.name == name)
            .unwrap()
    }

    fn count(&self, state: State) -> usize {
        self.links.iter().filter(|link| link.state == state).count()
    }

    fn usable(&self) -> usize {
        self.links.len() - self.count(State::Closing)
    }

    fn set(&mut self, name: u32, state: State) {
        let now = self.now;
        let link = self.link(name);
        (link.state, link.since) = (state, now);
    }

    fn retire(&mut self, name: u32, reason: Retired) {
        self.set(name, State::Closing);
        self.retired[reason as usize] += 1;
    }

    /// One connect after the other, as long as someone has none coming or the pool is not warm.
    fn connects(&mut self) -> Vec<u32> {
        let mut started = Vec::new();
        let at_once = if self.failures == 0 {
            self.limits.connect_concurrency as usize
        } else {
            1
        };
        loop {
            let connecting = self.count(State::Connecting);
            let awaited = self.line.len() > connecting + self.count(State::Cleaning);
            let cold = self.mode == Mode::Open && self.usable() < self.limits.min_size as usize;
            let possible = !matches!(self.mode, Mode::Paused | Mode::Closed)
                && self.now >= self.pause_ends
                && connecting < at_once
                && self.links.len() < self.limits.capacity() as usize;
            if !possible || !(awaited || cold) {
                return started;
            }
            started.push(self.next_name);
            self.links.push(Link {
                name: self.next_name,
                state: State::Connecting,
                since: self.now,
                expires: Duration::MAX,
                idle_since: Duration::ZERO,
            });
            self.next_name += 1;
        }
    }

    fn takes_callers(&self) -> bool {
        matches!(self.mode, Mode::Open | Mode::Paused)
    }

    fn take(&mut self) -> Option<u32> {
        if self.mode == Mode::Paused {
            return None;
        }
        let name = self.idle.pop()?;
        self.set(name, State::InUse);
        Some(name)
    }

    fn join(&mut self, name: u32, deadline: Duration) -> Entered {
        if !self.takes_callers() {
            return Entered::Refused(Refusal::Closed);
        }
        if let Some(name) = self.take() {
            return Entered::Took(name);
        }
        if self.line.len() >= self.limits.max_waiters as usize + self.served_by_connects() {
            self.refused += 1;
            return Entered::Refused(Refusal::Full(None));
        }
        let joined = self.now;
        self.line.push(Waiting {
            name,
            joined,
            deadline,
        });
        let connects = self.connects().len();
        let wake_at = self.retry().unwrap_or(deadline).min(deadline);
        let is_next = wake_at < self.next_round;
        self.next_round = self.next_round.min(wake_at);
        Entered::Waits { connects, is_next }
    }

    /// Those for whom a connect is under way or can be.
    fn served_by_connects(&self) -> usize {
        let capacity = self.limits.capacity() as usize;
        self.count(State::Connecting) + capacity.saturating_sub(self.links.len())
    }

    fn collect(&mut self, caller: u32) -> Option<Given> {
        let at = self.given.iter().position(|(name, _)| *name == caller)?;
        Some(self.given.remove(at).1)
    }

    fn leave(&mut self, caller: u32) -> Option<Given> {
        self.line.retain(|waiting| waiting.name != caller);
        self.collect(caller)
    }

    fn place(&mut self, name: u32, origin: Origin) -> Placed {
        let (now, paused) = (self.now, self.mode == Mode::Paused);
        let expired = self.link(name).expires <= now;
        let reason = if expired {
            Retired::Lifetime
        } else if !self.line.is_empty() && !paused && self.is_too_many(self.limits.capacity()) {
            Retired::Overflow
        } else if !self.line.is_empty() && !paused {
            let fresh = origin == Origin::Connect;
            let first = self.line.remove(0).name;
            self.set(name, State::InUse);
            self.given.push((first, Given::Connection { name, fresh }));
            return Placed::HandedTo(first);
        } else if !self.takes_callers() {
            Retired::Closed
        } else if self.is_too_many(self.limits.max_size) {
            Retired::Overflow
        } else {
            self.set(name, State::Idle);
            if origin != Origin::Stack {
                self.link(name).idle_since = now;
            }
            self.idle.push(name);
            // Stable: among those idle since the same moment this one is on top.
            let links = &self.links;
            let idle_since = |name: &u32| {
                let link = links.iter().find(|link| link.name == *name);
                link.unwrap().idle_since
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
        self.link(name).expires = self.now + lifetime;
        let healed = std::mem::take(&mut self.has_error);
        (self.place(name, Origin::Connect), healed)
    }

    fn connect_failed(&mut self, name: u32) -> bool {
        self.free(name);
        if self.now >= self.pause_ends {
            let doubled = self.limits.backoff_base * 2u32.pow(self.failures.min(16));
            self.pause_ends = self.now + doubled.min(self.limits.backoff_max);
            self.failures += 1;
        }
        std::mem::replace(&mut self.has_error, true)
    }

    fn free(&mut self, name: u32) {
        self.links.retain(|link| link.name != name);
    }

    fn retry(&self) -> Option<Duration> {
        let cold = self.mode == Mode::Open && self.usable() < self.limits.min_size as usize;
        let awaited = self.mode != Mode::Paused && !self.line.is_empty();
        let held_up = self.pause_ends > self.now && (cold || awaited);
        held_up.then_some(self.pause_ends)
    }

    /// Time has come to `now`: who is to be closed, who is told that it is too late, and when to
    /// look again.
    fn pass(&mut self, now: Duration, round: Duration) -> (Vec<u32>, Vec<u32>, Duration) {
        self.now = now;
        let mut closed = Vec::new();
        for name in self.idle.clone() {
            let spare = self.usable() > self.limits.min_size as usize;
            let link = self.link(name);
            let (expires, rested) = (link.expires, now - link.idle_since);
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
        let (late, patient): (Vec<_>, Vec<_>) = std::mem::take(&mut self.line)
            .into_iter()
            .partition(|caller| caller.deadline <= now);
        self.line = patient;
        let late: Vec<_> = late.into_iter().map(|caller| caller.name).collect();
        self.given
            .extend(late.iter().map(|&name| (name, Given::Late)));
        let deadlines = self.line.iter().map(|caller| caller.deadline);
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
            while !self.line.is_empty() && !self.idle.is_empty() {
                let name = self.idle.pop().unwrap();
                placed.push(self.place(name, Origin::Stack));
            }
        }
        placed
    }

    /// The longest idle go, as far as more connections exist than there may be.
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

    fn lift(&mut self, name: u32) {
        self.idle.retain(|other| *other != name);
        self.set(name, State::Cleaning);
    }

    fn shut(&mut self, serve_line: bool) -> (Vec<Placed>, Vec<u32>) {
        let mut settled = Vec::new();
        if !serve_line {
            self.mode = Mode::Closed;
        } else if self.takes_callers() {
            settled = self.resume();
            self.mode = Mode::Draining;
        }
        for name in std::mem::take(&mut self.idle) {
            self.retire(name, Retired::Closed);
            settled.push(Placed::ToClose(name));
        }
        let mut refused = Vec::new();
        if self.mode == Mode::Closed {
            refused.extend(self.line.drain(..).map(|caller| caller.name));
        }
        self.given
            .extend(refused.iter().map(|&name| (name, Given::Closed)));
        (settled, refused)
    }

    fn census(&self) -> Census {
        let count = |state| self.count(state) as u32;
        Census {
            connecting: count(State::Connecting),
            idle: count(State::Idle),
            in_use: count(State::InUse),
            cleaning: count(State::Cleaning),
            closing: count(State::Closing),
            waiting: self.line.len() as u32,
        }
    }

    fn is_over(&self) -> bool {
        !self.takes_callers() && self.links.is_empty() && self.line.is_empty()
    }
}

/// The core and its model side by side, and what is outside of both.
struct Pair {
    core: Slots<u32, u32, &'static str>,
    model: Model,
    now: Duration,
    callers: u32,
    connecting: Vec<(u32, SlotId)>,
    held: Vec<Live<u32>>,
    cleaning: Vec<Live<u32>>,
    lifted: Vec<Live<u32>>,
    closing: Vec<(u32, SlotId)>,
    /// Of those who joined and have neither collected nor left.
    tickets: Vec<(u32, Ticket)>,
}

/// A step of a history; numbers choose among whatever is there at that moment.
#[derive(Clone, Debug)]
enum Step {
    Take,
    Join { patience: u64 },
    Collect(usize),
    Leave(usize),
    GiveBack(usize),
    Clean(usize),
    Cleaned(usize),
    Retire(usize),
    Closed(usize),
    Connected { which: usize, lifetime: u64 },
    ConnectFailed(usize),
    Pass(u64),
    Lift(usize),
    PutBack(usize),
    Pause,
    Resume,
    Resize { min: u32, max: u32, overflow: u32 },
    Shut { serve_line: bool },
}

/// In milliseconds; whole seconds, so that it often happens that two things are due at once.
fn seconds(range: std::ops::Range<u64>) -> impl Strategy<Value = u64> {
    range.prop_map(|seconds| seconds * 1_000)
}

fn step() -> impl Strategy<Value = Step> {
    let any = || 0usize..64;
    prop_oneof![
        8 => Just(Step::Take),
        10 => seconds(0..60).prop_map(|patience| Step::Join { patience }),
        6 => any().prop_map(Step::Collect),
        2 => any().prop_map(Step::Leave),
        6 => any().prop_map(Step::GiveBack),
        2 => any().prop_map(Step::Clean),
        2 => any().prop_map(Step::Cleaned),
        2 => any().prop_map(Step::Retire),
        3 => any().prop_map(Step::Closed),
        8 => (any(), seconds(1..90)).prop_map(|(which, lifetime)| Step::Connected { which, lifetime }),
        3 => any().prop_map(Step::ConnectFailed),
        3 => (0u64..8).prop_map(|steps| Step::Pass(steps * 25)),
        3 => seconds(0..30).prop_map(Step::Pass),
        2 => any().prop_map(Step::Lift),
        2 => any().prop_map(Step::PutBack),
        1 => Just(Step::Pause),
        3 => Just(Step::Resume),
        1 => (0u32..3, 1u32..4, 0u32..3)
            .prop_map(|(min, max, overflow)| Step::Resize { min: min.min(max), max, overflow }),
    ]
}

/// Some histories end with a drain or a close, and go on a little after it.
fn history() -> impl Strategy<Value = Vec<Step>> {
    let shut = prop::option::of(any::<bool>().prop_map(|serve_line| Step::Shut { serve_line }));
    let open = prop::collection::vec(step(), 0..120);
    let after = prop::collection::vec((step(), shut.clone()), 0..20);
    (open, shut, after).prop_map(|(mut steps, shut, after)| {
        if shut.is_some() {
            steps.extend(shut);
            let after = after.into_iter();
            steps.extend(after.flat_map(|(step, shut)| [Some(step), shut]).flatten());
        }
        steps
    })
}

#[track_caller]
fn caller() -> Caller {
    Caller::new(std::panic::Location::caller())
}

fn pick<T>(from: &mut Vec<T>, index: usize) -> Option<T> {
    (!from.is_empty()).then(|| from.remove(index % from.len()))
}

impl Pair {
    fn new(limits: Config) -> Self {
        Self {
            core: Slots::new(limits.clone()),
            model: Model::new(limits),
            now: Duration::ZERO,
            callers: 0,
            connecting: Vec::new(),
            held: Vec::new(),
            cleaning: Vec::new(),
            lifted: Vec::new(),
            closing: Vec::new(),
            tickets: Vec::new(),
        }
    }

    /// The core reserved these slots and the model says that it should have started as many.
    fn started(&mut self, slots: Vec<SlotId>, connects: usize) {
        assert_eq!(slots.len(), connects, "connects started");
        let names = self.model.next_name - connects as u32..;
        self.connecting.extend(names.zip(slots));
    }

    fn placed(&mut self, settled: Settled<u32, u32>) -> Placed {
        match settled {
            Settled::Idle { .. } => Placed::Idle,
            Settled::Handed { to, shed } => {
                assert!(shed.is_empty(), "nobody asked for shedding");
                Placed::HandedTo(to)
            }
            Settled::Retired(live) => {
                self.closing.push((live.connection, live.slot));
                Placed::ToClose(live.connection)
            }
        }
    }

    fn give_back(&mut self, live: Live<u32>) {
        let expected = self.model.place(live.connection, Origin::User);
        let settled = self.core.settle(live);
        assert_eq!(self.placed(settled), expected);
    }

    fn given(delivery: Delivery<u32>) -> (Given, Option<Live<u32>>) {
        match delivery {
            Delivery::Connection { live, fresh } => {
                let name = live.connection;
                (Given::Connection { name, fresh }, Some(live))
            }
            Delivery::Closed => (Given::Closed, None),
            Delivery::Late => (Given::Late, None),
            Delivery::Shed => panic!("nobody asked for shedding"),
        }
    }

    fn close(&mut self, lives: Vec<Live<u32>>) -> Vec<u32> {
        let named: Vec<_> = lives.into_iter().map(|l| (l.connection, l.slot)).collect();
        self.closing.extend(&named);
        named.into_iter().map(|(name, _)| name).collect()
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Take => {
                let taken = self.core.take(caller());
                let expected = self.model.take();
                assert_eq!(taken.as_ref().map(|(live, _)| live.connection), expected);
                if let Some((live, idle_for)) = taken {
                    let rested = self.now - self.model.link(live.connection).idle_since;
                    assert_eq!(idle_for, rested);
                    self.held.push(live);
                }
            }
            Step::Join { patience } => self.join(self.now + Duration::from_millis(patience)),
            Step::Collect(index) => {
                let Some((caller, ticket)) = pick(&mut self.tickets, index) else {
                    return;
                };
                let collected = self.core.collect(ticket, self.now).map(Self::given);
                let expected = self.model.collect(caller);
                let (given, live) = collected.unzip();
                assert_eq!(given, expected);
                self.held.extend(live.flatten());
                if given.is_none() {
                    self.tickets.push((caller, ticket));
                }
            }
            Step::Leave(index) => {
                let Some((caller, ticket)) = pick(&mut self.tickets, index) else {
                    return;
                };
                let (given, live) = match self.core.leave(ticket) {
                    Left::Queue(name) => {
                        assert_eq!(name, caller);
                        (None, None)
                    }
                    Left::Delivery(delivery) => {
                        let (given, live) = Self::given(delivery);
                        (Some(given), live)
                    }
                };
                assert_eq!(given, self.model.leave(caller));
                if let Some(live) = live {
                    self.give_back(live);
                }
            }
            Step::GiveBack(index) => {
                if let Some(live) = pick(&mut self.held, index) {
                    self.give_back(live);
                }
            }
            Step::Clean(index) => {
                if let Some(live) = pick(&mut self.held, index) {
                    self.core.start_cleaning(live.slot);
                    self.model.set(live.connection, State::Cleaning);
                    self.cleaning.push(live);
                }
            }
            Step::Cleaned(index) => {
                if let Some(live) = pick(&mut self.cleaning, index) {
                    self.give_back(live);
                }
            }
            Step::Retire(index) => {
                if let Some(live) = pick(&mut self.held, index) {
                    self.core.retire(live.slot, Retired::Discarded);
                    self.model.retire(live.connection, Retired::Discarded);
                    self.close(vec![live]);
                }
            }
            Step::Closed(index) => {
                if let Some((name, slot)) = pick(&mut self.closing, index) {
                    self.model.free(name);
                    let over = self.core.free(slot);
                    assert_eq!(over, self.model.is_over() || self.core.is_at_rest());
                }
            }
            Step::Connected { which, lifetime } => {
                if let Some((name, slot)) = pick(&mut self.connecting, which) {
                    let lifetime = Duration::from_millis(lifetime);
                    let took = Duration::ZERO;
                    let (expected, heals) = self.model.connected(name, lifetime);
                    let (settled, healed) =
                        self.core
                            .connected(slot, name, took, Some(lifetime), self.now);
                    assert_eq!(healed.is_some(), heals);
                    assert_eq!(self.placed(settled), expected);
                }
            }
            Step::ConnectFailed(index) => {
                if let Some((name, slot)) = pick(&mut self.connecting, index) {
                    let took = Duration::ZERO;
                    let failed = self
                        .core
                        .connect_failed(slot, "refused", took, 1.0, self.now);
                    assert_eq!(failed.previous.is_some(), self.model.connect_failed(name));
                }
            }
            Step::Pass(millis) => {
                self.now += Duration::from_millis(millis);
                let round = self.now + Duration::from_secs(1);
                let retired = self.core.tick(self.now);
                let late = self.core.expire(self.now);
                let next = self.core.schedule(round);
                let closed = self.close(retired);
                let (expected_closed, expected_late, exact) = self.model.pass(self.now, round);
                assert_eq!((closed, late), (expected_closed, expected_late));
                // Of deadlines the core remembers the earliest only, even when its caller has left.
                assert!(next <= exact, "{next:?} is later than {exact:?}");
                self.model.next_round = next;
            }
            Step::Lift(index) => {
                let slots = self.core.idle();
                if !slots.is_empty() {
                    let live = self.core.lift(slots[index % slots.len()]).unwrap();
                    self.model.lift(live.connection);
                    self.lifted.push(live);
                }
            }
            Step::PutBack(index) => {
                if let Some(live) = pick(&mut self.lifted, index) {
                    let expected = self.model.place(live.connection, Origin::Stack);
                    let settled = self.core.put_back(live);
                    assert_eq!(self.placed(settled), expected);
                }
            }
            Step::Pause => {
                self.core.pause();
                self.model.pause();
            }
            Step::Resume => {
                let settled = self.core.resume();
                let settled: Vec<_> = settled.into_iter().map(|one| self.placed(one)).collect();
                assert_eq!(settled, self.model.resume());
            }
            Step::Resize { min, max, overflow } => {
                let mut limits = self.core.config().clone();
                (limits.min_size, limits.max_size) = (min, max);
                limits.max_overflow = overflow;
                let excess = self.core.resize(limits.clone());
                let excess = self.close(excess);
                assert_eq!(excess, self.model.resize(limits));
            }
            Step::Shut { serve_line } => {
                let (settled, refused) = self.core.shut(serve_line);
                let settled: Vec<_> = settled.into_iter().map(|one| self.placed(one)).collect();
                assert_eq!((settled, refused), self.model.shut(serve_line));
            }
        }
    }

    fn join(&mut self, deadline: Duration) {
        self.callers += 1;
        let place = Place {
            caller: caller(),
            since: self.now,
            deadline,
        };
        let joined = self.core.join(self.callers, place, self.now);
        // A forecast is the business of its own tests; here, only that nobody is sent away by it
        // for whom there is room.
        if let Joined::Refused(Refusal::Hopeless(_), _) = joined {
            assert!(!self.model.line.is_empty() && self.model.served_by_connects() == 0);
            self.model.refused += 1;
            return;
        }
        let expected = self.model.join(self.callers, deadline);
        let entered = match joined {
            Joined::Taken(live, _) => {
                let name = live.connection;
                self.held.push(live);
                Entered::Took(name)
            }
            Joined::Queued {
                ticket,
                due,
                is_next,
                ..
            } => {
                self.tickets.push((self.callers, ticket));
                let connects = due.len();
                self.started(due, connects);
                Entered::Waits { connects, is_next }
            }
            Joined::Refused(Refusal::Full(_), _) => Entered::Refused(Refusal::Full(None)),
            Joined::Refused(refusal, _) => Entered::Refused(refusal),
        };
        assert_eq!(entered, expected);
    }

    fn compare(&mut self) {
        let (core, model) = (&self.core, &self.model);
        assert_eq!(core.census(), model.census());
        assert_eq!(core.is_over(), model.is_over());
        assert_eq!(core.is_open(), model.takes_callers());
        assert_eq!(core.failures(), model.failures);
        assert_eq!(core.last_error().is_some(), model.has_error);
        assert_eq!(core.tally().counts.retired, model.retired);
        assert_eq!(core.tally().counts.refused, model.refused);
        let longest_wait = model.line.first().map(|caller| self.now - caller.joined);
        assert_eq!(core.longest_wait(self.now), longest_wait);
        let in_use = model.links.iter().filter(|link| link.state == State::InUse);
        let longest_hold = in_use.map(|link| self.now - link.since).max();
        let oldest_holder = core.oldest_holder(self.now).map(|holder| holder.held);
        assert_eq!(oldest_holder, longest_hold);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn the_core_answers_as_its_model_does(
        (min, max, overflow) in (0u32..3, 1u32..4, 0u32..3),
        (max_waiters, connect_concurrency) in (0u32..4, 1u32..4),
        steps in history(),
    ) {
        let mut pair = Pair::new(Config {
            min_size: min.min(max),
            max_size: max,
            max_overflow: overflow,
            max_waiters,
            connect_concurrency,
            idle_timeout: Some(Duration::from_secs(20)),
            breaker_after: None,
            ..Config::default()
        });
        for step in &steps {
            pair.apply(step);
            // What the pool asks after whatever has happened.
            let connects = pair.model.connects().len();
            let due = pair.core.connects_due();
            pair.started(due, connects);
            pair.compare();
        }
    }
}
