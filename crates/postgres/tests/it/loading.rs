//! Look-ups by key that go together, and what each caller gets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use cenote_postgres::{Error, Loader, LoaderMany};
use tokio::{task::JoinSet, time::timeout};

use crate::support::{self, until};

const SQUARES: &str = "SELECT position, key * key FROM unnest($1::bigint[]) \
                       WITH ORDINALITY AS wanted (key, position) WHERE key >= 0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_caller_of_a_loader_gets_the_row_of_its_own_key() {
    let pool = support::database().await.pool(4);
    let loader: Loader<i64, i64> = Loader::new(pool.clone(), SQUARES, |row| Ok(row.try_get(1)?));
    let right = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for caller in 0..64i64 {
        let (loader, right) = (loader.clone(), right.clone());
        callers.spawn(async move {
            for round in 0..50 {
                let key = (caller * 50 + round) % 97 - 5;
                // Some give up half-way; the others must not notice.
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
    assert!(statements < 64 * 50, "{statements} statements for {} look-ups", 64 * 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_keys_of_one_caller_share_a_statement_with_others_and_come_back_in_their_order() {
    let pool = support::database().await.pool(4);
    let loader: Loader<i64, i64> = Loader::new(pool.clone(), SQUARES, |row| Ok(row.try_get(1)?));
    let mut callers = JoinSet::new();
    for caller in 0..24i64 {
        let loader = loader.clone();
        callers.spawn(async move {
            for round in 0..20 {
                // Sometimes more keys than a batch takes.
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
    assert_eq!(stats.requests, 24 * 40 - 20 + 1, "nothing is sent for no keys");
    assert!(stats.batches < stats.requests, "{stats:?}");
    assert_eq!((stats.waiting, stats.waiting_bytes, stats.running), (0, 0, 0));
}

#[tokio::test]
async fn a_key_that_the_database_cannot_read_fails_alone() {
    let pool = support::database().await.pool(1);
    let echo = "SELECT position, key FROM unnest($1::text[]) WITH ORDINALITY AS wanted (key, position)";
    let loader: Loader<String, String> = Loader::new(pool.clone(), echo, |row| Ok(row.try_get(1)?));
    let held = pool.get().await.unwrap();
    let mut callers = JoinSet::new();
    for key in ["a", "b", "nul\0", "c", "d"] {
        let loader = loader.clone();
        callers.spawn(async move { (key, loader.load(key.to_owned()).await) });
    }
    until("all wait for the connection", async || loader.stats().waiting == 5).await;
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
    let loader: Loader<i64, String> = Loader::new(pool.clone(), NAMES, |row| Ok(row.try_get(1)?));
    for key in 1..=10 {
        let name = loader.load(key).await.unwrap();
        assert_eq!(name, Some(format!("item {key}")));
    }
    let many = loader.load_many((1..=500).collect()).await.unwrap();
    assert_eq!(many.iter().flatten().count(), 500);
    let plans = "SELECT custom_plans, generic_plans FROM pg_prepared_statements WHERE statement = $1";
    let connection = pool.get().await.unwrap();
    let row = connection.query_one(plans, &[&NAMES]).await.unwrap();
    // PostgreSQL makes a custom plan for each of the first five.
    assert_eq!((row.get(0), row.get(1)), (5i64, 6i64));
}

const FAILS: &str = "SELECT 1::bigint / 0 AS position, $1::bigint[]";

#[tokio::test]
async fn a_statement_that_fails_is_the_same_error_for_every_caller() {
    let pool = support::database().await.pool(4);
    let loader: Loader<i64, i64> = Loader::new(pool, FAILS, |row| Ok(row.try_get(1)?));
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
    let loader: Loader<i64, i64> = Loader::new(pool.clone(), SQUARES, |row| Ok(row.try_get(1)?));
    let started = std::time::Instant::now();
    let mut callers = JoinSet::new();
    for key in 0..20 {
        let loader = loader.clone();
        callers.spawn(async move { loader.load(key).await });
    }
    until("all wait for the connection", async || loader.stats().waiting == 20).await;
    while let Some(ended) = callers.join_next().await {
        let error = ended.unwrap().unwrap_err();
        assert!(matches!(error, Error::Acquire(_)), "{error}");
    }
    // If the wait in the queue did not count, the others would begin to wait when the first gives up.
    let took = started.elapsed();
    assert!(took < wait * 2, "{took:?}");
}

/// A table in which keys and positions are unrelated.
async fn orders(pool: &cenote_postgres::Pool) {
    let create = "CREATE TABLE orders (id bigint, customer bigint); \
         INSERT INTO orders VALUES (2, 10), (1, 20), (3, 20)";
    pool.get().await.unwrap().batch_execute(create).await.unwrap();
}

#[tokio::test]
async fn a_statement_whose_rows_do_not_carry_a_position_is_an_error_the_first_time() {
    let pool = support::database().await.pool(1);
    orders(&pool).await;
    let wrong = [
        (
            "SELECT o.id, o.customer FROM orders AS o WHERE o.id = ANY($1::bigint[])",
            "not `id`",
        ),
        (
            "SELECT 1 AS position, o.customer FROM orders AS o WHERE o.id = ANY($1::bigint[])",
            "not int4",
        ),
        ("DELETE FROM orders WHERE id = ANY($1::bigint[])", "must return rows"),
    ];
    for (sql, why) in wrong {
        let loader: Loader<i64, i64> = Loader::new(pool.clone(), sql, |row| Ok(row.try_get(1)?));
        let many: LoaderMany<i64, i64> = LoaderMany::new(pool.clone(), sql, |row| Ok(row.try_get(1)?));
        // The statement is wrong for a key without rows, too.
        for key in [77, 1] {
            let errors = [loader.load(key).await.map(drop), many.load(key).await.map(drop)];
            for error in errors.map(Result::unwrap_err) {
                assert!(matches!(error, Error::WrongStatement(_)), "{error:?}");
                assert!(error.to_string().contains(why), "{error}");
                assert!(!error.is_retryable() && !error.is_outcome_unknown());
            }
        }
    }
    assert_eq!(pool.stats().queries, 1, "none of them has run");
}

#[tokio::test]
async fn a_position_that_no_key_has_is_an_error_and_no_caller_gets_the_row() {
    let pool = support::database().await.pool(1);
    let positions = ["0", "3", "-1", "", "9223372036854775807", "-9223372036854775808"];
    for position in positions {
        let sql = format!("SELECT nullif('{position}', '')::bigint AS position, 7::bigint, $1::bigint[]");
        let loader: Loader<i64, i64> = Loader::new(pool.clone(), sql.leak(), |row| Ok(row.try_get(1)?));
        let error = loader.load_many(vec![1, 2]).await.unwrap_err();
        assert!(matches!(error, Error::WrongStatement(_)), "{position}: {error}");
    }
}

const OF_CUSTOMERS: &str = "SELECT position, id FROM unnest($1::bigint[]) \
     WITH ORDINALITY AS wanted (customer, position) JOIN orders USING (customer) ORDER BY id DESC";

#[tokio::test]
async fn a_second_row_for_a_key_is_an_error_that_names_the_key_and_concerns_no_other_caller() {
    let pool = support::database().await.pool(1);
    orders(&pool).await;
    let loader: Loader<i64, i64> = Loader::new(pool.clone(), OF_CUSTOMERS, |row| Ok(row.try_get(1)?));
    let held = pool.get().await.unwrap();
    let (one, none, two) = tokio::join!(loader.load(10), loader.load(30), async {
        let asked = loader.load(20);
        drop(held);
        asked.await
    });
    assert_eq!((one.unwrap(), none.unwrap()), (Some(2), None));
    let error = two.unwrap_err();
    assert!(
        matches!(&error, Error::SeveralRows { key } if &**key == "20"),
        "{error:?}"
    );
    assert!(!error.is_retryable());
    assert_eq!(loader.stats().batches, 1);
    assert!(loader.load_many(vec![10, 20]).await.is_err());
}

#[tokio::test]
async fn a_loader_of_many_gives_each_key_all_of_its_rows_in_their_order() {
    let pool = support::database().await.pool(1);
    orders(&pool).await;
    let loader: LoaderMany<i64, i64> = LoaderMany::new(pool.clone(), OF_CUSTOMERS, |row| Ok(row.try_get(1)?));
    let (one, two, again, none) = tokio::join!(loader.load(10), loader.load(20), loader.load(20), loader.load(30));
    assert_eq!((one.unwrap(), none.unwrap()), (vec![2], vec![]));
    assert_eq!((two.unwrap(), again.unwrap()), (vec![3, 1], vec![3, 1]));
    let many = loader.load_many(vec![20, 30, 10]).await.unwrap();
    assert_eq!(many, [vec![3, 1], vec![], vec![2]]);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_fails_its_own_caller_and_costs_no_connection() {
    let pool = support::database().await.pool(1);
    let loader: Loader<i64, i64> = Loader::new(pool.clone(), SQUARES, |row| {
        let square: i64 = row.try_get(1)?;
        match square {
            4 => Err("four is not to be read".into()),
            9 => Ok(row.try_get::<_, String>(1)?.len() as i64),
            16 => panic!("sixteen"),
            square => Ok(square),
        }
    });
    let held = pool.get().await.unwrap();
    let process_id = held.process_id();
    let mut callers = JoinSet::new();
    for key in 1..=5 {
        let loader = loader.clone();
        callers.spawn(async move { (key, loader.load(key).await) });
    }
    until("all wait for the connection", async || loader.stats().waiting == 5).await;
    drop(held);
    while let Some(answered) = callers.join_next().await {
        let (key, answer) = answered.unwrap();
        let why = match key {
            2 => "four is not to be read",
            3 => "error deserializing column 1: cannot convert",
            4 => "panicked: sixteen",
            _ => {
                assert_eq!(answer.unwrap(), Some(key * key));
                continue;
            }
        };
        let error = answer.unwrap_err();
        assert!(matches!(error, Error::Decode(_)), "{error:?}");
        assert!(error.to_string().contains(why), "{error}");
        assert!(!error.is_retryable() && !error.is_outcome_unknown());
    }
    assert_eq!(loader.stats().batches, 1, "nothing was repeated");
    assert_eq!(pool.get().await.unwrap().process_id(), process_id);
}
