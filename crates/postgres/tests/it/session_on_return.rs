//! The next user of a connection finds its session as if it were new.

use cenote_postgres::{Pool, Reset};

use crate::support::{
    database,
    single::{assert_as_new, one, text},
};

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
async fn a_role_that_was_set_is_reset() {
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
    // If it were still there, the row of this check would go into it.
    assert_as_new(&pool, process_id, &watcher).await;
    let temporary = "SELECT count(*) FROM pg_class WHERE relpersistence = 't'";
    assert_eq!(watcher.number(temporary, &[]).await, 0);
}

#[tokio::test]
async fn the_session_listens_to_no_channel() {
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
async fn a_setting_made_for_one_transaction_ends_with_it() {
    let (pool, process_id, watcher) = one().await;
    let mut connection = pool.get().await.unwrap();
    let before = text(&connection, "SHOW work_mem").await;
    let transaction = connection.transaction().await.unwrap();
    let set = "SET LOCAL work_mem = '123MB'";
    transaction.batch_execute(set).await.unwrap();
    assert_eq!(text(&transaction, "SHOW work_mem").await, "123MB");
    transaction.commit().await.unwrap();
    assert_eq!(text(&connection, "SHOW work_mem").await, before);
    // Outside a transaction it only warns.
    connection.batch_execute(set).await.unwrap();
    drop(connection);
    let connection = pool.get().await.unwrap();
    assert_eq!(text(&connection, "SHOW work_mem").await, before);
    drop(connection);
    assert_as_new(&pool, process_id, &watcher).await;
}

/// These statements complete with the tag of a SELECT, prepared or not, with rows or without.
#[tokio::test]
async fn temporary_tables_made_of_a_query_are_gone() {
    let (pool, process_id, watcher) = one().await;
    let temporary = "SELECT count(*) FROM pg_class WHERE relpersistence = 't' AND relkind = 'r'";
    for found in ["true", "false"] {
        for sql in [
            format!("CREATE TEMP TABLE entry AS SELECT 7 AS secret WHERE {found}"),
            format!("SELECT 7 AS secret INTO TEMPORARY entry WHERE {found}"),
            format!("CREATE TABLE pg_temp.entry AS SELECT 7 AS secret WHERE {found}"),
        ] {
            for prepared in [true, false] {
                let connection = pool.get().await.unwrap();
                match prepared {
                    true => drop(connection.execute(&sql, &[]).await.unwrap()),
                    false => connection.batch_execute(&sql).await.unwrap(),
                }
                assert_eq!(watcher.number(temporary, &[]).await, 1, "{sql}");
                drop(connection);
                let connection = pool.get().await.unwrap();
                assert_eq!(connection.process_id(), process_id);
                assert_eq!(watcher.number(temporary, &[]).await, 0, "{sql}");
            }
        }
    }
    // Through the driver itself the library does not see the text, but it sees from the tag that rows were made.
    let connection = pool.get().await.unwrap();
    let client = connection.client();
    let sql = "CREATE TEMP TABLE entry AS SELECT 7 AS secret";
    client.execute(sql, &[]).await.unwrap();
    drop(connection);
    assert_as_new(&pool, process_id, &watcher).await;
    assert_eq!(watcher.number(temporary, &[]).await, 0);
}

const LOCKS: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = \
                     (SELECT oid FROM pg_database WHERE datname = current_database())";

#[tokio::test]
async fn advisory_locks_are_released() {
    let (pool, process_id, watcher) = one().await;
    for sql in ["SELECT pg_advisory_lock(7)", "SELECT pg_try_advisory_lock_shared(7, 8)"] {
        for prepared in [true, true, false] {
            let connection = pool.get().await.unwrap();
            match prepared {
                true => drop(connection.query(sql, &[]).await.unwrap()),
                false => connection.batch_execute(sql).await.unwrap(),
            }
            assert_eq!(watcher.number(LOCKS, &[]).await, 1, "{sql}");
            drop(connection);
            let connection = pool.get().await.unwrap();
            assert_eq!(connection.process_id(), process_id);
            assert_eq!(watcher.number(LOCKS, &[]).await, 0, "{sql}");
        }
    }
}

#[tokio::test]
async fn settings_changed_by_a_function_go_back_to_what_they_were() {
    let (pool, process_id, _watcher) = one().await;
    let connection = pool.get().await.unwrap();
    let before = text(&connection, "SHOW work_mem").await;
    let set = "SELECT set_config('work_mem', '123MB', false)";
    assert_eq!(text(&connection, set).await, "123MB");
    drop(connection);
    let connection = pool.get().await.unwrap();
    assert_eq!(connection.process_id(), process_id);
    assert_eq!(text(&connection, "SHOW work_mem").await, before);
}

#[tokio::test]
async fn reset_always_undoes_also_what_the_library_cannot_see() {
    let database = database().await;
    let watcher = database.watcher().await;
    watcher
        .run(
            "CREATE FUNCTION hide() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
                 PERFORM set_config('work_mem', '77MB', false), pg_advisory_lock(7);
                 RETURN 1;
             END $$",
        )
        .await;
    // The default cannot see these changes, as documented. Without this half, the other would prove nothing.
    for (reset, left) in [(Reset::WhenDirty, 1), (Reset::Always, 0)] {
        let mut config = database.config(1);
        config.reset = reset;
        let pool = Pool::new(config).unwrap();
        let connection = pool.get().await.unwrap();
        let process_id = connection.process_id();
        connection.query("SELECT hide()", &[]).await.unwrap();
        assert_eq!(watcher.number(LOCKS, &[]).await, 1);
        drop(connection);
        let connection = pool.get().await.unwrap();
        assert_eq!(connection.process_id(), process_id);
        assert_eq!(watcher.number(LOCKS, &[]).await, left, "{reset:?}");
        let changed = text(&connection, "SHOW work_mem").await == "77MB";
        assert_eq!(changed, left == 1, "{reset:?}");
        drop(connection);
        pool.close().await;
    }
}
