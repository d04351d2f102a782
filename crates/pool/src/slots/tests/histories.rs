//! The core's promises over random histories, in which anything may happen at any time.

use proptest::prelude::*;

use super::*;

/// A step of a history. Numbers choose among the possible objects, modulo their number.
#[derive(Clone, Debug)]
enum Step {
    Get,
    GiveBack(usize),
    Dirty(usize),
    Break(usize),
    Connected(usize),
    ConnectFailed { which: usize, is_permanent: bool },
    BeginInspection(usize),
    Cleaned(usize),
    Closed(usize),
    GiveUp(usize),
    Collect(usize),
    Tick(u64),
    Resize(u32, u32, u32),
    Detach(usize),
    ReplaceAll,
    Pause,
    Resume,
    Drain,
    Close,
}

fn any_bool() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.4)
}

fn step() -> impl Strategy<Value = Step> {
    let any = || 0usize..64;
    prop_oneof![
        8 => Just(Step::Get),
        6 => any().prop_map(Step::GiveBack),
        2 => any().prop_map(Step::Dirty),
        2 => any().prop_map(Step::Break),
        6 => any().prop_map(Step::Connected),
        2 => (any(), any_bool()).prop_map(|(which, is_permanent)| Step::ConnectFailed { which, is_permanent }),
        2 => any().prop_map(Step::BeginInspection),
        3 => any().prop_map(Step::Cleaned),
        3 => any().prop_map(Step::Closed),
        2 => any().prop_map(Step::GiveUp),
        5 => any().prop_map(Step::Collect),
        3 => (0u64..30_000).prop_map(Step::Tick),
        1 => (0u32..3, 1u32..4, 0u32..3).prop_map(|(min, max, over)| Step::Resize(min.min(max), max, over)),
        1 => any().prop_map(Step::Detach),
        1 => Just(Step::ReplaceAll),
        1 => Just(Step::Pause),
        2 => Just(Step::Resume),
        1 => prop_oneof![9 => Just(Step::Tick(0)), 1 => Just(Step::Drain), 1 => Just(Step::Close)],
    ]
}

/// The state outside the core: who holds what, and who waits in which order.
struct World {
    core: Core,
    /// The maximum number of slots: the capacity, or what a larger one has left.
    bound: u32,
    now: Duration,
    opened: u32,
    connecting: Vec<SlotId>,
    held: Vec<Live<u32>>,
    cleaning: Vec<Live<u32>>,
    inspected: Vec<Live<u32>>,
    closing: Vec<SlotId>,
    /// Waiters, oldest first.
    queue: Vec<(u32, Ticket)>,
    /// Callers that have left the queue and have not collected their delivery.
    woken: Vec<(Ticket, Option<Live<u32>>)>,
    callers: u32,
    paused: bool,
    shut: bool,
}

impl World {
    fn new(limits: Config) -> Self {
        let mut world = Self {
            bound: limits.capacity(),
            core: Core::new(limits, 2),
            now: Duration::ZERO,
            opened: 0,
            connecting: Vec::new(),
            held: Vec::new(),
            cleaning: Vec::new(),
            inspected: Vec::new(),
            closing: Vec::new(),
            queue: Vec::new(),
            woken: Vec::new(),
            callers: 0,
            paused: false,
            shut: false,
        };
        world.connect();
        world
    }

    fn connect(&mut self) {
        let due = self.core.connects_due();
        assert!(due.is_empty() || !self.paused, "connected during a pause");
        self.connecting.extend(due);
    }

    fn carry_out(&mut self, released: Released<u32, u32>) {
        match released {
            Released::Idle { .. } => assert!(self.queue.is_empty() || self.paused, "idle although a caller waits"),
            Released::Handed { to, live, shed } => {
                for shed in shed {
                    let (first, ticket) = self.queue.remove(0);
                    assert_eq!(shed, first, "shed out of turn");
                    self.woken.push((ticket, None));
                }
                let (first, ticket) = self.queue.remove(0);
                assert!(!self.paused, "handed out during a pause");
                assert_eq!(to, first, "served out of turn");
                let open = self.core.open();
                assert!(open <= self.core.config().capacity(), "one too many");
                self.woken.push((ticket, Some(live)));
            }
            Released::Retired(live) | Released::Lost(live) => self.closing.push(live.slot),
        }
    }

    fn apply(&mut self, step: &Step) {
        fn pick<T>(from: &mut Vec<T>, index: usize) -> Option<T> {
            (!from.is_empty()).then(|| from.remove(index % from.len()))
        }
        match *step {
            Step::Get => match self.core.take(here()) {
                Some((live, _)) => {
                    assert!(self.queue.is_empty(), "a newcomer overtook the queue");
                    assert!(!self.paused, "taken during a pause");
                    self.held.push(live);
                }
                None => self.join(),
            },
            Step::GiveBack(index) => {
                if let Some(live) = pick(&mut self.held, index) {
                    let released = self.core.release(live, Some(self.now));
                    self.carry_out(released);
                }
            }
            Step::Dirty(index) => {
                if let Some(live) = pick(&mut self.held, index) {
                    self.core.start_cleaning(live.slot);
                    self.cleaning.push(live);
                }
            }
            Step::Break(index) => {
                if let Some(live) = pick(&mut self.held, index) {
                    self.core.retire(live.slot, Retired::Broken);
                    self.closing.push(live.slot);
                }
            }
            Step::Connected(index) => {
                if let Some(slot) = pick(&mut self.connecting, index) {
                    self.opened += 1;
                    let opened = Opened {
                        took: Duration::from_millis(1),
                        lifetime: Some(Duration::from_secs(60)),
                        ..opened(self.opened)
                    };
                    let (released, _) = self.core.connected(slot, opened, self.now);
                    self.carry_out(released);
                }
            }
            Step::ConnectFailed { which, is_permanent } => {
                if let Some(slot) = pick(&mut self.connecting, which) {
                    let took = Duration::from_millis(1);
                    let failure = failure(is_permanent, 0.5);
                    let (_, refused) = self.core.connect_failed(slot, failure, took, self.now);
                    if self.core.fails_permanently() {
                        assert!(is_permanent && !self.paused && self.core.existing() == 0);
                        assert_eq!(refused.len(), self.queue.len(), "a waiter was not refused");
                    } else {
                        assert!(refused.is_empty(), "refused though it may be served");
                    }
                    for refused in refused {
                        let (first, ticket) = self.queue.remove(0);
                        assert_eq!(refused, first, "refused out of turn");
                        self.woken.push((ticket, None));
                    }
                }
            }
            Step::BeginInspection(index) => {
                if let Some(slot) = pick(&mut self.core.idle(), index)
                    && let Some(live) = self.core.begin_inspection(slot)
                {
                    self.inspected.push(live);
                }
            }
            Step::Cleaned(index) => {
                let released = match pick(&mut self.inspected, index) {
                    Some(live) => Some(self.core.end_inspection(live, self.now)),
                    None => pick(&mut self.cleaning, index).map(|live| self.core.release(live, Some(self.now))),
                };
                if let Some(released) = released {
                    self.carry_out(released);
                }
            }
            Step::Closed(index) => {
                if let Some(slot) = pick(&mut self.closing, index) {
                    self.core.free(slot);
                }
            }
            Step::GiveUp(index) => self.give_up(index),
            Step::Collect(index) => {
                if let Some((_, given)) = pick(&mut self.woken, index) {
                    self.held.extend(given);
                }
            }
            Step::Tick(millis) => {
                self.now += Duration::from_millis(millis);
                let retired = self.core.tick(self.now);
                self.closing.extend(retired.iter().map(|live| live.slot));
                for waker in self.core.expire(self.now) {
                    let late = self.queue.iter().position(|&(name, _)| name == waker);
                    let (_, ticket) = self.queue.remove(late.unwrap());
                    self.woken.push((ticket, None));
                }
            }
            Step::Resize(min_size, max_size, max_overflow) => {
                let config = limits(min_size, max_size, max_overflow);
                let excess = self.core.resize(config);
                self.closing.extend(excess.iter().map(|live| live.slot));
            }
            Step::Detach(index) => {
                if let Some(live) = pick(&mut self.held, index) {
                    self.core.detach(live.slot);
                }
            }
            Step::ReplaceAll => {
                let idle = self.core.replace_all(self.now);
                self.closing.extend(idle.iter().map(|live| live.slot));
            }
            Step::Pause => {
                self.core.pause();
                self.paused = !self.shut;
            }
            Step::Resume => {
                self.paused = false;
                for released in self.core.resume(self.now) {
                    self.carry_out(released);
                }
            }
            Step::Drain => self.shut(true),
            Step::Close => self.shut(false),
        }
        self.connect();
    }

    fn join(&mut self) {
        self.callers += 1;
        let deadline = self.now + Duration::from_secs(45);
        let waiter = Waiter {
            caller: here(),
            since: self.now,
            deadline,
        };
        match self.core.join(self.callers, waiter, self.now) {
            Joined::Taken(..) => panic!("BUG: take found nothing idle"),
            Joined::Queued { ticket, due, .. } => {
                self.queue.push((self.callers, ticket));
                self.connecting.extend(due);
            }
            Joined::Refused(Refusal::Closed, _) => assert!(self.shut),
            Joined::Refused(Refusal::Full(_), _) => assert!(self.queue.len() >= 4),
            Joined::Refused(Refusal::WouldTimeOut(_), _) => assert!(!self.queue.is_empty()),
            Joined::Refused(Refusal::Unavailable(_), _) => {
                assert!(!self.paused && self.core.breaker_is_open());
            }
            Joined::Refused(Refusal::Permanent(_), _) => {
                assert!(!self.paused && self.core.existing() == 0);
            }
        }
    }

    /// A caller gives up, before or after its delivery.
    fn give_up(&mut self, index: usize) {
        let waiting = self.queue.len() + self.woken.len();
        if waiting == 0 {
            return;
        }
        let at = index % waiting;
        let (ticket, given) = match at.checked_sub(self.queue.len()) {
            Some(at) => self.woken.remove(at),
            None => {
                let (name, ticket) = self.queue.remove(at);
                assert_eq!(self.core.leave(ticket), Some(name));
                return;
            }
        };
        assert_eq!(self.core.leave(ticket), None, "served, but still in the queue");
        if let Some(live) = given {
            let released = self.core.release(live, Some(self.now));
            self.carry_out(released);
        }
    }

    fn shut(&mut self, serve_waiters: bool) {
        self.shut = true;
        self.paused = false;
        let (released, woken) = self.core.shut(serve_waiters, self.now);
        for released in released {
            self.carry_out(released);
        }
        for waker in woken {
            let (first, ticket) = self.queue.remove(0);
            assert_eq!(waker, first);
            self.woken.push((ticket, None));
        }
    }

    fn check(&mut self) {
        let occupancy = self.core.occupancy();
        let slots = occupancy.connecting + occupancy.idle + occupancy.in_use + occupancy.cleaning + occupancy.closing;
        let capacity = self.core.config().capacity();
        assert!(slots <= capacity.max(self.bound), "more slots than the capacity");
        assert!(
            !self.core.breaker_is_open() || self.core.existing() == 0,
            "the breaker is open, although a connection is open"
        );
        self.bound = slots.min(self.bound).max(capacity);
        assert_eq!(slots as usize, self.core.slots.len(), "the counts are wrong");
        assert!(
            occupancy.waiting == 0 || occupancy.idle == 0 || self.paused,
            "idle while a caller waits"
        );
        assert_eq!(occupancy.connecting as usize, self.connecting.len());
        assert_eq!(occupancy.idle as usize, self.core.idle.len());
        assert_eq!(occupancy.cleaning as usize, self.cleaning.len() + self.inspected.len());
        assert!(
            self.core.idle.is_sorted_by_key(|live| live.idle_since),
            "the longest idle is not at the bottom"
        );
        assert_eq!(occupancy.closing as usize, self.closing.len());
        assert_eq!(occupancy.waiting as usize, self.queue.len());
        assert!(occupancy.in_use as usize >= self.held.len());
        assert!(self.core.idle.len() <= self.core.config.max_size as usize);
    }

    /// From any state: once everything under way ends well, every waiter is served.
    fn finish(mut self) {
        self.apply(&Step::Resume);
        for _ in 0..1_000 {
            self.now += Duration::from_secs(1);
            self.apply(&Step::Tick(0));
            self.apply(&Step::Closed(0));
            self.apply(&Step::Cleaned(0));
            self.apply(&Step::Connected(0));
            self.apply(&Step::Collect(0));
            self.apply(&Step::GiveBack(0));
            self.check();
        }
        assert!(self.queue.is_empty(), "a caller waits for ever");
        assert!(self.shut || !self.core.breaker_is_open(), "the breaker is stuck");
        match self.shut {
            true => assert!(self.core.is_terminated(), "a slot was lost"),
            false => {
                let occupancy = self.core.occupancy();
                let open = occupancy.idle + occupancy.in_use + occupancy.connecting;
                assert!(open >= self.core.config.warm(), "fewer than the warm minimum");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_history_breaks_capacity_order_or_loses_a_slot(
        (min, max, overflow) in (0u32..3, 1u32..4, 0u32..3),
        steps in prop::collection::vec(step(), 0..150),
    ) {
        let mut world = World::new(limits(min.min(max), max, overflow));
        for step in &steps {
            world.apply(step);
            world.check();
        }
        world.finish();
    }
}
