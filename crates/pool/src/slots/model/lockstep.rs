//! Random histories of the core and its model side by side. Invariant: both are asked the same questions.

use proptest::prelude::*;

use super::*;
use crate::{
    outage::Failure,
    waiters::{Ticket, Waiter},
};

/// The core and its model, and the state outside of both.
struct Pair {
    core: Slots<u32, u32, &'static str>,
    model: Model,
    now: Duration,
    callers: u32,
    connecting: Vec<(u32, SlotId)>,
    held: Vec<Live<u32>>,
    cleaning: Vec<Live<u32>>,
    inspected: Vec<Live<u32>>,
    closing: Vec<(u32, SlotId)>,
    /// Of callers that have joined and neither collected nor left.
    tickets: Vec<(u32, Ticket)>,
    /// Deliveries that are not collected yet.
    given: Vec<(u32, Given, Option<Live<u32>>)>,
}

/// A step of a history. Numbers choose among the possible objects, modulo their number.
#[derive(Clone, Debug)]
enum Step {
    Take {
        runtime: RuntimeIndex,
    },
    /// Takes and releases a connection, this many times.
    Use(RuntimeIndex, u32),
    Join {
        runtime: RuntimeIndex,
        patience: u64,
    },
    Collect(usize),
    Leave(usize),
    GiveBack(usize),
    Clean(usize),
    Cleaned(usize),
    Retire(usize),
    Closed(usize),
    Connected {
        which: usize,
        lifetime: u64,
    },
    ConnectFailed {
        which: usize,
        is_permanent: bool,
    },
    Pass(u64),
    BeginInspection(usize),
    EndInspection(usize),
    Detach(usize),
    ReplaceAll,
    Pause,
    Resume,
    OpenForAffinity,
    Resize {
        min: u32,
        max: u32,
        overflow: u32,
    },
    Shut {
        serve_waiters: bool,
    },
}

/// Milliseconds of whole seconds, so that two events are often due at the same time.
fn seconds(range: std::ops::Range<u64>) -> impl Strategy<Value = u64> {
    range.prop_map(|seconds| seconds * 1_000)
}

/// Modulo the number of runtimes.
fn runtime() -> impl Strategy<Value = RuntimeIndex> {
    0usize..3
}

fn step() -> impl Strategy<Value = Step> {
    let which = || 0usize..64;
    prop_oneof![
        8 => runtime().prop_map(|runtime| Step::Take { runtime }),
        3 => (runtime(), 1u32..20).prop_map(|(runtime, times)| Step::Use(runtime, times)),
        10 => (runtime(), seconds(0..60)).prop_map(|(runtime, patience)| Step::Join { runtime, patience }),
        6 => which().prop_map(Step::Collect),
        2 => which().prop_map(Step::Leave),
        6 => which().prop_map(Step::GiveBack),
        2 => which().prop_map(Step::Clean),
        2 => which().prop_map(Step::Cleaned),
        2 => which().prop_map(Step::Retire),
        3 => which().prop_map(Step::Closed),
        8 => (which(), seconds(1..90)).prop_map(|(which, lifetime)| Step::Connected { which, lifetime }),
        3 => (which(), any::<bool>())
            .prop_map(|(which, is_permanent)| Step::ConnectFailed { which, is_permanent }),
        3 => (0u64..8).prop_map(|steps| Step::Pass(steps * 25)),
        3 => seconds(0..30).prop_map(Step::Pass),
        2 => which().prop_map(Step::BeginInspection),
        2 => which().prop_map(Step::EndInspection),
        1 => which().prop_map(Step::Detach),
        1 => Just(Step::ReplaceAll),
        1 => Just(Step::Pause),
        3 => Just(Step::Resume),
        3 => Just(Step::OpenForAffinity),
        1 => (0u32..3, 1u32..4, 0u32..3)
            .prop_map(|(min, max, overflow)| Step::Resize { min: min.min(max), max, overflow }),
    ]
}

/// Some histories have a drain or a close, and go on a little after it.
fn history() -> impl Strategy<Value = Vec<Step>> {
    let shut = prop::option::of(any::<bool>().prop_map(|serve_waiters| Step::Shut { serve_waiters }));
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
fn caller(runtime: RuntimeIndex) -> Caller {
    Caller::new(std::panic::Location::caller(), runtime)
}

fn pick<T>(from: &mut Vec<T>, index: usize) -> Option<T> {
    (!from.is_empty()).then(|| from.remove(index % from.len()))
}

impl Pair {
    fn new(limits: Config, runtimes: RuntimeIndex) -> Self {
        Self {
            core: Slots::new(limits.clone(), runtimes),
            model: Model::new(limits, runtimes),
            now: Duration::ZERO,
            callers: 0,
            connecting: Vec::new(),
            held: Vec::new(),
            cleaning: Vec::new(),
            inspected: Vec::new(),
            closing: Vec::new(),
            tickets: Vec::new(),
            given: Vec::new(),
        }
    }

    /// The core has reserved these slots, and the model this many connects.
    fn started(&mut self, slots: Vec<SlotId>, connects: usize) {
        assert_eq!(slots.len(), connects, "connects started");
        let names = self.model.next_name - connects as u32..;
        self.connecting.extend(names.zip(slots));
    }

    fn placed(&mut self, released: Released<u32, u32>, source: Source) -> Placed {
        match released {
            Released::Idle { .. } => Placed::Idle,
            Released::Handed { to, live, shed } => {
                assert!(shed.is_empty(), "shedding is off");
                let (name, fresh) = (live.connection, source == Source::Connect);
                let given = Given::Connection { name, fresh };
                self.given.push((to, given, Some(live)));
                Placed::HandedTo(to)
            }
            Released::Retired(live) | Released::Lost(live) => {
                self.closing.push((live.connection, live.slot));
                Placed::ToClose(live.connection)
            }
        }
    }

    /// Likewise for connections that were idle.
    fn all_placed(&mut self, released: Vec<Released<u32, u32>>) -> Vec<Placed> {
        let placed = released.into_iter().map(|one| self.placed(one, Source::IdleStack));
        placed.collect()
    }

    fn release(&mut self, live: Live<u32>) {
        let expected = self.model.assign(live.connection, Source::User);
        let released = self.core.release(live, Some(self.now));
        assert_eq!(self.placed(released, Source::User), expected);
    }

    /// Notes what the core told waiters that it refused.
    fn refuse(&mut self, callers: &[u32], why: fn() -> Given) {
        let deliveries = callers.iter().map(|&name| (name, why(), None));
        self.given.extend(deliveries);
    }

    /// Takes the delivery that a caller has not collected.
    fn take_given(&mut self, caller: u32) -> Option<(Given, Option<Live<u32>>)> {
        let at = self.given.iter().position(|(name, ..)| *name == caller)?;
        let (_, given, live) = self.given.remove(at);
        Some((given, live))
    }

    fn close(&mut self, lives: Vec<Live<u32>>) -> Vec<u32> {
        let named: Vec<_> = lives.into_iter().map(|l| (l.connection, l.slot)).collect();
        self.closing.extend(&named);
        named.into_iter().map(|(name, _)| name).collect()
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Take { runtime } => {
                let taken = self.take(runtime);
                self.held.extend(taken);
            }
            Step::Use(runtime, times) => {
                for _ in 0..times {
                    if let Some(live) = self.take(runtime) {
                        self.release(live);
                    }
                }
            }
            Step::Join { runtime, patience } => {
                let deadline = self.now + Duration::from_millis(patience);
                self.join(self.model.runtime(runtime), deadline);
            }
            Step::OpenForAffinity => {
                let connects = self.model.connects_for_affinity().len();
                let due = self.core.connects_for_affinity();
                self.started(due, connects);
            }
            Step::Collect(index) => {
                let Some((caller, ticket)) = pick(&mut self.tickets, index) else {
                    return;
                };
                let expected = self.model.collect(caller);
                let (given, live) = self.take_given(caller).unzip();
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
                let left = self.core.leave(ticket);
                let (given, live) = self.take_given(caller).unzip();
                // A caller either waits or has a delivery.
                assert_eq!(left, given.is_none().then_some(caller));
                assert_eq!(given, self.model.leave(caller));
                if let Some(live) = live.flatten() {
                    self.release(live);
                }
            }
            Step::GiveBack(index) => {
                if let Some(live) = pick(&mut self.held, index) {
                    self.release(live);
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
                    self.release(live);
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
                    assert_eq!(over, self.model.is_terminated() || self.core.is_quiesced());
                }
            }
            Step::Connected { which, lifetime } => {
                if let Some((name, slot)) = pick(&mut self.connecting, which) {
                    let lifetime = Duration::from_millis(lifetime);
                    let opened = Opened {
                        connection: name,
                        peer: None,
                        took: Duration::ZERO,
                        lifetime: Some(lifetime),
                    };
                    let (expected, heals) = self.model.connected(name, lifetime);
                    let (released, healed) = self.core.connected(slot, opened, self.now);
                    assert_eq!(healed.is_some(), heals);
                    assert_eq!(self.placed(released, Source::Connect), expected);
                }
            }
            Step::ConnectFailed { which, is_permanent } => {
                if let Some((name, slot)) = pick(&mut self.connecting, which) {
                    let failure = Failure {
                        error: "refused",
                        is_permanent,
                        jitter: 1.0,
                    };
                    let took = Duration::ZERO;
                    let (effect, refused) = self.core.connect_failed(slot, failure, took, self.now);
                    self.refuse(&refused, || Given::Permanent);
                    let expected = self.model.connect_failed(name, is_permanent);
                    assert_eq!((effect.previous.is_some(), refused), expected);
                }
            }
            Step::Pass(millis) => {
                self.now += Duration::from_millis(millis);
                let round = self.now + Duration::from_secs(1);
                let retired = self.core.tick(self.now);
                let late = self.core.expire(self.now);
                let next = self.core.schedule(round);
                let closed = self.close(retired);
                self.refuse(&late, || Given::TimedOut);
                let (expected_closed, expected_late, exact) = self.model.pass(self.now, round);
                assert_eq!((closed, late), (expected_closed, expected_late));
                // The core remembers only the earliest deadline, even after its caller has left.
                assert!(next <= exact, "{next:?} is later than {exact:?}");
                self.model.next_round = next;
            }
            Step::BeginInspection(index) => {
                let slots = self.core.idle();
                if !slots.is_empty() {
                    let live = self.core.begin_inspection(slots[index % slots.len()]).unwrap();
                    self.model.begin_inspection(live.connection);
                    self.inspected.push(live);
                }
            }
            Step::EndInspection(index) => {
                if let Some(live) = pick(&mut self.inspected, index) {
                    let expected = self.model.assign(live.connection, Source::IdleStack);
                    let released = self.core.end_inspection(live, self.now);
                    assert_eq!(self.placed(released, Source::IdleStack), expected);
                }
            }
            Step::Detach(index) => {
                if let Some(live) = pick(&mut self.held, index) {
                    let over = self.core.detach(live.slot);
                    self.model.retire(live.connection, Retired::Detached);
                    self.model.free(live.connection);
                    assert_eq!(over, self.model.is_terminated() || self.core.is_quiesced());
                }
            }
            Step::ReplaceAll => {
                let idle = self.core.replace_all(self.now);
                let idle = self.close(idle);
                assert_eq!(idle, self.model.replace_all());
            }
            Step::Pause => {
                self.core.pause();
                self.model.pause();
            }
            Step::Resume => {
                let released = self.core.resume(self.now);
                let released = self.all_placed(released);
                assert_eq!(released, self.model.resume());
            }
            Step::Resize { min, max, overflow } => {
                let mut limits = self.core.config().clone();
                (limits.min_size, limits.max_size) = (Some(min), max);
                limits.max_overflow = overflow;
                let excess = self.core.resize(limits.clone());
                let excess = self.close(excess);
                assert_eq!(excess, self.model.resize(limits));
            }
            Step::Shut { serve_waiters } => {
                let (released, refused) = self.core.shut(serve_waiters, self.now);
                let released = self.all_placed(released);
                self.refuse(&refused, || Given::Closed);
                assert_eq!((released, refused), self.model.shut(serve_waiters));
            }
        }
    }

    fn take(&mut self, runtime: RuntimeIndex) -> Option<Live<u32>> {
        let runtime = self.model.runtime(runtime);
        let taken = self.core.take(caller(runtime));
        let expected = self.model.take(runtime);
        assert_eq!(taken.as_ref().map(|(live, _)| live.connection), expected);
        let (live, idle_for) = taken?;
        let rested = self.now - self.model.connection(live.connection).idle_since;
        assert_eq!(idle_for, rested);
        Some(live)
    }

    fn join(&mut self, runtime: RuntimeIndex, deadline: Duration) {
        self.callers += 1;
        let waiter = Waiter {
            caller: caller(runtime),
            since: self.now,
            deadline,
        };
        let joined = self.core.join(self.callers, waiter, self.now);
        // Forecasts have their own tests. Here: they refuse nobody for whom there is room.
        if let Joined::Refused(Refusal::WouldTimeOut(_), _) = joined {
            assert!(!self.model.queue.is_empty() && self.model.served_by_connects() == 0);
            self.model.refused += 1;
            return;
        }
        let expected = self.model.join(self.callers, runtime, deadline);
        let entered = match joined {
            Joined::Taken(live, _) => {
                let name = live.connection;
                self.held.push(live);
                Entered::Took(name)
            }
            Joined::Queued {
                ticket, due, is_next, ..
            } => {
                self.tickets.push((self.callers, ticket));
                let connects = due.len();
                self.started(due, connects);
                Entered::Waits { connects, is_next }
            }
            Joined::Refused(Refusal::Full(_), _) => Entered::Refused(Refusal::Full(None)),
            Joined::Refused(Refusal::Permanent(_), _) => Entered::Refused(Refusal::Permanent(Duration::ZERO)),
            Joined::Refused(refusal, _) => Entered::Refused(refusal),
        };
        assert_eq!(entered, expected);
    }

    fn compare(&mut self) {
        let (core, model) = (&self.core, &self.model);
        assert_eq!(core.occupancy(), model.occupancy());
        assert_eq!(core.is_terminated(), model.is_terminated());
        assert_eq!(core.is_open(), model.takes_callers());
        assert_eq!(core.failures(), model.failures);
        assert_eq!(core.last_error().is_some(), model.has_error);
        assert_eq!(core.counters().totals.retired, model.retired);
        assert_eq!(core.counters().totals.refused, model.refused);
        let longest_wait = model.queue.first().map(|caller| self.now - caller.joined);
        assert_eq!(core.longest_wait(self.now), longest_wait);
        let in_use = model
            .connections
            .iter()
            .filter(|connection| connection.state == State::InUse);
        let longest_hold = in_use.map(|connection| self.now - connection.since).max();
        let oldest_holder = core.oldest_holder(self.now).map(|holder| holder.held);
        assert_eq!(oldest_holder, longest_hold);
        let shown = core.connections(usize::MAX, self.now);
        let mut shown: Vec<_> = shown.iter().map(|info| (info.age, info.uses)).collect();
        let connections = model.connections.iter();
        let mut expected: Vec<_> = connections.map(|one| (self.now - one.opened, one.uses)).collect();
        shown.sort_unstable();
        expected.sort_unstable();
        assert_eq!(shown, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn the_core_answers_as_its_model_does(
        (min, max, overflow) in (0u32..3, 1u32..4, 0u32..3),
        (max_waiters, connect_concurrency) in (0u32..4, 1u32..4),
        runtimes in 1usize..4,
        steps in history(),
    ) {
        let mut pair = Pair::new(Config {
            min_size: Some(min.min(max)),
            max_size: max,
            max_overflow: overflow,
            max_waiters,
            connect_concurrency,
            idle_timeout: Some(Duration::from_secs(20)),
            breaker_after: None,
            ..Config::default()
        }, runtimes);
        for step in &steps {
            pair.apply(step);
            // The pool asks this after every event.
            let connects = pair.model.connects().len();
            let due = pair.core.connects_due();
            pair.started(due, connects);
            pair.compare();
        }
    }
}
