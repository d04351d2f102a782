//! A row stream that owns its connection: however it ends, the next user of the connection finds nothing of it.

use std::time::Duration;

use cenote_postgres::{Error, OwnedRowStream, Pool};
use futures_util::{StreamExt, TryStreamExt};

use crate::support::{
    database, give_up_after,
    single::{assert_as_new, assert_clean, one},
    until,
};

const MANY: &str = "SELECT i, repeat('x', 1000) FROM generate_series(1, $1) i";

fn is_send<T: Send + 'static>(it: T) -> T {
    it
}

#[tokio::test]
async fn a_stream_outlives_its_handle_and_returns_its_connection_with_the_last_row() {
    let (pool, process_id, watcher) = one().await;
    let mut rows = {
        let handle = pool.clone();
        is_send(handle.query_stream(MANY, &[&20_000]).await.unwrap())
    };
    let mut next = 1;
    while let Some(row) = rows.try_next().await.unwrap() {
        assert_eq!(row.get::<_, i32>(0), next);
        next += 1;
    }
    assert_eq!(next, 20_001);
    assert_eq!(
        pool.stats().pool.in_use,
        0,
        "it is returned although the stream is still held"
    );
    assert!(rows.next().await.is_none());
    assert_as_new(&pool, process_id, &watcher).await;
    assert_eq!(pool.stats().pool.cleaned, 0);
}

#[tokio::test]
async fn a_stream_dropped_after_any_number_of_rows_leaves_a_clean_connection() {
    let (pool, _, watcher) = one().await;
    for read in [0, 1, 7, 500, 4_999, 5_000] {
        let mut rows = pool.query_stream(MANY, &[&5_000]).await.unwrap();
        for _ in 0..read {
            rows.next().await.unwrap().unwrap();
        }
        drop(rows);
        // It would wait behind unread rows, or see the error of a late cancel.
        let alone = pool.query_one("SELECT $1::int", &[&read]).await.unwrap();
        assert_eq!(alone.get::<_, i32>(0), read);
    }
    assert_clean(&pool, &watcher).await;
}

#[tokio::test]
async fn an_endless_query_ends_on_the_server_when_its_stream_is_dropped() {
    let (pool, _, watcher) = one().await;
    let endless = "SELECT i, repeat('x', 1000), pg_sleep(0.001) FROM generate_series(1, $1) i";
    let mut rows = pool.query_stream(endless, &[&100_000]).await.unwrap();
    rows.next().await.unwrap().unwrap();
    drop(rows);
    // Idle, or gone.
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(0.001)%' AND state = 'active' \
                   AND pid <> pg_backend_pid() AND datname = current_database()";
    until("it has ended", async || watcher.number(running, &[]).await == 0).await;
    assert_clean(&pool, &watcher).await;
}

#[tokio::test]
async fn a_caller_dropped_at_any_await_of_the_beginning_leaves_a_clean_connection() {
    let (pool, _, watcher) = one().await;
    let mut polls = 0;
    loop {
        polls += 1;
        let begun = give_up_after(polls, Box::pin(pool.query_stream(MANY, &[&5_000]))).await;
        let is_done = begun.is_some();
        drop(begun);
        let row = pool.query_one("SELECT $1::int", &[&7]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), 7);
        if is_done {
            break;
        }
    }
    assert!(polls > 1, "it was never dropped at an await");
    assert_clean(&pool, &watcher).await;
}

#[tokio::test]
async fn what_its_query_changed_in_the_session_does_not_reach_the_next_user() {
    let (pool, _, watcher) = one().await;
    let sets = "SELECT set_config('work_mem', '1MB', false), i FROM generate_series(1, 3) i";
    for read_all in [true, false] {
        let mut rows = pool.query_stream(sets, &[]).await.unwrap();
        rows.next().await.unwrap().unwrap();
        while read_all && rows.next().await.is_some() {}
        drop(rows);
        let row = pool.query_one("SELECT current_setting('work_mem')", &[]).await.unwrap();
        assert_ne!(row.get::<_, &str>(0), "1MB");
    }
    assert_clean(&pool, &watcher).await;
}

#[tokio::test]
async fn an_error_half_way_ends_it_and_returns_its_connection() {
    let (pool, _, watcher) = one().await;
    let fails = "SELECT 1 / (i - 3) FROM generate_series(1, 5) i";
    let mut rows = pool.query_stream(fails, &[]).await.unwrap();
    let error = loop {
        if let Err(error) = rows.next().await.unwrap() {
            break error;
        }
    };
    assert_eq!(error.code().unwrap().code(), "22012");
    until("it is returned", async || pool.stats().pool.in_use == 0).await;
    assert!(rows.next().await.is_none());
    assert_clean(&pool, &watcher).await;
}

#[tokio::test]
async fn the_limit_of_its_handle_bounds_the_wait_for_each_row() {
    let pool = database().await.pool(1);
    let hasty = pool.within(Some(Duration::from_millis(300)));
    let silent = "SELECT pg_sleep(CASE i WHEN 2 THEN 60 ELSE 0 END), repeat('x', 10000) FROM generate_series(1, 2) i";
    let rows = hasty.query_stream(silent, &[]).await.unwrap();
    let error = rows.try_collect::<Vec<_>>().await.unwrap_err();
    assert!(matches!(error, Error::Timeout(_)), "{error:?}");
    pool.query("SELECT 1", &[]).await.unwrap();
}

#[tokio::test]
async fn many_streams_dropped_at_random_never_disturb_their_neighbours() {
    let pool = database().await.pool(3);
    let tasks: Vec<_> = (0..6)
        .map(|_| {
            let pool: Pool = pool.clone();
            tokio::spawn(async move {
                for _ in 0..25 {
                    let mut rows: OwnedRowStream = pool.query_stream(MANY, &[&2_000]).await.unwrap();
                    for at in 1..=fastrand::i32(0..2_000) {
                        assert_eq!(rows.next().await.unwrap().unwrap().get::<_, i32>(0), at);
                    }
                    drop(rows);
                    let number = fastrand::i32(..);
                    let row = pool.query_one("SELECT $1::int", &[&number]).await.unwrap();
                    assert_eq!(row.get::<_, i32>(0), number);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}
