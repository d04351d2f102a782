//! A command that leaves nothing in the session costs no reset at the return; one that leaves something is always
//! noticed.

use cenote_postgres::{Connection, Pool, Result};
use futures_util::TryStreamExt;
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};

use crate::support::{
    database, rounds,
    single::{one, text},
};

/// How often the pool has cleaned a connection.
fn cleaned(pool: &Pool) -> u64 {
    pool.stats().pool.cleaned
}

/// Uses a connection 20 times, and returns how often it was cleaned.
async fn cleaned_by(pool: &Pool, work: impl AsyncFn(&mut Connection) -> Result<()>) -> u64 {
    let before = cleaned(pool);
    for _ in 0..20 {
        let mut connection = pool.get().await.unwrap();
        work(&mut connection).await.unwrap();
    }
    drop(pool.get().await.unwrap());
    cleaned(pool) - before
}

#[tokio::test]
async fn a_change_that_ends_with_its_transaction_costs_no_reset() {
    let (pool, process_id, watcher) = one().await;
    watcher
        .run("CREATE TABLE weather (temp int); INSERT INTO weather VALUES (20)")
        .await;
    for sql in [
        "SET LOCAL lock_timeout = '1s'",
        "SET LOCAL TIME ZONE 'Asia/Tokyo'",
        "SET LOCAL ROLE pg_monitor",
        "SET LOCAL application_name = 'mine'",
        "SET TRANSACTION READ ONLY",
        "SELECT set_config('TimeZone', 'UTC', true)",
        "EXPLAIN SELECT 1",
        "EXPLAIN (ANALYZE, FORMAT JSON) SELECT temp FROM weather",
        "DO $$BEGIN PERFORM temp FROM weather; END$$",
        "UPDATE weather SET temp = 21 -- a temp, not a pg_temp",
        "INSERT INTO weather (temp) VALUES (22)",
    ] {
        for prepared in [true, false] {
            let cost = cleaned_by(&pool, async |connection| {
                let transaction = connection.transaction().await?;
                match prepared {
                    true => drop(transaction.execute(sql, &[]).await?),
                    false => transaction.batch_execute(sql).await?,
                }
                transaction.commit().await
            });
            assert_eq!(cost.await, 0, "{sql}, prepared: {prepared}");
        }
    }
    let cost = cleaned_by(&pool, async |connection| {
        let transaction = connection.transaction().await?;
        let declare = "DECLARE numbers CURSOR FOR SELECT generate_series(1, 3)";
        transaction.batch_execute(declare).await?;
        transaction.query("FETCH 2 FROM numbers", &[]).await?;
        transaction.batch_execute("CLOSE numbers").await?;
        transaction.commit().await
    });
    assert_eq!(cost.await, 0, "a cursor");
    let cost = cleaned_by(&pool, async |connection| {
        connection.query("EXPLAIN SELECT 1", &[]).await?;
        let rows = connection.query_stream("EXPLAIN SELECT 2", &[]).await?;
        rows.try_collect::<Vec<_>>().await?;
        connection
            .batch_execute("BEGIN; SET LOCAL a.b = 1; SET LOCAL a.c = 2; COMMIT")
            .await
    });
    assert_eq!(cost.await, 0, "outside a transaction of the library's");
    let connection = pool.get().await.unwrap();
    assert_eq!(connection.process_id(), process_id);
}

#[tokio::test]
async fn a_change_that_outlives_its_transaction_costs_a_reset_each_time() {
    let (pool, _, _watcher) = one().await;
    for sql in [
        "SET LOCAL a.b = 1; SET a.b = 1",
        "SET SESSION TIME ZONE 'Asia/Tokyo'",
        "DO $$BEGIN EXECUTE 'SET a.b = 1'; END$$",
        "DO $$BEGIN SET a.b = 1; END$$",
        "SET local.a = 1",
        "BEGIN; DECLARE numbers CURSOR WITH HOLD FOR SELECT 1; COMMIT",
        "EXPLAIN ANALYZE CREATE TEMP TABLE mine AS SELECT 1",
    ] {
        let cost = cleaned_by(&pool, async |connection| connection.batch_execute(sql).await);
        assert_eq!(cost.await, 20, "{sql}");
    }
}

/// A failed command has no completion tag to excuse, so it must not excuse the tag of another command.
#[tokio::test]
async fn a_harmless_command_that_fails_does_not_hide_a_harmful_one() {
    let (pool, _, _watcher) = one().await;
    for failing in ["SET LOCAL lock_timeout = 'soon'", "EXPLAIN SELECT nothing"] {
        let connection = pool.get().await.unwrap();
        for _ in 0..3 {
            connection.batch_execute(failing).await.unwrap_err();
            connection.execute(failing, &[]).await.unwrap_err();
        }
        connection.client().batch_execute("SET a.b = 'left'").await.unwrap();
        drop(connection);
        let connection = pool.get().await.unwrap();
        let left = "SELECT coalesce(current_setting('a.b', true), '')";
        assert_eq!(text(&connection, left).await, "", "{failing}");
    }
}

/// Scripts of statements that set something, set it for a transaction, or contain such text without running it.
fn script() -> impl Strategy<Value = String> {
    const PIECES: [&str; 24] = [
        "SET LOCAL a.b = 'left';",
        "SET a.b = 'left';",
        "SET a.b TO DEFAULT;",
        "RESET a.b;",
        "BEGIN;",
        "COMMIT;",
        "ROLLBACK;",
        "SAVEPOINT s;",
        "ROLLBACK TO SAVEPOINT s;",
        "SET standard_conforming_strings = off;",
        "SET LOCAL standard_conforming_strings = off;",
        "SELECT 'SET LOCAL a.b = 1; ';",
        "SELECT '\\'; SET LOCAL a.b = 1; --';",
        "SELECT '\\'; SET a.b = 'left'; --';\n",
        "/* ; SET LOCAL a.b = 1; /* */ */",
        "-- SET LOCAL a.b = 1;\n",
        "SELECT $$; SET LOCAL a.b = 1; $$;",
        "SELECT E'\\'; SET LOCAL a.b = 1; --';",
        "DO $$BEGIN PERFORM 1; END$$;",
        "DO $$BEGIN SET a.b = 'left'; END$$;",
        "DO $$BEGIN EXECUTE 'SET a.b = ''left'''; END$$;",
        "EXPLAIN SELECT 1;",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1;",
        "SELECT set_config('a.b', 'left', false);",
    ];
    proptest::collection::vec(proptest::sample::select(&PIECES[..]), 1..8).prop_map(|pieces| pieces.concat())
}

#[tokio::test]
async fn the_next_user_sees_nothing_of_what_a_script_did_to_its_session() {
    let database = database().await;
    let pool = database.pool(1);
    let mut runner = TestRunner::new(Config::default());
    let state = "SELECT coalesce(current_setting('a.b', true), '') || current_setting('standard_conforming_strings') \
                 || (SELECT count(*) FROM pg_cursors WHERE name = 'c')";
    for _ in 0..rounds("SCRIPTS", 300) {
        let script = script().new_tree(&mut runner).unwrap().current();
        let connection = pool.get().await.unwrap();
        // Some scripts fail half-way.
        let _done = connection.batch_execute(&script).await;
        drop(connection);
        let connection = pool.get().await.unwrap();
        assert_eq!(text(&connection, state).await, "on0", "{script}");
    }
}
