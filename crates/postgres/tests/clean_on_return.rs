//! Nothing that one user of a connection did or left undone reaches the next.
//!
//! Most pools here have one connection, so the next user gets the same one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is the failed assertion"
)]

mod support;

use std::time::Duration;

use cenote_postgres::{Connection, Pool, Reset, Retired};
use futures_util::StreamExt;
use support::{SOON, Watcher, database, give_up_after};
use tokio::time::timeout;

/// A pool of one, its connection's process, and a second session.
async fn one() -> (Pool, u32, Watcher) {
    let database = database().await;
    let watcher = database.watcher().await;
    watcher.run("CREATE TABLE entry (id int PRIMARY KEY)").await;
    let pool = database.pool(1);
    let process_id = pool.get().await.unwrap().process_id();
    (pool, process_id, watcher)
}

async fn text(connection: &Connection, sql: &str) -> String {
    connection.query_one(sql, &[]).await.unwrap().get(0)
}

/// The next user has the same connection, finds it idle and can write.
async fn assert_as_new(pool: &Pool, process_id: u32, watcher: &Watcher) {
    let connection = timeout(SOON, pool.get()).await.unwrap().unwrap();
    assert_eq!(connection.process_id(), process_id);
    let (state, _) = watcher.activity(process_id).await.unwrap();
    assert_eq!(state, "idle");
    let insert = "INSERT INTO entry VALUES (1000)";
    connection.execute(insert, &[]).await.unwrap();
    let written = "SELECT count(*) FROM entry WHERE id = 1000";
    assert_eq!(
        watcher.number(written, &[]).await,
        1,
        "it was a transaction"
    );
}

#[tokio::test]
async fn a_dropped_transaction_is_rolled_back() {
    let (pool, process_id, watcher) = one().await;
    let mut connection = pool.get().await.unwrap();
    let transaction = connection.transaction().await.unwrap();
    let insert = "INSERT INTO entry VALUES (1)";
    transaction.execute(insert, &[]).await.unwrap();
    let (state, _) = watcher.activity(process_id).await.unwrap();
    assert_eq!(state, "idle in transaction");
    drop(transaction);
    drop(connection);
    assert_as_new(&pool, process_id, &watcher).await;
    assert_eq!(watcher.rows_of("entry").await, 1);
}

#[tokio::test]
async fn a_transaction_begun_by_hand_is_rolled_back() {
    let (pool, process_id, watcher) = one().await;
    let connection = pool.get().await.unwrap();
    connection
        .batch_execute("BEGIN; INSERT INTO entry VALUES (1)")
        .await
        .unwrap();
    drop(connection);
    assert_as_new(&pool, process_id, &watcher).await;
    assert_eq!(watcher.rows_of("entry").await, 1);
}

#[tokio::test]
async fn a_failed_transaction_is_rolled_back() {
    let (pool, process_id, watcher) = one().await;
    let connection = pool.get().await.unwrap();
    connection.batch_execute("BEGIN").await.unwrap();
    connection.query("SELECT 1 / 0", &[]).await.unwrap_err();
    // The error arrives before the server says so.
    let aborted = "idle in transaction (aborted)";
    watcher.sees(process_id, aborted).await;
    drop(connection);
    assert_as_new(&pool, process_id, &watcher).await;
}

#[tokio::test]
async fn a_dropped_query_is_cancelled_on_the_server_and_its_connection_is_used_again() {
    let (pool, process_id, watcher) = one().await;
    let connection = pool.get().await.unwrap();
    tokio::select! {
        ended = connection.query("SELECT pg_sleep(60)", &[]) => panic!("{ended:?}"),
        () = watcher.sees_running(process_id, "pg_sleep") => {}
    }
    drop(connection);
    watcher.sees_idle(process_id).await;
    assert_as_new(&pool, process_id, &watcher).await;
    assert_eq!(pool.stats().pool.connects, 1);
}

#[tokio::test]
async fn a_begin_dropped_at_any_moment_leaves_no_transaction() {
    let (pool, process_id, watcher) = one().await;
    for polls in 1.. {
        let mut connection = pool.get().await.unwrap();
        let begun = give_up_after(polls, connection.transaction()).await;
        let finished = begun.is_some();
        drop(begun);
        drop(connection);
        let connection = pool.get().await.unwrap();
        assert_eq!(connection.process_id(), process_id);
        let (state, _) = watcher.activity(process_id).await.unwrap();
        assert_eq!(state, "idle", "begin dropped after {polls} polls");
        if finished {
            break;
        }
    }
}

#[tokio::test]
async fn a_begin_by_hand_dropped_after_one_poll_leaves_no_transaction() {
    let (pool, process_id, watcher) = one().await;
    for _ in 0..20 {
        let connection = pool.get().await.unwrap();
        give_up_after(1, connection.batch_execute("BEGIN")).await;
        drop(connection);
        let connection = pool.get().await.unwrap();
        assert_eq!(connection.process_id(), process_id);
        let (state, _) = watcher.activity(process_id).await.unwrap();
        assert_eq!(state, "idle");
    }
}

#[tokio::test]
async fn a_row_stream_held_past_the_return_costs_its_connection_and_nobody_elses() {
    let database = database().await;
    let watcher = database.watcher().await;
    let pool = database.pool(2);
    let (held, other) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    let (held_id, other_id) = (held.process_id(), other.process_id());
    let rows = "SELECT repeat('x', 1000) FROM generate_series(1, 100000)";
    let stream = held.client().query_raw(rows, [0i32; 0]).await.unwrap();
    let mut stream = Box::pin(stream);
    stream.next().await.unwrap().unwrap();
    // Cancelled earlier it would end with few enough rows to be delivered, and be clean.
    watcher.sees_stuck(held_id).await;
    drop((held, other));

    for _ in 0..10 {
        let connection = timeout(SOON, pool.get()).await.unwrap().unwrap();
        assert_eq!(connection.process_id(), other_id);
        assert_eq!(text(&connection, "SELECT 'fine'").await, "fine");
    }
    watcher.sees_gone(held_id).await;
    assert_eq!(pool.stats().pool.retired(Retired::Broken), 1);
    drop(stream);
    let both = (pool.get().await.unwrap(), pool.get().await.unwrap());
    assert_ne!(both.0.process_id(), both.1.process_id());
}

#[tokio::test]
async fn settings_go_back_to_what_they_were() {
    let (pool, process_id, watcher) = one().await;
    let connection = pool.get().await.unwrap();
    let before = text(&connection, "SHOW work_mem").await;
    connection
        .batch_execute("SET work_mem = '123MB'; SET search_path = pg_catalog")
        .await
        .unwrap();
    assert_eq!(text(&connection, "SHOW work_mem").await, "123MB");
    drop(connection);
    let connection = pool.get().await.unwrap();
    assert_eq!(connection.process_id(), process_id);
    assert_eq!(text(&connection, "SHOW work_mem").await, before);
    drop(connection);
    assert_as_new(&pool, process_id, &watcher).await;
}

#[tokio::test]
async fn a_role_is_given_up() {
    let (pool, process_id, _watcher) = one().await;
    for become_other in ["SET ROLE", "SET SESSION AUTHORIZATION"] {
        let connection = pool.get().await.unwrap();
        let before = text(&connection, "SELECT current_user::text").await;
        let statement = format!("{become_other} pg_monitor");
        connection.batch_execute(&statement).await.unwrap();
        let other = text(&connection, "SELECT current_user::text").await;
        assert_eq!(other, "pg_monitor");
        drop(connection);
        let connection = pool.get().await.unwrap();
        assert_eq!(connection.process_id(), process_id);
        let now = text(&connection, "SELECT current_user::text").await;
        assert_eq!(now, before, "after {become_other}");
    }
}

#[tokio::test]
async fn temporary_tables_are_gone() {
    let (pool, process_id, watcher) = one().await;
    let connection = pool.get().await.unwrap();
    connection
        .batch_execute("CREATE TEMP TABLE entry (secret text)")
        .await
        .unwrap();
    drop(connection);
    // Its rows would go into the temporary table.
    assert_as_new(&pool, process_id, &watcher).await;
    let temporary = "SELECT count(*) FROM pg_class WHERE relpersistence = 't'";
    assert_eq!(watcher.number(temporary, &[]).await, 0);
}

#[tokio::test]
async fn nobody_listens_any_more() {
    let (pool, process_id, _watcher) = one().await;
    let connection = pool.get().await.unwrap();
    connection.batch_execute("LISTEN news").await.unwrap();
    let channels = "SELECT count(*)::text FROM pg_listening_channels()";
    assert_eq!(text(&connection, channels).await, "1");
    drop(connection);
    let connection = pool.get().await.unwrap();
    assert_eq!(connection.process_id(), process_id);
    assert_eq!(text(&connection, channels).await, "0");
}

#[tokio::test]
async fn a_held_cursor_is_closed() {
    let (pool, process_id, _watcher) = one().await;
    let connection = pool.get().await.unwrap();
    connection
        .batch_execute("DECLARE numbers CURSOR WITH HOLD FOR SELECT generate_series(1, 3)")
        .await
        .unwrap();
    drop(connection);
    let connection = pool.get().await.unwrap();
    assert_eq!(connection.process_id(), process_id);
    let cursors = "SELECT count(*)::text FROM pg_cursors WHERE name = 'numbers'";
    assert_eq!(text(&connection, cursors).await, "0");
}

#[tokio::test]
async fn statements_prepared_by_name_are_gone_and_cached_ones_work_on() {
    let (pool, _, watcher) = one().await;
    let cached = "SELECT 'cached'";
    let connection = pool.get().await.unwrap();
    assert_eq!(text(&connection, cached).await, "cached");
    connection
        .batch_execute("PREPARE mine AS SELECT 'mine'")
        .await
        .unwrap();
    drop(connection);

    let connection = pool.get().await.unwrap();
    assert_eq!(text(&connection, cached).await, "cached");
    let named = "SELECT count(*)::text FROM pg_prepared_statements WHERE name = 'mine'";
    assert_eq!(text(&connection, named).await, "0");
    connection.batch_execute("DEALLOCATE ALL").await.unwrap();
    drop(connection);

    let connection = pool.get().await.unwrap();
    assert_eq!(text(&connection, cached).await, "cached");
    let process_id = connection.process_id();
    drop(connection);
    assert_as_new(&pool, process_id, &watcher).await;
}

/// The driver looks unknown types up with prepared statements of its own.
#[tokio::test]
async fn forgotten_statements_do_not_spoil_the_look_up_of_types() {
    let (pool, _, watcher) = one().await;
    watcher
        .run("CREATE TYPE mood AS ENUM ('calm'); CREATE TYPE hue AS ENUM ('red')")
        .await;
    for (forgetting, at_once) in [("DEALLOCATE ALL", "mood"), ("PREPARE a AS SELECT 1", "hue")] {
        let connection = pool.get().await.unwrap();
        let sql = format!("SELECT null::{at_once}");
        connection.query(&sql, &[]).await.unwrap();
        connection.batch_execute(forgetting).await.unwrap();
        drop(connection);
        let connection = pool.get().await.unwrap();
        for kind in ["mood", "hue"] {
            let sql = format!("SELECT null::{kind} AS after, '{forgetting}'");
            connection.query(&sql, &[]).await.unwrap();
        }
    }
}

#[tokio::test]
async fn statements_whose_preparation_was_given_up_do_not_pile_up() {
    let (pool, _, _watcher) = one().await;
    for round in 0..200 {
        let connection = pool.get().await.unwrap();
        let sql = format!("SELECT {round}");
        give_up_after(1, connection.query(&sql, &[])).await;
    }
    let connection = pool.get().await.unwrap();
    let prepared = "SELECT count(*) FROM pg_prepared_statements";
    let prepared: i64 = connection.query_one(prepared, &[]).await.unwrap().get(0);
    assert!(prepared <= 20, "{prepared} statements nobody can use");
}

#[tokio::test]
async fn a_clean_return_sends_nothing() {
    let (pool, process_id, watcher) = one().await;
    let connection = pool.get().await.unwrap();
    assert_eq!(text(&connection, "SELECT 'work'").await, "work");
    let mut connection = connection;
    let transaction = connection.transaction().await.unwrap();
    transaction
        .execute("INSERT INTO entry VALUES (1)", &[])
        .await
        .unwrap();
    transaction.commit().await.unwrap();

    let before = watcher.state_change(process_id).await;
    drop(connection);
    for _ in 0..100 {
        drop(pool.get().await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(watcher.state_change(process_id).await, before);
    assert_eq!(pool.stats().pool.cleaned, 0);
    let connection = pool.get().await.unwrap();
    assert_eq!(connection.process_id(), process_id);
    assert_eq!(text(&connection, "SELECT 'work'").await, "work");
    assert_ne!(watcher.state_change(process_id).await, before, "no witness");
}

#[tokio::test]
async fn reset_always_undoes_what_leaves_no_trace() {
    let database = database().await;
    let watcher = database.watcher().await;
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = \
                 (SELECT oid FROM pg_database WHERE datname = current_database())";
    let hidden = "SELECT set_config('work_mem', '77MB', false), pg_advisory_lock(7)";
    // The default, as documented, cannot see these: without this half the other proves nothing.
    for (reset, left) in [(Reset::WhenDirty, 1), (Reset::Always, 0)] {
        let mut config = database.config(1);
        config.reset = reset;
        let pool = Pool::new(config).unwrap();
        let connection = pool.get().await.unwrap();
        let process_id = connection.process_id();
        connection.query(hidden, &[]).await.unwrap();
        assert_eq!(watcher.number(locks, &[]).await, 1);
        drop(connection);
        let connection = pool.get().await.unwrap();
        assert_eq!(connection.process_id(), process_id);
        assert_eq!(watcher.number(locks, &[]).await, left, "{reset:?}");
        let changed = text(&connection, "SHOW work_mem").await == "77MB";
        assert_eq!(changed, left == 1, "{reset:?}");
        drop(connection);
        pool.close().await;
    }
}
