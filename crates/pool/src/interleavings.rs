//! The whole pool under a model checker: thousands of schedules of callers, the pool's own tasks and the clock, with
//! callers that give up at any moment.
//!
//! The code under test is the code that ships. Only [`shim`](crate::shim) uses the checker's locks, tasks and clock.
//! Schedules come from a fair random walk and from probabilistic concurrency testing, which favours the rare switches
//! that races need. Seeds are fixed, so a run is reproducible; `SHUTTLE_RANDOM_SEED` explores others.
//!
//! Invariants checked in every schedule:
//! * there are never more connections than the capacity, those being opened or closed included;
//! * no connection is used by two callers, and none is handed out that is not clean, or whose hook did not run;
//! * the caller that joined first is served first;
//! * a waiter that stays is served, otherwise the checker reports a deadlock;
//! * in the end all of the capacity can be acquired at once, and a close ends with nothing open.
//!
//! The clock stands still where nothing should need it, so that maintenance cannot make up for a lost wake-up.
//!
//! Add a new operation of the pool here as one more task of a scenario, beside the callers.
//!
//! These mutations of the pool each made a test here fail:
//!
//! * queue: a delivery dropped by a caller that leaves, or one for a caller that has just left; a leave forgotten; no
//!   second look for an idle connection on joining; a connection made idle while a caller waits; last in, first out; no
//!   delivery after a timeout;
//! * slots: lost with a connect or a cleaning that dies; freed before the close, or closing ones not counted; a
//!   connection retired on release but not closed; no connect on joining, after another connect, or after a close;
//! * end: a wait for the end registered after the look; no notification by the last slot or the last leaving waiter;
//!   waiters not woken, or refused by a drain; a connection kept by a closed pool;
//! * a dirty connection handed out;
//! * waiters not told that connects fail permanently, or a newcomer admitted that is never told.
//!
//! What depends on time, such as the retry after a failed connect, is tested on tokio's paused clock instead.

mod scenarios;

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    task::Poll,
    time::Duration,
};

use shuttle::{
    MaxSteps, Runner,
    future::{spawn, yield_now},
    rand::{Rng, thread_rng},
    scheduler::{PctScheduler, RandomScheduler},
};

use crate::{
    AcquireError, Condition, Config, ConnectionState, Decision, Hooks, Limits, Manager, OwnedPooled, Phase, Pool,
    Reason, shim::simulated,
};

const SEED: u64 = 0x00ce_907e;

/// Longer than any schedule takes.
const FOR_EVER: Duration = Duration::from_secs(1 << 40);

/// Runs a scenario under many schedules.
fn explore<F: Future<Output = ()> + 'static>(schedules: usize, scenario: fn() -> F) {
    let config = || {
        let mut config = shuttle::Config::new();
        config.stack_size = 1 << 18;
        // Far more than any schedule takes that ends.
        config.max_steps = MaxSteps::FailAfter(200_000);
        config
    };
    let execute = move || {
        simulated::reset();
        fastrand::seed(SEED);
        shuttle::future::block_on(scenario());
    };
    let walk = RandomScheduler::new_from_seed(SEED, schedules);
    Runner::new(walk, config()).run(execute);
    for switches in [2, 4] {
        let unlikely = PctScheduler::new_from_seed(SEED, switches, schedules / 2);
        Runner::new(unlikely, config()).run(execute);
    }
}

fn one_in(chances: u32) -> bool {
    thread_rng().gen_ratio(1, chances)
}

/// Gives other tasks the chance to run, at random.
async fn dawdle() {
    for _ in 0..thread_rng().gen_range(0..3) {
        yield_now().await;
    }
}

/// The server, and what the test knows of it.
struct Far {
    capacity: u64,
    /// Connections being opened, open, or being closed.
    existing: AtomicU64,
    opened: AtomicU64,
    /// Totals what happens, so that one thing can be said to have been before another.
    moment: AtomicU64,
    /// Decides the fate of each call.
    mood: Mutex<Mood>,
    /// Ends the clock.
    done: AtomicBool,
    /// The pool has hooks.
    hooked: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("the server is down")]
struct Down {
    for_good: bool,
}

/// Totals a connection from the moment its connect starts until nothing is left of it.
struct Presence(Arc<Far>);

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.existing.fetch_sub(1, SeqCst);
    }
}

struct Connection {
    condition: Condition,
    in_hand: bool,
    /// The hook before an acquire ran on it, and the one after a release has not.
    hooked: bool,
    /// Empty once it is detached.
    presence: Option<Presence>,
}

impl Connection {
    fn far(&self) -> Arc<Far> {
        match &self.presence {
            Some(presence) => presence.0.clone(),
            None => unreachable!("it is detached"),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mood {
    /// Every call succeeds.
    Well,
    /// Any call may fail, hang or die.
    Erratic,
    /// Every call fails.
    Down,
    /// Every call fails permanently.
    DownForGood,
}

enum Fate {
    Good,
    Fails,
    Hangs,
    Dies,
}

impl Far {
    fn new(config: &Config, mood: Mood) -> Arc<Self> {
        Arc::new(Self {
            capacity: u64::from(config.capacity()),
            existing: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            moment: AtomicU64::new(0),
            mood: Mutex::new(mood),
            done: AtomicBool::new(false),
            hooked: one_in(2),
        })
    }

    fn now(&self) -> u64 {
        self.moment.fetch_add(1, SeqCst)
    }

    fn mood(&self) -> Mood {
        *self.mood.lock().unwrap()
    }

    fn down(&self) -> Down {
        let for_good = match self.mood() {
            Mood::DownForGood => true,
            Mood::Erratic => one_in(3),
            Mood::Well | Mood::Down => false,
        };
        Down { for_good }
    }

    fn fate(&self) -> Fate {
        match (self.mood(), thread_rng().gen_range(0..6)) {
            (Mood::Down | Mood::DownForGood, _) | (Mood::Erratic, 0) => Fate::Fails,
            (Mood::Erratic, 1) => Fate::Hangs,
            (Mood::Erratic, 2) => Fate::Dies,
            _ => Fate::Good,
        }
    }

    async fn act(&self) -> Result<(), Down> {
        dawdle().await;
        match self.fate() {
            Fate::Good => return Ok(()),
            Fate::Fails => return Err(self.down()),
            Fate::Dies => simulated::die().await,
            Fate::Hangs => {}
        }
        std::future::pending().await
    }

    fn can_clean(&self) -> bool {
        matches!(self.mood(), Mood::Well | Mood::Erratic)
    }

    /// What a hook decides. An open connection works while connects fail.
    async fn decide(&self) -> Result<Decision, Down> {
        if self.mood() != Mood::Erratic {
            dawdle().await;
            return Ok(Decision::Keep);
        }
        self.act().await?;
        Ok(match one_in(8) {
            true => Decision::Close,
            false => Decision::Keep,
        })
    }

    /// The clock: each time it is scheduled, it advances to the next deadline.
    async fn run_clock(self: Arc<Self>) {
        while !self.done.load(SeqCst) {
            simulated::advance();
            yield_now().await;
        }
    }
}

impl Manager for Arc<Far> {
    type Connection = Connection;
    type Error = Down;

    async fn connect(&self) -> Result<Connection, Down> {
        let existing = self.existing.fetch_add(1, SeqCst) + 1;
        let presence = Presence(self.clone());
        assert!(existing <= self.capacity, "more than the capacity");
        self.act().await?;
        self.opened.fetch_add(1, SeqCst);
        Ok(Connection {
            condition: Condition::Clean,
            in_hand: false,
            hooked: false,
            presence: Some(presence),
        })
    }

    fn is_permanent(&self, error: &Down) -> bool {
        error.for_good
    }

    fn inspect(&self, connection: &mut Connection) -> Condition {
        assert!(!connection.in_hand, "inspected while in use");
        if self.mood() == Mood::Erratic && one_in(8) {
            connection.condition = Condition::Broken;
        }
        connection.condition
    }

    async fn clean(&self, connection: &mut Connection) -> Result<(), Down> {
        self.act().await?;
        connection.condition = Condition::Clean;
        Ok(())
    }

    async fn check(&self, _: &mut Connection) -> Result<(), Down> {
        dawdle().await;
        match self.fate() {
            Fate::Good => Ok(()),
            Fate::Fails => Err(self.down()),
            Fate::Hangs | Fate::Dies => std::future::pending().await,
        }
    }

    async fn close(&self, connection: Connection) {
        let closed = self.act().await;
        drop((closed, connection.presence));
    }
}

type Asked = Result<OwnedPooled<Arc<Far>>, AcquireError<Down>>;
type Asking = Pin<Box<dyn Future<Output = Asked> + Send>>;

async fn poll_once(asking: &mut Asking) -> Poll<Asked> {
    std::future::poll_fn(|context| Poll::Ready(asking.as_mut().poll(context))).await
}

/// Acquires a connection, or gives up at random. At random it moves to another task, which must be woken in place of
/// the first.
async fn ask(pool: &Pool<Arc<Far>>) -> Option<Asked> {
    let runtime = thread_rng().gen_range(0..2);
    let pool = pool.per_runtime().nth(runtime).unwrap();
    if one_in(8) {
        let held = pool.get_within(Duration::ZERO).await.ok()?;
        held.discard();
        return None;
    }
    let mut asking: Asking = Box::pin(pool.get_owned());
    match thread_rng().gen_range(0..3) {
        0 => Some(asking.await),
        1 => match poll_once(&mut asking).await {
            Poll::Ready(asked) => Some(asked),
            Poll::Pending => spawn(asking).await.ok(),
        },
        _ => {
            for _ in 0..thread_rng().gen_range(1..6) {
                if let Poll::Ready(asked) = poll_once(&mut asking).await {
                    return Some(asked);
                }
                yield_now().await;
            }
            None
        }
    }
}

/// Uses a connection for a while and releases it in a random condition.
async fn hold(mut held: OwnedPooled<Arc<Far>>) {
    assert_eq!(held.hooked, held.far().hooked, "handed out without its hook");
    let taken = std::mem::replace(&mut held.in_hand, true);
    assert!(!taken, "used by two callers");
    assert_eq!(held.condition, Condition::Clean);
    dawdle().await;
    held.in_hand = false;
    match thread_rng().gen_range(0..8) {
        0 => held.discard(),
        1 => held.condition = Condition::Broken,
        2 | 3 => held.condition = Condition::Dirty,
        4 => {
            drop(held.presence.take());
            drop(held.detach());
        }
        _ => {}
    }
}

/// Asserts that nothing is missing: all of the capacity can be acquired, and a close closes it.
async fn is_whole(pool: Pool<Arc<Far>>) {
    let far = pool.manager().clone();
    *far.mood.lock().unwrap() = Mood::Well;
    let mut held = Vec::new();
    while held.len() < far.capacity as usize {
        match pool.get_within(FOR_EVER).await {
            Ok(connection) => held.push(connection),
            // A permanent failure is over once the pool has tried again, and the clock may overtake a hook.
            Err(error) => assert!(
                matches!(
                    error.reason(),
                    Reason::Permanent | Reason::Timeout { phase: Phase::Hook, .. }
                ),
                "{error}"
            ),
        }
        yield_now().await;
    }
    assert_eq!(pool.stats().idle, 0);
    drop(held);
    pool.close().await;
    is_terminated(&pool);
}

fn is_terminated(pool: &Pool<Arc<Far>>) {
    assert_eq!(pool.manager().existing.load(SeqCst), 0, "something is left");
    let stats = pool.stats();
    assert_eq!((stats.size(), stats.connecting, stats.closing), (0, 0, 0));
    pool.manager().done.store(true, SeqCst);
}

/// No warm connections, and nothing that only time causes.
fn config(max_size: u32, max_overflow: u32) -> Config {
    Config {
        min_size: Some(0),
        max_size,
        max_overflow,
        max_lifetime: None,
        idle_timeout: None,
        check_after: None,
        acquire_timeout: FOR_EVER,
        connect_concurrency: 2,
        // Callers wait for the end of an outage.
        breaker_after: None,
        ..Config::default()
    }
}

fn start(config: Config, mood: Mood) -> Pool<Arc<Far>> {
    let far = Far::new(&config, mood);
    let runtimes = vec![simulated::Handle::current(); 2];
    let hooks = if far.hooked { hooks() } else { Hooks::new() };
    Pool::with_hooks_on(far, config, hooks, runtimes).unwrap()
}

/// Hooks that take their time, fail, or have the connection closed, as the server's mood is.
fn hooks() -> Hooks<Arc<Far>> {
    Hooks::new()
        .after_connect(|connection: &mut Connection, info| {
            assert_eq!(info.state, ConnectionState::Connecting);
            let far = connection.far();
            Box::pin(async move { far.act().await })
        })
        .before_acquire(|connection: &mut Connection, info| {
            assert_eq!(
                (info.state, connection.condition),
                (ConnectionState::InUse, Condition::Clean)
            );
            assert!(!connection.hooked && !connection.in_hand);
            connection.hooked = true;
            let far = connection.far();
            Box::pin(async move { far.decide().await })
        })
        .after_release(|connection: &mut Connection, info| {
            assert_eq!(
                (info.state, connection.condition),
                (ConnectionState::Cleaning, Condition::Clean)
            );
            assert!(connection.hooked && !connection.in_hand);
            connection.hooked = false;
            let far = connection.far();
            if far.can_clean() && one_in(8) {
                connection.condition = Condition::Dirty;
            }
            Box::pin(async move { far.decide().await })
        })
        .on_close(|connection: &mut Connection, info, _| {
            assert_eq!(info.state, ConnectionState::Closing);
            assert!(!connection.in_hand);
            Box::pin(dawdle())
        })
}
