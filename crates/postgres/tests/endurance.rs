//! A connection is acquired and returned a million times, while callers give up, commands run into their limits and
//! sessions are ended from outside. Every connection is accounted for, and the server never sees more sessions than the
//! maximum.
//!
//! A binary of its own, because it takes the whole machine.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is the failed assertion")]

#[allow(dead_code, reason = "this test uses a part of it")]
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use cenote_postgres::{Error, Pool, Reason, Retired};
use fastrand::Rng;
use support::{Database, Watcher, database, give_up_after, rounds, until_ok};
use tokio::{
    task::yield_now,
    time::{Instant, sleep},
};

const MAX: u32 = 8;
const CALLERS: u64 = 24;
const COMMAND_LIMIT: Duration = Duration::from_millis(20);
/// Each turn that is a multiple of this yields to the other callers; otherwise no caller would be interrupted.
const YIELD: u64 = 32;

/// What the callers did and saw.
#[derive(Debug, Default)]
struct Ledger {
    turns: AtomicU64,
    given_up: AtomicU64,
    too_late: AtomicU64,
    refused: AtomicU64,
    answers: AtomicU64,
    abandoned: AtomicU64,
    timeouts: AtomicU64,
    lost: AtomicU64,
    ended: AtomicU64,
    discarded: AtomicU64,
}

fn count(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Relaxed)
}

struct Caller {
    pool: Pool,
    outside: Arc<Watcher>,
    ledger: Arc<Ledger>,
    random: Rng,
}

impl Caller {
    async fn work(mut self, turns: u64) {
        loop {
            let turn = count(&self.ledger.turns);
            if turn >= turns {
                return;
            }
            if turn.is_multiple_of(YIELD) {
                yield_now().await;
            }
            // A turn is a connection acquired and returned, so a caller that gave up tries again.
            while !self.turn().await {}
        }
    }

    /// Returns whether a connection was acquired; it has been returned by then.
    async fn turn(&mut self) -> bool {
        let Self {
            pool,
            outside,
            ledger,
            random,
        } = self;
        let event = random.u32(..10_000);
        let taken = match event {
            0..250 => {
                let polls = random.u32(1..4);
                match give_up_after(polls, pool.get()).await {
                    Some(taken) => taken,
                    None => {
                        count(&ledger.given_up);
                        return false;
                    }
                }
            }
            250..500 => {
                let patience = Duration::from_micros(random.u64(..300));
                match pool.get_within(patience).await {
                    Ok(taken) => Ok(taken),
                    Err(refused) => {
                        match refused.acquire_error().unwrap().reason() {
                            Reason::Timeout { .. } => count(&ledger.too_late),
                            Reason::Overloaded => count(&ledger.refused),
                            other => panic!("{other:?}"),
                        };
                        return false;
                    }
                }
            }
            _ => pool.get().await,
        };
        let mut connection = taken.unwrap();
        match event {
            1000..1400 => yield_now().await,
            1400..1600 => {
                let unique = random.i64(..1 << 40);
                let sql = "SELECT $1::bigint + 1";
                match connection.query_one(sql, &[&unique]).await {
                    Ok(row) => {
                        assert_eq!(row.get::<_, i64>(0), unique + 1, "another's answer");
                        count(&ledger.answers);
                    }
                    Err(error) => ledger.failed(&error),
                }
            }
            1600..1620 => {
                let polls = random.u32(1..4);
                let asked = connection.query("SELECT pg_sleep(0.005)", &[]);
                match give_up_after(polls, asked).await {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => ledger.failed(&error),
                    None => drop(count(&ledger.abandoned)),
                }
            }
            1620..1630 => {
                let polls = random.u32(1..8);
                let work = async {
                    let transaction = connection.transaction().await?;
                    transaction.query("SELECT 1", &[]).await?;
                    transaction.commit().await
                };
                match give_up_after(polls, work).await {
                    Some(Ok(())) => {}
                    Some(Err(error)) => ledger.failed(&error),
                    None => drop(count(&ledger.abandoned)),
                }
            }
            // On a busy machine the cancel may not be confirmed in time. Then the session lives until this ends, which
            // is before its connection counts as closed without confirmation.
            1630..1637 => match connection.execute("SELECT pg_sleep(3)", &[]).await {
                Ok(_) => panic!("it was not stopped at the limit"),
                Err(error) => ledger.failed(&error),
            },
            1637..1642 => {
                // By then the connection may belong to this caller, to the next one, or be idle.
                let process_id = connection.process_id();
                if random.bool() {
                    drop(connection);
                }
                outside.try_terminate(process_id).await;
                count(&ledger.ended);
            }
            1642..1647 => {
                // The session is busy when its socket is closed.
                let busy = connection.client().batch_execute("SELECT pg_sleep(0.03)");
                give_up_after(2, busy).await;
                connection.discard();
                count(&ledger.discarded);
            }
            _ => {}
        }
        true
    }
}

impl Ledger {
    /// Counts the only two kinds of error that a command may have here.
    fn failed(&self, error: &Error) {
        match error {
            Error::Timeout(_) => count(&self.timeouts),
            Error::Lost { .. } | Error::Disconnected { .. } => count(&self.lost),
            _ => panic!("{error:?}"),
        };
    }
}

/// Returns the highest number of sessions that the server had, and how often it looked. In a thread of its own, because
/// the callers leave the test's threads little time.
fn most_sessions(database: &Database, over: &AtomicBool) -> (i64, u32) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(async {
        let watcher = database.watcher().await;
        let (mut most, mut looks) = (0, 0);
        while !over.load(Relaxed) {
            most = most.max(watcher.sessions("%").await);
            looks += 1;
            // Leaves the processor to the callers.
            sleep(Duration::from_millis(2)).await;
        }
        (most, looks)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_million_turns_every_connection_is_accounted_for() {
    let seed = rounds("CENOTE_SEED", fastrand::u32(..));
    println!("CENOTE_SEED={seed}");
    let turns = u64::from(rounds("CENOTE_TURNS", 1_000_000));
    let database = Arc::new(database().await);
    let outside = Arc::new(database.watcher().await);
    let mut config = database.config(MAX);
    config.command_timeout = Some(COMMAND_LIMIT);
    let pool = Pool::new(config).unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let watching = thread::spawn({
        let (database, over) = (database.clone(), over.clone());
        move || most_sessions(&database, &over)
    });

    let ledger = Arc::new(Ledger::default());
    let started = Instant::now();
    let callers = (0..CALLERS).map(|number| {
        let caller = Caller {
            pool: pool.clone(),
            outside: outside.clone(),
            ledger: ledger.clone(),
            random: Rng::with_seed(u64::from(seed) << 8 | number),
        };
        tokio::spawn(caller.work(turns))
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    let took = started.elapsed();
    over.store(true, Relaxed);
    let (sessions, looks) = watching.join().unwrap();

    // Each look leaves out its own session, but not the other one of this test.
    let most = sessions - 1;
    let stats = until_ok("the pool has noticed which idle sessions were ended", async || {
        let sessions = outside.sessions("%").await;
        let stats = pool.stats();
        let moving = stats.pool.connecting + stats.pool.cleaning + stats.pool.closing;
        if moving == 0 && sessions == i64::from(stats.pool.size()) {
            Ok(stats)
        } else {
            Err((sessions, stats))
        }
    })
    .await;
    println!(
        "{turns} turns in {took:?}: {ledger:?}; {} connects; at most {most} sessions in {looks} looks",
        stats.pool.connects
    );
    let seen = |counter: &AtomicU64| counter.load(Relaxed);
    assert!(most <= i64::from(MAX), "{most} sessions");
    assert_eq!((stats.pool.in_use, stats.pool.waiting), (0, 0));
    assert!(stats.pool.idle <= MAX);
    assert_eq!(stats.timeouts, seen(&ledger.timeouts));
    assert_eq!(stats.pool.timeouts, seen(&ledger.too_late));
    assert_eq!(stats.pool.refused, seen(&ledger.refused));
    assert!(stats.pool.acquired >= turns, "{}", stats.pool.acquired);
    let discarded = stats.pool.retired(Retired::Discarded);
    assert_eq!(discarded, seen(&ledger.discarded));
    let closed = stats.pool.retired_total();
    assert_eq!(stats.pool.connects, closed + u64::from(stats.pool.size()));
    assert!(seen(&ledger.lost) <= seen(&ledger.ended), "lost without a reason");

    // All connections work.
    let mut all = Vec::new();
    for _ in 0..MAX {
        all.push(pool.get().await.unwrap());
    }
    for connection in &all {
        let row = connection.client().query_one("SELECT 1", &[]).await;
        assert_eq!(row.unwrap().get::<_, i32>(0), 1);
    }
    drop(all);
    pool.close().await;
    assert_eq!(outside.sessions("%").await, 0);
}
