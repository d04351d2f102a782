//! Ten thousand commands run into their limit and are cancelled on the server, on connections that others use before
//! and after: none of the others is cancelled or gets another's answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use cenote_postgres::{Error, Pool, tokio_postgres::error::SqlState};
use tokio::time::Instant;

use crate::support::{database, rounds};

/// So short that a cancel request often arrives when its command has just ended, or during the next one.
const LIMIT: Duration = Duration::from_millis(2);
const CONNECTIONS: u32 = 8;
const CALLERS: u64 = 12;

/// What the callers saw.
#[derive(Default)]
struct Seen {
    timeouts: AtomicU64,
    just_in_time: AtomicU64,
    answers: AtomicU64,
    cancelled: AtomicU64,
    wrong: AtomicU64,
}

impl Seen {
    fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }
}

/// Runs a command that takes about as long as it may.
async fn slow(pool: &Pool, seen: &Seen) {
    let seconds = LIMIT.as_secs_f64() * (0.5 + 2.5 * fastrand::f64());
    let connection = pool.get().await.unwrap();
    match connection.execute("SELECT pg_sleep($1)", &[&seconds]).await {
        Ok(_) => Seen::count(&seen.just_in_time),
        Err(Error::Timeout(_)) => Seen::count(&seen.timeouts),
        Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => {
            // By a request that was meant for another command.
            Seen::count(&seen.cancelled);
        }
        Err(error) => panic!("neither ended nor timed out: {error}"),
    }
}

/// Runs a command without a limit, with an answer that no other has, long enough to be hit by a late cancel request.
async fn neighbour(pool: &Pool, seen: &Seen, unique: i64) {
    let connection = pool.get().await.unwrap();
    let sql = "SELECT $1::bigint * 3 FROM pg_sleep(0.001)";
    match connection.client().query_one(sql, &[&unique]).await {
        Ok(row) if row.get::<_, i64>(0) == unique * 3 => Seen::count(&seen.answers),
        Ok(_) => Seen::count(&seen.wrong),
        Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => {
            Seen::count(&seen.cancelled);
        }
        Err(error) => panic!("neither answered nor cancelled: {error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_timeouts_cancel_not_one_neighbour() {
    let database = database().await;
    let watcher = database.watcher().await;
    let mut config = database.config(CONNECTIONS);
    config.command_timeout = Some(LIMIT);
    let pool = Pool::new(config).unwrap();
    let wanted = u64::from(rounds("CENOTE_TIMEOUTS", 10_000));
    let seen = Arc::new(Seen::default());
    let started = Instant::now();

    let callers = (0..2 * CALLERS).map(|caller| {
        let (pool, seen) = (pool.clone(), seen.clone());
        tokio::spawn(async move {
            let mut turn = 0;
            while seen.timeouts.load(Relaxed) < wanted {
                if caller < CALLERS {
                    slow(&pool, &seen).await;
                } else {
                    neighbour(&pool, &seen, (caller << 32 | turn).cast_signed()).await;
                }
                turn += 1;
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }

    let count = |counter: &AtomicU64| counter.load(Relaxed);
    let (timeouts, answers) = (count(&seen.timeouts), count(&seen.answers));
    println!(
        "{timeouts} timeouts, {} commands just in time, {answers} neighbours answered, {:?}",
        count(&seen.just_in_time),
        started.elapsed()
    );
    assert_eq!(count(&seen.cancelled), 0, "cancelled by another's request");
    assert_eq!(count(&seen.wrong), 0, "neighbours with another's answer");
    assert!(timeouts >= wanted && answers >= wanted / 2, "{answers}");
    let stats = pool.stats();
    assert_eq!(stats.timeouts, timeouts);
    assert_eq!((stats.pool.in_use, stats.pool.waiting), (0, 0));
    pool.close().await;
    assert_eq!(watcher.sessions("%").await, 0);
}
