//! Look-ups by key that go together, and what each caller gets of them.

#![allow(clippy::unwrap_used, reason = "a panic is the failed assertion")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use cenote_postgres::{Error, Loader};
use tokio::{
    task::{JoinSet, yield_now},
    time::timeout,
};

use self::support::SOON;

const SQUARES: &str = "SELECT position, key * key FROM unnest($1::bigint[]) \
                       WITH ORDINALITY AS wanted (key, position) WHERE key >= 0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_caller_of_a_loader_gets_the_row_of_its_own_key() {
    let pool = support::database().await.pool(4);
    let loader: Loader<i64, i64> = Loader::new(pool.clone(), SQUARES, |row| row.get(1));
    let right = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for caller in 0..64i64 {
        let (loader, right) = (loader.clone(), right.clone());
        callers.spawn(async move {
            for round in 0..50 {
                let key = (caller * 50 + round) % 97 - 5;
                // Some give up on the way; the others must not notice.
                if round % 7 == 3 {
                    let _gone = timeout(Duration::from_micros(50), loader.load(key)).await;
                }
                let expected = (key >= 0).then_some(key * key);
                assert_eq!(loader.load(key).await.unwrap(), expected);
                right.fetch_add(1, SeqCst);
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    assert_eq!(right.load(SeqCst), 64 * 50);
    let statements = pool.stats().queries;
    assert!(
        statements < 64 * 50,
        "{statements} statements for {} look-ups",
        64 * 50
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_keys_of_one_caller_share_a_statement_with_others_and_come_back_in_their_order() {
    let pool = support::database().await.pool(4);
    let loader: Loader<i64, i64> = Loader::new(pool.clone(), SQUARES, |row| row.get(1));
    let mut callers = JoinSet::new();
    for caller in 0..24i64 {
        let loader = loader.clone();
        callers.spawn(async move {
            for round in 0..20 {
                // More than a batch has, once in a while.
                let many = if round == 7 { 700 } else { caller };
                let keys: Vec<i64> = (0..many).map(|n| (n * caller) % 31 - 3).collect();
                let found = loader.load_many(keys.clone()).await.unwrap();
                let expected = keys.iter().map(|key| (*key >= 0).then_some(key * key));
                assert!(expected.eq(found));
                let one = loader.load(caller).await.unwrap();
                assert_eq!(one, Some(caller * caller));
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    let stats = loader.stats();
    assert_eq!(
        stats.requests,
        24 * 40 - 20 + 1,
        "nothing is sent for no keys"
    );
    assert!(stats.batches < stats.requests, "{stats:?}");
    assert_eq!(
        (stats.waiting, stats.waiting_bytes, stats.running),
        (0, 0, 0)
    );
}

#[tokio::test]
async fn a_key_that_the_database_cannot_read_fails_alone() {
    let pool = support::database().await.pool(1);
    let echo =
        "SELECT position, key FROM unnest($1::text[]) WITH ORDINALITY AS wanted (key, position)";
    let loader: Loader<String, String> = Loader::new(pool.clone(), echo, |row| row.get(1));
    let held = pool.get().await.unwrap();
    let mut callers = JoinSet::new();
    for key in ["a", "b", "nul\0", "c", "d"] {
        let loader = loader.clone();
        callers.spawn(async move { (key, loader.load(key.to_owned()).await) });
    }
    let all_wait = async {
        while loader.stats().waiting < 5 {
            yield_now().await;
        }
    };
    timeout(SOON, all_wait).await.unwrap();
    drop(held);
    while let Some(answered) = callers.join_next().await {
        match answered.unwrap() {
            ("nul\0", answer) => assert_eq!(answer.unwrap_err().code().unwrap().code(), "22021"),
            (key, answer) => assert_eq!(answer.unwrap().unwrap(), key),
        }
    }
    assert_eq!(loader.stats().batches, 1);
}

/// The statement of `Loader`'s documentation.
const NAMES: &str = "SELECT wanted.position, item.name \
     FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (id, position) JOIN item USING (id) \
     WHERE wanted.position BETWEEN 1 AND 1000000";

#[tokio::test]
async fn a_query_that_expects_one_key_is_planned_once_for_batches_of_any_size() {
    let pool = support::database().await.pool(1);
    let create = "CREATE TABLE item (id bigint PRIMARY KEY, name text); \
         INSERT INTO item SELECT n, 'item ' || n FROM generate_series(1, 1000) AS n; ANALYZE item";
    let connection = pool.get().await.unwrap();
    connection.batch_execute(create).await.unwrap();
    drop(connection);
    let loader: Loader<i64, String> = Loader::new(pool.clone(), NAMES, |row| row.get(1));
    for key in 1..=10 {
        let name = loader.load(key).await.unwrap();
        assert_eq!(name, Some(format!("item {key}")));
    }
    let many = loader.load_many((1..=500).collect()).await.unwrap();
    assert_eq!(many.iter().flatten().count(), 500);
    let plans =
        "SELECT custom_plans, generic_plans FROM pg_prepared_statements WHERE statement = $1";
    let connection = pool.get().await.unwrap();
    let row = connection.query_one(plans, &[&NAMES]).await.unwrap();
    // PostgreSQL plans the first five for what they ask.
    assert_eq!((row.get(0), row.get(1)), (5i64, 6i64));
}

#[tokio::test]
async fn when_the_statement_fails_every_caller_is_told_why() {
    let pool = support::database().await.pool(4);
    let loader: Loader<i64, i64> =
        Loader::new(pool, "SELECT 1::bigint / 0, $1::bigint[]", |row| row.get(1));
    let (one, two) = tokio::join!(loader.load(1), loader.load(2));
    for error in [one.unwrap_err(), two.unwrap_err()] {
        assert_eq!(error.code().map(|code| code.code()), Some("22012"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wait_in_the_queue_counts_against_the_wait_for_a_connection() {
    let mut config = support::database().await.config(1);
    let wait = Duration::from_secs(3);
    config.pool.acquire_timeout = wait;
    let pool = cenote_postgres::Pool::new(config).unwrap();
    let _held = pool.get().await.unwrap();
    let loader: Loader<i64, i64> = Loader::new(pool.clone(), SQUARES, |row| row.get(1));
    let started = std::time::Instant::now();
    let mut callers = JoinSet::new();
    for key in 0..20 {
        let loader = loader.clone();
        callers.spawn(async move { loader.load(key).await });
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    while let Some(ended) = callers.join_next().await {
        let error = ended.unwrap().unwrap_err();
        assert!(matches!(error, Error::Acquire(_)), "{error}");
    }
    // Those in the queue would otherwise begin to wait when the first has given up.
    let took = started.elapsed();
    assert!(took < wait * 2, "{took:?}");
}
