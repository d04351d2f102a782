//! A transaction takes effect completely or not at all, and its result says which.

use std::time::Duration;

use cenote_postgres::{Connection, Error, Pool};

use crate::support::{Database, Watcher, database, give_up_after};

const INSERT: &str = "INSERT INTO entry VALUES (1)";
/// A statement that waits until the test releases the lock.
const AWAIT_LOCK: &str = "SELECT pg_advisory_xact_lock(1)";
const LOCK: &str = "SELECT pg_advisory_lock(1)";
const UNLOCK: &str = "SELECT pg_advisory_unlock(1)";

async fn table() -> (Database, Watcher) {
    let database = database().await;
    let watcher = database.watcher().await;
    watcher.run("CREATE TABLE entry (id int PRIMARY KEY)").await;
    (database, watcher)
}

/// Checks that the server sees the connection outside a transaction.
async fn assert_outside(connection: &Connection, watcher: &Watcher, when: &str) {
    connection.query("SELECT 1", &[]).await.unwrap();
    let (state, _) = watcher.activity(connection.process_id()).await.unwrap();
    assert_eq!(state, "idle", "{when}");
}

#[tokio::test]
async fn what_is_committed_is_visible_to_other_sessions() {
    let (database, watcher) = table().await;
    let pool = database.pool(1);
    let mut connection = pool.get().await.unwrap();
    let transaction = connection.transaction().await.unwrap();
    transaction.execute(INSERT, &[]).await.unwrap();
    assert_eq!(watcher.rows_of("entry").await, 0, "before the commit");
    transaction.commit().await.unwrap();
    assert_eq!(watcher.rows_of("entry").await, 1);
    assert_outside(&connection, &watcher, "after the commit").await;
}

#[tokio::test]
async fn a_rollback_undoes_everything() {
    let (database, watcher) = table().await;
    let pool = database.pool(1);
    let mut connection = pool.get().await.unwrap();
    let transaction = connection.transaction().await.unwrap();
    transaction.execute(INSERT, &[]).await.unwrap();
    transaction.rollback().await.unwrap();
    assert_outside(&connection, &watcher, "after the rollback").await;
    assert_eq!(watcher.rows_of("entry").await, 0);
}

#[tokio::test]
async fn after_a_dropped_transaction_the_same_connection_goes_on_outside_it() {
    let (database, watcher) = table().await;
    let pool = database.pool(1);
    let mut connection = pool.get().await.unwrap();
    let transaction = connection.transaction().await.unwrap();
    transaction.execute(INSERT, &[]).await.unwrap();
    drop(transaction);
    let other = "INSERT INTO entry VALUES (2)";
    connection.execute(other, &[]).await.unwrap();
    assert_outside(&connection, &watcher, "after the drop").await;
    let only = "SELECT sum(id) FROM entry";
    assert_eq!(watcher.number(only, &[]).await, 2);
}

#[tokio::test]
async fn committing_a_failed_transaction_says_so_and_keeps_nothing() {
    let (database, watcher) = table().await;
    let pool = database.pool(1);
    let mut connection = pool.get().await.unwrap();
    let transaction = connection.transaction().await.unwrap();
    transaction.execute(INSERT, &[]).await.unwrap();
    transaction.query("SELECT 1 / 0", &[]).await.unwrap_err();
    let error = transaction.commit().await.unwrap_err();
    assert!(matches!(error, Error::RolledBack), "{error:?}");
    assert!(!error.is_outcome_unknown());
    assert_outside(&connection, &watcher, "after the commit").await;
    assert_eq!(watcher.rows_of("entry").await, 0);
}

#[tokio::test]
async fn a_commit_that_breaks_a_deferred_constraint_is_an_error_and_keeps_nothing() {
    let (database, watcher) = table().await;
    watcher
        .run("CREATE TABLE part (of int REFERENCES entry DEFERRABLE INITIALLY DEFERRED)")
        .await;
    let pool = database.pool(1);
    let mut connection = pool.get().await.unwrap();
    let transaction = connection.transaction().await.unwrap();
    let orphan = "INSERT INTO part VALUES (7)";
    transaction.execute(orphan, &[]).await.unwrap();
    let error = transaction.commit().await.unwrap_err();
    assert_eq!(error.constraint(), Some("part_of_fkey"));
    assert_outside(&connection, &watcher, "after the commit").await;
    assert_eq!(watcher.rows_of("part").await, 0);
}

/// The server answers such a commit with a rollback, and no error.
#[tokio::test]
async fn a_commit_after_a_timed_out_statement_does_not_claim_success() {
    let (database, watcher) = table().await;
    let mut config = database.config(1);
    config.command_timeout = Some(Duration::from_secs(1));
    let pool = Pool::new(config).unwrap();
    let mut connection = pool.get().await.unwrap();
    let transaction = connection.transaction().await.unwrap();
    transaction.execute(INSERT, &[]).await.unwrap();
    let error = transaction.query("SELECT pg_sleep(30)", &[]).await;
    assert!(matches!(error, Err(Error::Timeout(_))), "{error:?}");
    let error = transaction.commit().await.unwrap_err();
    assert!(matches!(error, Error::RolledBack), "{error:?}");
    assert_outside(&connection, &watcher, "after the commit").await;
    assert_eq!(watcher.rows_of("entry").await, 0);
}

/// The statement still runs when the commit is sent, and fails only then.
#[tokio::test]
async fn a_commit_behind_a_given_up_statement_that_fails_does_not_claim_success() {
    let (database, watcher) = table().await;
    let pool = database.pool(1);
    let mut connection = pool.get().await.unwrap();
    let process_id = connection.process_id();
    let transaction = connection.transaction().await.unwrap();
    transaction.execute(INSERT, &[]).await.unwrap();
    watcher.run(LOCK).await;
    let failing = format!("{AWAIT_LOCK}; SELECT 1 / 0");
    tokio::select! {
        ended = transaction.batch_execute(&failing) => panic!("{ended:?}"),
        () = watcher.sees_running(process_id, AWAIT_LOCK) => {}
    }
    let (committed, ()) = tokio::join!(transaction.commit(), watcher.run(UNLOCK));
    let error = committed.unwrap_err();
    assert!(matches!(error, Error::RolledBack), "{error:?}");
    assert_outside(&connection, &watcher, "after the commit").await;
    assert_eq!(watcher.rows_of("entry").await, 0);
}

#[tokio::test]
async fn a_commit_behind_a_given_up_statement_that_succeeds_keeps_both() {
    let (database, watcher) = table().await;
    let pool = database.pool(1);
    let mut connection = pool.get().await.unwrap();
    let process_id = connection.process_id();
    let transaction = connection.transaction().await.unwrap();
    watcher.run(LOCK).await;
    let slow = format!("{AWAIT_LOCK}; {INSERT}");
    tokio::select! {
        ended = transaction.batch_execute(&slow) => panic!("{ended:?}"),
        () = watcher.sees_running(process_id, AWAIT_LOCK) => {}
    }
    let (committed, ()) = tokio::join!(transaction.commit(), watcher.run(UNLOCK));
    committed.unwrap();
    assert_eq!(watcher.rows_of("entry").await, 1);
}

#[tokio::test]
async fn a_begin_dropped_at_any_await_leaves_the_connection_outside() {
    let (database, watcher) = table().await;
    let pool = database.pool(1);
    let mut connection = pool.get().await.unwrap();
    for polls in 1.. {
        let begun = give_up_after(polls, connection.transaction()).await;
        let finished = begun.is_some();
        drop(begun);
        let when = format!("begin dropped after {polls} polls");
        assert_outside(&connection, &watcher, &when).await;
        if finished {
            assert!(polls > 1, "never dropped half-way");
            break;
        }
    }
    assert_eq!(pool.stats().pool.connects, 1);
}

#[tokio::test]
async fn a_commit_dropped_at_any_await_is_whole_and_leaves_the_connection_outside() {
    let (database, watcher) = table().await;
    let pool = database.pool(1);
    let mut connection = pool.get().await.unwrap();
    for polls in 0.. {
        watcher.run("TRUNCATE entry").await;
        let transaction = connection.transaction().await.unwrap();
        let insert = "INSERT INTO entry SELECT generate_series(1, 100)";
        transaction.execute(insert, &[]).await.unwrap();
        let committed = give_up_after(polls, transaction.commit()).await;
        let when = format!("commit dropped after {polls} polls");
        assert_outside(&connection, &watcher, &when).await;
        let rows = watcher.rows_of("entry").await;
        match committed {
            None if polls == 0 => assert_eq!(rows, 0, "{when}"),
            None => assert!(rows == 0 || rows == 100, "{rows} rows; {when}"),
            Some(result) => {
                result.unwrap();
                assert_eq!(rows, 100);
                assert!(polls > 1, "never dropped half-way");
                break;
            }
        }
    }
}

/// Before such a commit is sent, the timed-out statement is cancelled, which adds awaits.
#[tokio::test]
async fn an_end_dropped_while_a_timed_out_statement_is_cancelled_leaves_no_transaction() {
    let (database, watcher) = table().await;
    let mut config = database.config(1);
    config.command_timeout = Some(Duration::from_millis(300));
    let pool = Pool::new(config).unwrap();
    for commit in [true, false] {
        for polls in 0.. {
            let mut connection = pool.get().await.unwrap();
            let transaction = connection.transaction().await.unwrap();
            let slow = transaction.query("SELECT pg_sleep(30)", &[]).await;
            assert!(matches!(slow, Err(Error::Timeout(_))), "{slow:?}");
            let ended = match commit {
                true => give_up_after(polls, transaction.commit()).await,
                false => give_up_after(polls, transaction.rollback()).await,
            };
            // The connection is either unusable or outside the transaction.
            match connection.query("SELECT 1", &[]).await {
                Err(Error::Lost { .. } | Error::Disconnected { .. }) => {}
                result => {
                    result.unwrap();
                    let when = format!("commit {commit} dropped after {polls} polls");
                    assert_outside(&connection, &watcher, &when).await;
                }
            }
            if ended.is_some() {
                assert!(polls > 2, "never dropped half-way");
                break;
            }
        }
    }
}
