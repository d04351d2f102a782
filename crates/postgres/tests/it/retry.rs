//! Only an error that passes by itself is tried again, and only as often as the settings allow.

use std::{cell::Cell, time::Duration};

use cenote_postgres::{Error, Pool, Retry};

use crate::support::{Database, database};

fn pool(database: &Database, attempts: u32) -> Pool {
    let mut config = database.config(4);
    let delay = Duration::from_millis(5);
    config.retry = Retry { attempts, delay };
    Pool::new(config).unwrap()
}

#[tokio::test]
async fn a_read_is_repeated_over_a_killed_connection() {
    let database = database().await;
    let watcher = database.watcher().await;
    let pool = pool(&database, 3);
    let tries = Cell::new(0);
    let row = pool
        .retry_idempotent(async || {
            tries.set(tries.get() + 1);
            let connection = pool.get().await?;
            if tries.get() == 1 {
                watcher.terminate(connection.process_id()).await;
            }
            // The first try lasts until its session is ended.
            let seconds = if tries.get() == 1 { 60.0 } else { 0.0 };
            let read = "SELECT 7 FROM pg_sleep($1)";
            connection.query_one(read, &[&seconds]).await
        })
        .await
        .unwrap();
    assert_eq!(row.get::<_, i32>(0), 7);
    assert_eq!(tries.get(), 2);
}

#[tokio::test]
async fn a_write_is_not_repeated_over_a_connection_killed_while_it_ran() {
    let database = database().await;
    let watcher = database.watcher().await;
    let pool = pool(&database, 3);
    let tries = Cell::new(0);
    let error = pool
        .retry(async || {
            tries.set(tries.get() + 1);
            let connection = pool.get().await?;
            let process_id = connection.process_id();
            let write = connection.query_one("SELECT 7 FROM pg_sleep(60)", &[]);
            let kill = async {
                watcher.sees_running(process_id, "pg_sleep").await;
                watcher.terminate(process_id).await;
            };
            tokio::join!(write, kill).0
        })
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error:?}");
    assert!(error.is_outcome_unknown());
    assert_eq!(tries.get(), 1);
}

#[tokio::test]
async fn a_write_is_repeated_over_a_connection_killed_before_it_was_sent() {
    let database = database().await;
    let watcher = database.watcher().await;
    watcher.run("CREATE TABLE entry (id int)").await;
    let pool = pool(&database, 3);
    let tries = Cell::new(0);
    pool.retry(async || {
        tries.set(tries.get() + 1);
        let connection = pool.get().await?;
        if tries.get() == 1 {
            watcher.terminate(connection.process_id()).await;
            watcher.sees_gone(connection.process_id()).await;
        }
        let insert = "INSERT INTO entry VALUES (1)";
        connection.execute(insert, &[]).await
    })
    .await
    .unwrap();
    assert_eq!(tries.get(), 2);
    assert_eq!(watcher.rows_of("entry").await, 1);
}

/// To prepare a statement waits for the locks of its tables and executes nothing.
#[tokio::test]
async fn a_write_is_repeated_over_a_connection_killed_while_it_was_prepared() {
    let database = database().await;
    let watcher = database.watcher().await;
    watcher.run("CREATE TABLE entry (id int)").await;
    // Another session: in a transaction, the watcher would go on seeing the activity that it saw first.
    let rival = database.watcher().await;
    rival.run("BEGIN; LOCK TABLE entry").await;
    let pool = pool(&database, 3);
    let tries = Cell::new(0);
    pool.retry(async || {
        tries.set(tries.get() + 1);
        let connection = pool.get().await?;
        let process_id = connection.process_id();
        let write = connection.execute("INSERT INTO entry VALUES (1)", &[]);
        let kill = async {
            if tries.get() == 1 {
                watcher.sees_running(process_id, "INSERT").await;
                watcher.terminate(process_id).await;
                rival.run("COMMIT").await;
            }
        };
        let (written, ()) = tokio::join!(write, kill);
        if tries.get() == 1 {
            let error = written.as_ref().unwrap_err();
            assert!(matches!(error, Error::Disconnected { .. }), "{error:?}");
        }
        written
    })
    .await
    .unwrap();
    assert_eq!(tries.get(), 2);
    assert_eq!(watcher.rows_of("entry").await, 1);
}

#[tokio::test]
async fn a_serialization_failure_is_repeated_until_it_works() {
    let database = database().await;
    let watcher = database.watcher().await;
    watcher
        .run("CREATE TABLE account (sum int); INSERT INTO account VALUES (0)")
        .await;
    let pool = pool(&database, 3);
    let tries = Cell::new(0);
    pool.retry(async || {
        tries.set(tries.get() + 1);
        let mut connection = pool.get().await?;
        let transaction = connection.transaction().await?;
        transaction
            .batch_execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT * FROM account")
            .await?;
        if tries.get() == 1 {
            watcher.run("UPDATE account SET sum = sum + 100").await;
        }
        let add = "UPDATE account SET sum = sum + 1";
        transaction.execute(add, &[]).await?;
        transaction.commit().await
    })
    .await
    .unwrap();
    assert_eq!(tries.get(), 2);
    let sum = "SELECT sum::bigint FROM account";
    assert_eq!(watcher.number(sum, &[]).await, 101);
}

#[tokio::test]
async fn a_unique_violation_is_not_repeated() {
    let database = database().await;
    let watcher = database.watcher().await;
    watcher
        .run("CREATE TABLE entry (id int PRIMARY KEY); INSERT INTO entry VALUES (1)")
        .await;
    let pool = pool(&database, 3);
    for idempotent in [false, true] {
        let tries = Cell::new(0);
        let work = async || {
            tries.set(tries.get() + 1);
            let connection = pool.get().await?;
            connection.execute("INSERT INTO entry VALUES (1)", &[]).await
        };
        let error = match idempotent {
            false => pool.retry(work).await.unwrap_err(),
            true => pool.retry_idempotent(work).await.unwrap_err(),
        };
        assert_eq!(error.constraint(), Some("entry_pkey"));
        assert_eq!(tries.get(), 1);
    }
}

#[tokio::test]
async fn tries_are_bounded_and_the_last_error_is_returned() {
    let database = database().await;
    for attempts in [0, 1, 2, 5] {
        let pool = pool(&database, attempts);
        let tries = Cell::new(0);
        let error = pool
            .retry(async || {
                tries.set(tries.get() + 1);
                let connection = pool.get().await?;
                let fail = "DO $$ BEGIN RAISE 'conflict' USING ERRCODE = '40001'; END $$";
                connection.batch_execute(fail).await
            })
            .await
            .unwrap_err();
        assert_eq!(error.code().unwrap().code(), "40001");
        assert_eq!(tries.get(), attempts.max(1));
    }
}
