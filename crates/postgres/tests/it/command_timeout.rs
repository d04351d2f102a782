//! A command that takes too long ends, for its caller and on the server, and no other command is cancelled with it.

use std::time::Duration;

use cenote_postgres::{Error, Pool};
use tokio::time::{Instant, sleep};

use crate::support::{Database, SOON, database, give_up_after, rounds};

const FOREVER: &str = "SELECT pg_sleep(60)";

fn pool(database: &Database, max_size: u32, limit: Duration) -> Pool {
    let mut config = database.config(max_size);
    config.command_timeout = Some(limit);
    Pool::new(config).unwrap()
}

#[tokio::test]
async fn a_slow_command_fails_at_the_limit_and_ends_on_the_server() {
    let database = database().await;
    let watcher = database.watcher().await;
    let limit = Duration::from_millis(300);
    let pool = pool(&database, 1, limit);
    let connection = pool.get().await.unwrap();
    let process_id = connection.process_id();
    for simple in [false, true] {
        let started = Instant::now();
        let error = match simple {
            false => connection.execute(FOREVER, &[]).await.unwrap_err(),
            true => connection.batch_execute(FOREVER).await.unwrap_err(),
        };
        let took = started.elapsed();
        assert!(matches!(error, Error::Timeout(it) if it == limit), "{error:?}");
        assert!(error.is_outcome_unknown() && !error.is_retryable());
        assert!(took >= limit && took < limit + SOON, "{took:?}");
    }
    drop(connection);
    watcher.sees_idle(process_id).await;
    assert_eq!(pool.stats().timeouts, 2);
}

#[tokio::test]
async fn the_connection_of_a_timed_out_command_is_used_again() {
    let database = database().await;
    let pool = pool(&database, 1, Duration::from_millis(500));
    let mut processes = Vec::new();
    for _ in 0..5 {
        let connection = pool.get().await.unwrap();
        processes.push(connection.process_id());
        connection.query("SELECT 1", &[]).await.unwrap();
        connection.query(FOREVER, &[]).await.unwrap_err();
    }
    processes.dedup();
    assert_eq!(processes.len(), 1);
    assert_eq!(pool.stats().pool.connects, 1);
}

#[tokio::test]
async fn a_held_connection_runs_its_next_command_at_once() {
    let database = database().await;
    let pool = pool(&database, 1, Duration::from_secs(1));
    let connection = pool.get().await.unwrap();
    for round in 0..3 {
        connection.query(FOREVER, &[]).await.unwrap_err();
        // If it waited for the earlier one, it would run into the limit too.
        let row = connection.query_one("SELECT $1::int", &[&round]).await;
        assert_eq!(row.unwrap().get::<_, i32>(0), round);
    }
}

#[tokio::test]
async fn a_timeout_inside_a_transaction_followed_by_a_drop_rolls_back() {
    let database = database().await;
    let watcher = database.watcher().await;
    watcher.run("CREATE TABLE entry (id int)").await;
    let pool = pool(&database, 1, Duration::from_secs(1));
    let mut connection = pool.get().await.unwrap();
    let process_id = connection.process_id();
    let transaction = connection.transaction().await.unwrap();
    let insert = "INSERT INTO entry VALUES (1)";
    transaction.execute(insert, &[]).await.unwrap();
    transaction.query(FOREVER, &[]).await.unwrap_err();
    drop(transaction);
    connection.execute(insert, &[]).await.unwrap();
    assert_eq!(watcher.rows_of("entry").await, 1);

    let transaction = connection.transaction().await.unwrap();
    transaction.execute(insert, &[]).await.unwrap();
    transaction.query(FOREVER, &[]).await.unwrap_err();
    drop(transaction);
    drop(connection);
    let connection = pool.get().await.unwrap();
    assert_eq!(connection.process_id(), process_id);
    watcher.sees_idle(process_id).await;
    assert_eq!(watcher.rows_of("entry").await, 1);
}

/// Commands that end just before, just after and just when they are cancelled, and on the same few connections commands
/// without a limit, which must not be cancelled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_elses_command_is_ever_cancelled() {
    let limit = Duration::from_millis(20);
    let pool = pool(&database().await, 3, limit);
    let wanted = u64::from(rounds("CENOTE_TIMEOUTS", 400));
    let mut tasks = Vec::new();
    for task in 0..8 {
        let pool = pool.clone();
        tasks.push(tokio::spawn(async move {
            let mut undisturbed = 0u64;
            while pool.stats().timeouts < wanted {
                let connection = pool.get().await.unwrap();
                if task % 2 == 0 {
                    let seconds = 0.016 + 0.010 * fastrand::f64();
                    let slow = "SELECT pg_sleep($1)";
                    match connection.execute(slow, &[&seconds]).await {
                        Ok(_) | Err(Error::Timeout(_)) => {}
                        Err(error) => panic!("cancelled by someone else: {error}"),
                    }
                } else {
                    let rows = connection.client().query("SELECT pg_sleep(0.004)", &[]);
                    rows.await.expect("cancelled by someone else");
                    undisturbed += 1;
                }
            }
            undisturbed
        }));
    }
    let mut undisturbed = 0;
    for task in tasks {
        undisturbed += task.await.unwrap();
    }
    assert!(undisturbed > wanted / 2, "only {undisturbed} neighbours");
    let stats = pool.stats().pool;
    let cleaned_by_closing = stats.connects - 3;
    assert!(
        cleaned_by_closing <= wanted / 4,
        "{cleaned_by_closing} connections were closed for {wanted} timeouts"
    );
}

/// The next command on the connection first has the timed-out one cancelled. A caller that gives up during that leaves
/// a cancel request behind that has not arrived yet.
#[tokio::test]
async fn a_cancel_that_was_given_up_hits_nobody_later() {
    let limit = Duration::from_millis(10);
    let pool = pool(&database().await, 1, limit);
    let rounds = rounds("CENOTE_TIMEOUTS", 400);
    for round in 0..rounds {
        let connection = pool.get().await.unwrap();
        let slow = connection.query("SELECT pg_sleep(0.012)", &[]).await;
        assert!(matches!(slow, Ok(_) | Err(Error::Timeout(_))), "{slow:?}");
        give_up_after(1 + round % 6, connection.query("SELECT 1", &[])).await;
        drop(connection);
        let connection = pool.get().await.unwrap();
        for _ in 0..3 {
            let next = connection.client().query("SELECT pg_sleep(0.002)", &[]);
            next.await.expect("cancelled by someone else");
        }
        // A cancel request that is late arrives now, if there is one: no gate can show that there is none.
        sleep(Duration::from_millis(1)).await;
    }
    assert!(pool.stats().timeouts > u64::from(rounds) / 2);
}

#[tokio::test]
async fn a_handle_or_a_holder_may_set_another_limit_and_the_next_holder_has_that_of_the_configuration() {
    let pool = pool(&database().await, 1, Duration::from_millis(300));
    let slow = "SELECT pg_sleep(0.6)";
    let patient = pool.within(Some(SOON));
    patient.query(slow, &[]).await.unwrap();
    let transaction = patient.begin().await.unwrap();
    transaction.query(slow, &[]).await.unwrap();
    transaction.commit().await.unwrap();
    assert!(matches!(pool.query(slow, &[]).await, Err(Error::Timeout(_))));
    assert_eq!(patient.get().await.unwrap().command_timeout(), Some(SOON));
    assert_eq!(patient.try_get().unwrap().command_timeout(), Some(SOON));

    let connection = pool.get().await.unwrap();
    connection.set_command_timeout(None);
    connection.query(slow, &[]).await.unwrap();
    drop(connection);
    let connection = pool.get().await.unwrap();
    assert_eq!(connection.command_timeout(), Some(Duration::from_millis(300)));
    assert!(matches!(connection.query(slow, &[]).await, Err(Error::Timeout(_))));
}

#[tokio::test]
async fn a_limit_for_one_command_is_that_commands_alone() {
    let usual = Duration::from_millis(300);
    let pool = pool(&database().await, 1, usual);
    let connection = pool.get().await.unwrap();
    let slow = "SELECT pg_sleep(0.6)";
    connection.within(None, connection.query(slow, &[])).await.unwrap();
    connection
        .within(Some(SOON), connection.batch_execute(slow))
        .await
        .unwrap();
    assert!(matches!(connection.query(slow, &[]).await, Err(Error::Timeout(it)) if it == usual));
    // Dropped in the middle.
    give_up_after(1, connection.within(None, connection.query(FOREVER, &[]))).await;
    assert_eq!(connection.command_timeout(), Some(usual));
}

#[tokio::test]
async fn a_limit_set_on_a_transaction_or_savepoint_ends_with_it() {
    let usual = Duration::from_millis(300);
    let pool = pool(&database().await, 1, usual);
    let mut connection = pool.get().await.unwrap();
    let slow = "SELECT pg_sleep(0.6)";
    let mut transaction = connection.transaction().await.unwrap();
    transaction.set_command_timeout(Some(SOON));
    let savepoint = transaction.savepoint().await.unwrap();
    savepoint.set_command_timeout(None);
    savepoint.query(slow, &[]).await.unwrap();
    savepoint.commit().await.unwrap();
    assert_eq!(transaction.command_timeout(), Some(SOON));
    drop(transaction);
    assert_eq!(connection.command_timeout(), Some(usual));
}
