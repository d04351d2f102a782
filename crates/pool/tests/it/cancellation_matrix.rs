//! A caller that is dropped at each of its awaits, for every kind of wait, outcome and successor.
//!
//! Afterwards the pool's counts are exact, all of its capacity can be acquired, and no connection has leaked.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    task::Poll,
    time::Duration,
};

use cenote_pool::{AcquireError, Condition, Config, Decision, Hooks, Manager, OwnedPooled, Pool};
use tokio::time::{sleep, timeout};

use crate::support::settle;

/// The outcome of a call of the manager.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Succeeds,
    Fails,
    Hangs,
    Panics,
    /// Of a hook: asks the pool to close the connection.
    Asks,
}

/// What the dropped caller waits for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum WaitsFor {
    Connect(Fate),
    /// The check of the idle connection.
    Check(Fate),
    /// The cleaning of the connection that was just released.
    Clean(Fate),
    /// The hook on a new connection.
    AfterConnect(Fate),
    /// The hook on the idle connection.
    BeforeAcquire(Fate),
    /// The hook on the connection that was just released.
    AfterRelease(Fate),
    /// The hook on the connection that was just discarded, in whose place a new one is opened.
    OnClose(Fate),
    /// The hand-over of a clean connection, and its condition when the caller wakes.
    HandOver(Condition),
}

use Fate::{Asks, Fails, Hangs, Panics, Succeeds};
use WaitsFor::{AfterConnect, AfterRelease, BeforeAcquire, Check, Clean, Connect, HandOver, OnClose};

const WAITS: [WaitsFor; 30] = [
    Connect(Succeeds),
    Connect(Fails),
    Connect(Hangs),
    Connect(Panics),
    Check(Succeeds),
    Check(Fails),
    Check(Hangs),
    Clean(Succeeds),
    Clean(Fails),
    Clean(Hangs),
    Clean(Panics),
    AfterConnect(Succeeds),
    AfterConnect(Fails),
    AfterConnect(Hangs),
    AfterConnect(Panics),
    BeforeAcquire(Succeeds),
    BeforeAcquire(Fails),
    BeforeAcquire(Hangs),
    BeforeAcquire(Asks),
    AfterRelease(Succeeds),
    AfterRelease(Fails),
    AfterRelease(Hangs),
    AfterRelease(Panics),
    AfterRelease(Asks),
    OnClose(Succeeds),
    OnClose(Hangs),
    OnClose(Panics),
    HandOver(Condition::Clean),
    HandOver(Condition::Dirty),
    HandOver(Condition::Broken),
];

/// When the caller is dropped, after a number of polls.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Dropped {
    /// Before any other task runs.
    AtOnce,
    /// After all other tasks ran, so its delivery may have arrived.
    Later,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    Nothing,
    /// Another caller waits behind it.
    NextInLine,
    /// The pool drains while it waits.
    Drain,
}

#[derive(Debug, thiserror::Error)]
#[error("refused")]
struct Refused;

/// The server.
#[derive(Default)]
struct Far {
    /// The outcome of the next call of this kind. All others succeed.
    fate: Mutex<Option<WaitsFor>>,
    /// What the next inspection finds instead of the connection's own condition.
    found: Mutex<Option<Condition>>,
    existing: AtomicU32,
}

struct Connection {
    far: Arc<Far>,
    condition: Condition,
    /// A check has failed.
    gone: bool,
    /// The hook before an acquire ran on it, and the one after a release has not.
    lent: bool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.far.existing.fetch_sub(1, SeqCst);
    }
}

impl Far {
    async fn meet(&self, call: fn(Fate) -> WaitsFor) -> Result<Decision, Refused> {
        tokio::task::yield_now().await;
        let mut fate = Succeeds;
        {
            let mut next = self.fate.lock().unwrap();
            for possible in [Fails, Hangs, Panics, Asks] {
                if next.take_if(|next| *next == call(possible)).is_some() {
                    fate = possible;
                }
            }
        }
        match fate {
            Succeeds => Ok(Decision::Keep),
            Asks => Ok(Decision::Close),
            Fails => Err(Refused),
            Hangs => std::future::pending().await,
            Panics => panic!("the test tells this call to panic"),
        }
    }
}

struct Fated(Arc<Far>);

impl Manager for Fated {
    type Connection = Connection;
    type Error = Refused;

    async fn connect(&self) -> Result<Connection, Refused> {
        self.0.meet(Connect).await?;
        self.0.existing.fetch_add(1, SeqCst);
        Ok(Connection {
            far: self.0.clone(),
            condition: Condition::Clean,
            gone: false,
            lent: false,
        })
    }

    fn inspect(&self, connection: &mut Connection) -> Condition {
        let found = self.0.found.lock().unwrap().take();
        if let Some(found) = found {
            connection.condition = found;
        }
        connection.condition
    }

    async fn clean(&self, connection: &mut Connection) -> Result<(), Refused> {
        self.0.meet(Clean).await?;
        connection.condition = Condition::Clean;
        Ok(())
    }

    async fn check(&self, connection: &mut Connection) -> Result<(), Refused> {
        let checked = self.0.meet(Check).await;
        connection.gone |= checked.is_err();
        checked.map(drop)
    }

    async fn close(&self, connection: Connection) {
        tokio::task::yield_now().await;
        drop(connection);
    }
}

/// At most two connections. One is in use all the time, so the caller always waits for the other.
fn config() -> Config {
    Config {
        min_size: Some(0),
        max_size: 2,
        max_lifetime: None,
        idle_timeout: None,
        check_after: Some(Duration::from_secs(5)),
        check_timeout: Duration::from_secs(1),
        clean_timeout: Duration::from_secs(1),
        connect_timeout: Duration::from_secs(1),
        acquire_timeout: Duration::from_secs(30),
        ..Config::default()
    }
}

/// Each hook begins a turn of its connection's life, and the next hook of the same connection finds that it did.
fn hooks() -> Hooks<Fated> {
    Hooks::<Fated>::new()
        .after_connect(|connection, _| {
            let far = connection.far.clone();
            Box::pin(async move { far.meet(AfterConnect).await.map(drop) })
        })
        .before_acquire(|connection, _| {
            assert!(
                !std::mem::replace(&mut connection.lent, true),
                "two acquires without a release"
            );
            let far = connection.far.clone();
            Box::pin(async move { far.meet(BeforeAcquire).await })
        })
        .after_release(|connection, _| {
            assert!(
                std::mem::replace(&mut connection.lent, false),
                "a release without an acquire"
            );
            assert_eq!(connection.condition, Condition::Clean);
            let far = connection.far.clone();
            Box::pin(async move { far.meet(AfterRelease).await })
        })
        .on_close(|connection, _, _| {
            let far = connection.far.clone();
            Box::pin(async move {
                let _decision = far.meet(OnClose).await;
            })
        })
}

type Held = OwnedPooled<Fated>;
type Asking = Pin<Box<dyn Future<Output = Result<Held, AcquireError<Refused>>> + Send>>;

async fn poll_once(asking: &mut Asking) -> Poll<Result<Held, AcquireError<Refused>>> {
    poll_fn(|context| Poll::Ready(asking.as_mut().poll(context))).await
}

/// One cell of the matrix. Returns true if the caller was dropped before it had its answer.
async fn drop_after(polls: u32, waits_for: WaitsFor, dropped: Dropped, then: Then) -> bool {
    let far = Arc::new(Far::default());
    let pool = Pool::with_hooks(Fated(far.clone()), config(), hooks()).unwrap();
    let other = pool.get_owned().await.unwrap();
    let mut returning = match waits_for {
        Connect(_) | AfterConnect(_) => None,
        _ => Some(pool.get_owned().await.unwrap()),
    };
    if let Check(_) | BeforeAcquire(_) = waits_for {
        returning = None;
        settle().await;
    }
    if let Check(_) = waits_for {
        sleep(Duration::from_secs(6)).await;
    }
    *far.fate.lock().unwrap() = Some(waits_for);

    let mut asking: Asking = Box::pin(pool.get_owned());
    let mut answer = Poll::Pending;
    let mut next = None;
    for poll in 1..=polls {
        answer = poll_once(&mut asking).await;
        if answer.is_ready() {
            break;
        }
        if then == Then::NextInLine {
            let pool = pool.clone();
            next.get_or_insert_with(|| tokio::spawn(async move { pool.get_owned().await.map(drop) }));
            settle().await;
        }
        // Now that it waits, what it waits for happens.
        if let Some(mut live) = returning.take() {
            if let Clean(_) = waits_for {
                live.condition = Condition::Dirty;
            }
            match waits_for {
                OnClose(_) => live.discard(),
                _ => drop(live),
            }
            if let HandOver(found) = waits_for {
                *far.found.lock().unwrap() = Some(found);
            }
        }
        if dropped == Dropped::Later || poll < polls {
            settle().await;
        }
        // Timeouts and hanging calls take longer than this, everything else less.
        if poll > 1 && poll < polls {
            sleep(Duration::from_millis(300)).await;
        }
    }
    let draining = (then == Then::Drain).then(|| {
        let pool = pool.clone();
        tokio::spawn(async move { pool.drain().await })
    });
    if draining.is_some() && dropped == Dropped::Later {
        settle().await;
    }
    let unanswered = answer.is_pending();
    if let Poll::Ready(Ok(held)) = &answer {
        is_good(held);
    }
    drop(asking);
    drop((answer, returning));
    if let BeforeAcquire(_) = waits_for {
        // It was meant for the dropped caller.
        *far.fate.lock().unwrap() = None;
    }

    if let Some(next) = next {
        let served = timeout(Duration::from_secs(20), next).await;
        served.expect("the next caller still waits").unwrap().unwrap();
    }
    if let Some(draining) = draining {
        drop(other);
        let drained = timeout(Duration::from_secs(20), draining).await;
        drained.expect("the drain does not end").unwrap();
    } else {
        sleep(Duration::from_secs(20)).await;
        is_exact(&pool, &far);
        let one_more = pool.get().await.unwrap();
        is_good(&one_more);
        assert_eq!(pool.stats().idle, 0);
        assert_eq!(far.existing.load(SeqCst), 2);
        drop((other, one_more));
        pool.close().await;
    }
    assert_eq!(far.existing.load(SeqCst), 0, "a connection leaked");
    unanswered
}

fn is_good(connection: &Connection) {
    assert_eq!(connection.condition, Condition::Clean);
    assert!(!connection.gone, "handed out although its check failed");
    assert!(connection.lent, "handed out without its hook");
}

/// One connection is in use, all others are idle, and nothing is under way.
fn is_exact(pool: &Pool<Fated>, far: &Far) {
    let stats = pool.stats();
    let under_way = stats.connecting + stats.cleaning + stats.closing + stats.waiting;
    assert_eq!((stats.in_use, under_way), (1, 0));
    assert_eq!(stats.idle + stats.in_use, far.existing.load(SeqCst));
}

#[tokio::test(start_paused = true)]
async fn a_caller_dropped_at_any_await_leaves_the_pool_whole_and_the_next_served() {
    for waits_for in WAITS {
        for dropped in [Dropped::AtOnce, Dropped::Later] {
            for then in [Then::Nothing, Then::NextInLine, Then::Drain] {
                let mut polls = 0;
                loop {
                    // The last line printed is the one that failed.
                    println!("{waits_for:?}, dropped {dropped:?} after {polls} polls, {then:?}");
                    if !drop_after(polls, waits_for, dropped, then).await {
                        break;
                    }
                    polls += 1;
                }
                assert!(polls > 1, "it never had to wait");
            }
        }
    }
}
