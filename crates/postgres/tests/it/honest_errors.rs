//! An error says whether the command may have taken effect, and is right.

use std::thread;

use cenote_postgres::Error;
use tokio::runtime::Builder;

use crate::support::{database, single::one};

#[tokio::test]
async fn a_command_that_the_driver_refuses_to_send_is_reported_as_not_sent() {
    let (pool, process_id, watcher) = one().await;
    let connection = pool.get().await.unwrap();
    let insert = "INSERT INTO entry VALUES ($1)";
    let errors = [
        ("type", connection.execute(insert, &[&"text"]).await.err()),
        ("too few", connection.execute(insert, &[]).await.err()),
        ("too many", connection.execute(insert, &[&1, &2]).await.err()),
        ("zero", connection.query("SELECT '\0'", &[]).await.err()),
        ("zero", connection.batch_execute("SELECT '\0'").await.err()),
    ];
    for (what, error) in errors {
        let error = error.unwrap();
        assert!(matches!(error, Error::NotSent(_)), "{what}: {error:?}");
        assert!(!error.is_outcome_unknown() && !error.is_retryable(), "{what}");
    }
    assert_eq!(watcher.rows_of("entry").await, 0);
    drop(connection);
    assert_eq!(pool.get().await.unwrap().process_id(), process_id);
}

/// The driver does not expect the data of a COPY here. The server has already run the statement before it.
#[tokio::test]
async fn an_answer_that_is_not_understood_leaves_the_outcome_open() {
    let (pool, _, watcher) = one().await;
    let connection = pool.get().await.unwrap();
    let unexpected = "INSERT INTO entry VALUES (1); COPY entry TO STDOUT";
    let error = connection.batch_execute(unexpected).await.unwrap_err();
    assert!(matches!(error, Error::NotUnderstood(_)), "{error:?}");
    assert!(error.is_outcome_unknown());
    assert_eq!(watcher.rows_of("entry").await, 1);
}

/// The server checks whether a session has been idle for too long before it begins a command. So a command that it
/// answers with the end of the session has not begun.
#[tokio::test]
async fn a_command_that_meets_the_end_of_an_idle_session_certainly_had_no_effect() {
    let database = database().await;
    let watcher = database.watcher().await;
    watcher.run("CREATE TABLE entry (id int PRIMARY KEY)").await;
    let pool = database.pool(1);
    for (limit, begins) in [
        ("SET idle_session_timeout = 50", false),
        ("SET idle_in_transaction_session_timeout = 50", true),
    ] {
        let connection = pool.get().await.unwrap();
        connection.batch_execute(limit).await.unwrap();
        if begins {
            connection.batch_execute("BEGIN").await.unwrap();
        }
        // The test's runtime has this thread alone. It is blocked until the session has ended, so the pool cannot read
        // what the server says.
        let (database, process_id) = (&database, connection.process_id());
        thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async { database.watcher().await.sees_gone(process_id).await });
            });
        });
        let insert = connection.batch_execute("INSERT INTO entry VALUES (1)");
        let error = insert.await.unwrap_err();
        assert!(matches!(error, Error::Disconnected { .. }), "{error:?}");
        drop(connection);
        assert_eq!(watcher.rows_of("entry").await, 0);
    }
}
