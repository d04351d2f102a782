//! Rows arrive as they are read, in bounded memory, and unread rows do not reach the next user.

use std::time::Duration;

use cenote_postgres::{Error, Pool};
use futures_util::{StreamExt, TryStreamExt};
use tokio::time::Instant;

use crate::support::{
    database,
    single::{assert_as_new, one},
};

const MANY: &str = "SELECT i, repeat('x', 1000) FROM generate_series(1, $1) i";

#[tokio::test]
async fn all_rows_arrive_in_order() {
    let (pool, process_id, watcher) = one().await;
    let connection = pool.get().await.unwrap();
    let mut rows = connection.query_stream(MANY, &[&30_000]).await.unwrap();
    let mut next = 1;
    while let Some(row) = rows.try_next().await.unwrap() {
        assert_eq!(row.get::<_, i32>(0), next);
        next += 1;
    }
    assert_eq!(next, 30_001);
    assert!(rows.next().await.is_none());
    drop(rows);
    drop(connection);
    assert_eq!(pool.stats().pool.cleaned, 0);
    assert_as_new(&pool, process_id, &watcher).await;
}

/// If the library read on, it would hold 2 GB in memory.
#[tokio::test]
async fn the_server_waits_for_a_caller_that_does_not_read() {
    let (pool, process_id, watcher) = one().await;
    let connection = pool.get().await.unwrap();
    let mut rows = connection.query_stream(MANY, &[&2_000_000]).await.unwrap();
    rows.next().await.unwrap().unwrap();
    watcher.sees_stuck(process_id).await;
}

#[tokio::test]
async fn a_stream_dropped_half_way_is_cancelled_when_its_connection_is_given_back() {
    let (pool, process_id, watcher) = one().await;
    let connection = pool.get().await.unwrap();
    let endless = "SELECT i, repeat('x', 1000), pg_sleep(0.001) FROM generate_series(1, $1) i";
    let mut rows = connection.query_stream(endless, &[&100_000]).await.unwrap();
    rows.next().await.unwrap().unwrap();
    drop(rows);
    drop(connection);
    assert_as_new(&pool, process_id, &watcher).await;
    assert_eq!(pool.stats().pool.connects, 1);
}

#[tokio::test]
async fn a_stream_dropped_half_way_leaves_its_transaction_alone() {
    let (pool, process_id, watcher) = one().await;
    let mut connection = pool.get().await.unwrap();
    let transaction = connection.transaction().await.unwrap();
    let insert = "INSERT INTO entry VALUES (1)";
    transaction.execute(insert, &[]).await.unwrap();
    let mut rows = transaction.query_stream(MANY, &[&10_000]).await.unwrap();
    rows.next().await.unwrap().unwrap();
    drop(rows);
    transaction.commit().await.unwrap();
    assert_eq!(watcher.rows_of("entry").await, 1);
    drop(connection);
    assert_as_new(&pool, process_id, &watcher).await;
}

#[tokio::test]
async fn an_error_half_way_ends_the_stream() {
    let (pool, process_id, watcher) = one().await;
    let connection = pool.get().await.unwrap();
    let fails = "SELECT 1 / (i - 3) FROM generate_series(1, 5) i";
    let mut rows = connection.query_stream(fails, &[]).await.unwrap();
    let mut read = 0;
    let error = loop {
        match rows.next().await.unwrap() {
            Ok(_) => read += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(read, 2);
    assert_eq!(error.code().unwrap().code(), "22012");
    assert!(rows.next().await.is_none());
    drop(rows);
    drop(connection);
    assert_eq!(pool.stats().errors, 1);
    assert_as_new(&pool, process_id, &watcher).await;
}

#[tokio::test]
async fn the_command_timeout_bounds_the_wait_for_the_next_row_and_not_the_whole_stream() {
    let database = database().await;
    let limit = Duration::from_millis(800);
    let mut config = database.config(1);
    config.command_timeout = Some(limit);
    let pool = Pool::new(config).unwrap();
    let connection = pool.get().await.unwrap();
    // Rows so large that they do not gather in a buffer on the way.
    let slow = "SELECT repeat('x', 10000), pg_sleep($1) FROM generate_series(1, 10)";
    let started = Instant::now();
    let rows = connection.query_stream(slow, &[&0.2]).await.unwrap();
    assert_eq!(rows.try_collect::<Vec<_>>().await.unwrap().len(), 10);
    assert!(started.elapsed() > 2 * limit);

    // The time that the caller takes does not count.
    let mut rows = connection.query_stream(slow, &[&0.0]).await.unwrap();
    rows.next().await.unwrap().unwrap();
    // The caller takes longer than the limit, which is about the server alone.
    tokio::time::sleep(2 * limit).await;
    assert_eq!(rows.try_collect::<Vec<_>>().await.unwrap().len(), 9);

    let silent = "SELECT pg_sleep(CASE i WHEN 2 THEN 60 ELSE 0 END), repeat('x', 10000)
                  FROM generate_series(1, 2) i";
    let mut rows = connection.query_stream(silent, &[]).await.unwrap();
    let error = loop {
        if let Err(error) = rows.next().await.unwrap() {
            break error;
        }
    };
    assert!(matches!(error, Error::Timeout(_)), "{error:?}");
    assert!(rows.next().await.is_none());
    drop(rows);
    // The next command does not wait behind it.
    connection.query("SELECT 1", &[]).await.unwrap();
    assert_eq!(pool.stats().timeouts, 1);
}
