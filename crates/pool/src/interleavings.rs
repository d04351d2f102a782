//! The whole pool under a model checker: thousands of schedules of several callers, the pool's own
//! tasks and the clock, with callers that give up at any moment.
//!
//! The code under test is the pool's own, all of it; only [`runtime`](crate::shim) stands on the
//! checker's locks, tasks and clock. Schedules come from a fair random walk and from probabilistic
//! concurrency testing, which favours the few unlikely switches that races need. Seeds are fixed: a
//! run is reproducible, and `SHUTTLE_RANDOM_SEED` explores others.
//!
//! Invariants checked in every schedule: connections, those being opened or closed included, never
//! exceed the capacity; none is in two hands, and none is handed out in any state but clean; who
//! joined first is served first; whoever stays in line is served, else the checker reports a
//! deadlock; in the end the pool's whole capacity can be taken at once, and a close ends with
//! nothing open. The clock stands still where nothing should need it, so that housekeeping cannot
//! make up for a wake-up that was lost.
//!
//! A new operation of the pool belongs here as one more task of a scenario, beside the callers.
//!
//! What this is worth was tried by breaking the pool; each of these made a test here fail:
//!
//! * the line: a delivery dropped by a caller that leaves, or one for a caller that has just left;
//!   leaving forgotten; no second look for an idle connection on joining; a connection made idle while
//!   someone waits; the last to come served first; the late not told;
//! * slots: lost with a connect or a cleaner that dies; freed before the close, or closing ones not
//!   counted; a connection retired on its return but not closed; no connect on joining, after
//!   another connect, or after a close;
//! * the end: listened for only after it was looked for; not told by the last slot, or by the last
//!   caller that leaves; those in line not woken, or refused by a drain; a connection kept by a
//!   closed pool;
//! * a dirty connection handed out;
//! * those in line not told that connecting fails for good, or a newcomer let in who is never told.
//!
//! Promises that time keeps, such as the retry after a failed connect, are not seen here: those are
//! the tests on a paused clock.

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

use crate::{AcquireError, Condition, Config, Limits, Manager, OwnedPooled, Pool, Reason, shim::simulated};

const SEED: u64 = 0x00ce_907e;

/// Longer than any schedule takes.
const FOR_EVER: Duration = Duration::from_secs(1 << 40);

/// Runs a scenario under many schedules.
fn explore<F: Future<Output = ()> + 'static>(schedules: usize, scenario: fn() -> F) {
    let config = || {
        let mut config = shuttle::Config::new();
        config.stack_size = 1 << 18;
        // Far more than a schedule takes that comes to an end.
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

/// Gives others the chance to run, now and then.
async fn dawdle() {
    for _ in 0..thread_rng().gen_range(0..3) {
        yield_now().await;
    }
}

/// The far side, and what is known of it.
struct Far {
    capacity: u64,
    /// Connections being opened, open, or being closed.
    existing: AtomicU64,
    opened: AtomicU64,
    /// Totals what happens, so that one thing can be said to have been before another.
    moment: AtomicU64,
    /// What happens to whatever it is asked to do.
    mood: Mutex<Mood>,
    /// Ends the clock.
    done: AtomicBool,
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
    presence: Presence,
}

#[derive(Clone, Copy, PartialEq)]
enum Mood {
    /// All goes well.
    Well,
    /// Anything may go wrong, in any way.
    Erratic,
    /// All is refused.
    Down,
    /// All is refused, and time will not cure it.
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

    /// The clock: from one moment that someone waits for to the next, whenever it gets its turn.
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
            presence,
        })
    }

    fn is_permanent(&self, error: &Down) -> bool {
        error.for_good
    }

    fn inspect(&self, connection: &mut Connection) -> Condition {
        assert!(!connection.in_hand, "inspected while in someone's hand");
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

/// Asks until it is served or, perhaps, loses patience; perhaps goes on in another task meanwhile,
/// which has to be woken in place of the first.
async fn ask(pool: &Pool<Arc<Far>>) -> Option<Asked> {
    let runtime = thread_rng().gen_range(0..2);
    let pool = pool.per_runtime().nth(runtime).unwrap();
    if one_in(8) {
        let held = pool.try_get()?;
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

/// Has a connection for a while and lets go of it in some state or other.
async fn hold(mut held: OwnedPooled<Arc<Far>>) {
    let taken = std::mem::replace(&mut held.in_hand, true);
    assert!(!taken, "in two hands");
    assert_eq!(held.condition, Condition::Clean);
    dawdle().await;
    held.in_hand = false;
    match thread_rng().gen_range(0..8) {
        0 => held.discard(),
        1 => held.condition = Condition::Broken,
        2 | 3 => held.condition = Condition::Dirty,
        _ => {}
    }
}

/// In the end nothing is missing: all of the capacity can be had, and a close closes it all.
async fn is_whole(pool: Pool<Arc<Far>>) {
    let far = pool.manager().clone();
    *far.mood.lock().unwrap() = Mood::Well;
    let mut held = Vec::new();
    while held.len() < far.capacity as usize {
        match pool.get_within(FOR_EVER).await {
            Ok(connection) => held.push(connection),
            // What failed for good before is over when the pool has tried again.
            Err(error) => assert_eq!(error.reason(), Reason::Permanent),
        }
        yield_now().await;
    }
    assert!(pool.try_get().is_none());
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

/// No warm connections, and nothing that happens by time alone.
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
        // Whoever asks in an outage is to wait for its end.
        breaker_after: None,
        ..Config::default()
    }
}

fn start(config: Config, mood: Mood) -> Pool<Arc<Far>> {
    let far = Far::new(&config, mood);
    let runtimes = vec![simulated::Handle::current(); 2];
    Pool::on_runtimes(far, config, runtimes).unwrap()
}
