//! Binary COPY: rows with their types, all of them or none, and a clean connection afterwards.

use std::time::Duration;

use cenote_postgres::{Error, tokio_postgres::types::Type};
use futures_util::{StreamExt, TryStreamExt};

use crate::support::{
    give_up_after,
    single::{assert_as_new, assert_clean, one},
};

const IN: &str = "COPY goods (id, name, price) FROM STDIN BINARY";
const OUT: &str = "COPY (SELECT id, name, price FROM goods ORDER BY id) TO STDOUT BINARY";
const TYPES: [Type; 3] = [Type::INT4, Type::TEXT, Type::FLOAT8];
const TABLE: &str = "CREATE TABLE goods (id int PRIMARY KEY, name text, price float8)";

#[tokio::test]
async fn rows_go_in_and_come_out_with_their_types() {
    let (pool, process_id, watcher) = one().await;
    watcher.run(TABLE).await;
    let connection = pool.get().await.unwrap();
    let mut rows = connection.copy_in_binary(IN, &TYPES).await.unwrap();
    for id in 1..=10_000 {
        let name = (id % 3 != 0).then(|| format!("name {id}"));
        rows.write(&[&id, &name, &(f64::from(id) / 2.0)]).await.unwrap();
    }
    assert_eq!(rows.finish().await.unwrap(), 10_000);
    let rows = connection.copy_out_binary(OUT, &TYPES).await.unwrap();
    let mut next = 0;
    let mut rows = std::pin::pin!(rows);
    while let Some(row) = rows.try_next().await.unwrap() {
        next += 1;
        let (id, name, price): (i32, Option<&str>, f64) = (row.get(0), row.get(1), row.get(2));
        assert_eq!((id, price), (next, f64::from(next) / 2.0));
        assert_eq!(name.is_none(), id % 3 == 0);
    }
    assert_eq!(next, 10_000);
    drop(connection);
    assert_as_new(&pool, process_id, &watcher).await;
    assert_eq!(pool.stats().pool.connects, 1);
}

#[tokio::test]
async fn a_row_that_does_not_fit_is_refused_and_nothing_of_the_copy_takes_effect() {
    let (pool, _, watcher) = one().await;
    watcher.run(TABLE).await;
    for wrong in ["type", "number", "duplicate"] {
        let connection = pool.get().await.unwrap();
        let mut rows = connection.copy_in_binary(IN, &TYPES).await.unwrap();
        rows.write(&[&1, &"one", &1.0]).await.unwrap();
        match wrong {
            "type" => {
                let error = rows.write(&[&"two", &"two", &2.0]).await.unwrap_err();
                assert!(matches!(error, Error::NotSent(_)), "{error:?}");
                // Half of a row may be in the buffer.
                let error = rows.write(&[&2, &"two", &2.0]).await.unwrap_err();
                assert!(matches!(error, Error::WrongStatement(_)), "{error:?}");
                let error = rows.finish().await.unwrap_err();
                assert!(matches!(error, Error::WrongStatement(_)), "{error:?}");
            }
            "number" => {
                let error = rows.write(&[&2, &"two"]).await.unwrap_err();
                assert_eq!(error.to_string(), "a row of 2 values for a COPY of 3 columns");
                drop(rows);
            }
            _ => {
                rows.write(&[&1, &"again", &1.0]).await.unwrap();
                let error = rows.finish().await.unwrap_err();
                assert_eq!(error.code().unwrap().code(), "23505");
            }
        }
        drop(connection);
        assert_eq!(watcher.rows_of("goods").await, 0, "{wrong}");
    }
    assert_clean(&pool, &watcher).await;
}

#[tokio::test]
async fn a_copy_dropped_at_any_await_changes_nothing_and_leaves_a_clean_connection() {
    let (pool, _, watcher) = one().await;
    watcher.run(TABLE).await;
    let mut polls = 0;
    loop {
        polls += 1;
        let work = async {
            let connection = pool.get().await.unwrap();
            let mut rows = connection.copy_in_binary(IN, &TYPES).await.unwrap();
            // More than a buffer.
            let name = "x".repeat(3_000);
            for id in 0..6 {
                rows.write(&[&id, &name, &0.5]).await.unwrap();
            }
            rows.finish().await.unwrap();
        };
        let is_done = give_up_after(polls, work).await.is_some();
        let rows = pool.query_one("SELECT count(*) FROM goods", &[]).await.unwrap();
        let rows: i64 = rows.get(0);
        assert!(rows == 0 || rows == 6, "{rows} of 6 rows");
        if is_done {
            assert_eq!(rows, 6);
            break;
        }
        pool.execute("DELETE FROM goods", &[]).await.unwrap();
    }
    assert!(polls > 2);
    assert_clean(&pool, &watcher).await;
}

#[tokio::test]
async fn a_copy_out_dropped_half_way_is_cancelled_when_its_connection_is_given_back() {
    let (pool, _, watcher) = one().await;
    let many = "COPY (SELECT i, repeat('x', 1000) FROM generate_series(1, 1000000) i) TO STDOUT BINARY";
    let connection = pool.get().await.unwrap();
    let mut rows = connection
        .copy_out_binary(many, &[Type::INT4, Type::TEXT])
        .await
        .unwrap();
    for expected in 1..=3 {
        assert_eq!(rows.next().await.unwrap().unwrap().get::<i32>(0), expected);
    }
    drop(rows);
    drop(connection);
    assert_clean(&pool, &watcher).await;
}

#[tokio::test]
async fn types_that_are_not_those_of_the_columns_are_an_error_and_no_panic() {
    let (pool, _, watcher) = one().await;
    let connection = pool.get().await.unwrap();
    let out = "COPY (SELECT 1::int, 'x'::text) TO STDOUT BINARY";
    let mut rows = connection.copy_out_binary(out, &[Type::INT4]).await.unwrap();
    assert!(rows.next().await.unwrap().is_err(), "one type for two columns");
    drop(rows);
    let mut rows = connection
        .copy_out_binary(out, &[Type::INT8, Type::TEXT])
        .await
        .unwrap();
    let row = rows.next().await.unwrap().unwrap();
    let error = Error::from(row.try_get::<i64>(0).unwrap_err());
    assert!(matches!(error, Error::Decode(_)), "{error:?}");
    drop(rows);
    drop(connection);
    assert_clean(&pool, &watcher).await;
}

#[tokio::test]
async fn the_command_timeout_bounds_the_wait_for_a_server_that_takes_no_rows() {
    let (pool, _, watcher) = one().await;
    watcher.run(TABLE).await;
    watcher.run("BEGIN; LOCK TABLE goods").await;
    let connection = pool.get().await.unwrap();
    connection.set_command_timeout(Some(Duration::from_millis(300)));
    let begun = connection.copy_in_binary(IN, &TYPES).await;
    assert!(matches!(begun, Err(Error::Timeout(_))), "{begun:?}");
    drop(begun);
    drop(connection);
    watcher.run("ROLLBACK").await;
    assert_clean(&pool, &watcher).await;
}
