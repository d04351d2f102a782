//! Commands that are not prepared, and statements that are prepared in advance.

use cenote_postgres::{
    Error,
    tokio_postgres::{SimpleQueryMessage, types::Type},
};
use futures_util::TryStreamExt;

use crate::support::{
    database, give_up_after,
    single::{assert_as_new, assert_clean, one},
};

const PREPARED: &str = "SELECT count(*) FROM pg_prepared_statements";

#[tokio::test]
async fn a_typed_query_prepares_nothing_and_returns_what_the_prepared_one_does() {
    let pool = database().await.pool(1);
    let sql = "SELECT $1::bigint + 1 AS next, upper($2) AS name";
    let typed = pool
        .query_typed(sql, &[(&6_i64, Type::INT8), (&"x", Type::TEXT)])
        .await
        .unwrap();
    assert_eq!(
        (typed[0].get::<_, i64>("next"), typed[0].get::<_, &str>("name")),
        (7, "X")
    );
    let connection = pool.get().await.unwrap();
    let kept = connection.query_typed_one(PREPARED, &[]).await.unwrap();
    assert_eq!(kept.get::<_, i64>(0), 0);
    assert!(
        connection
            .query_typed_opt("SELECT 1 WHERE false", &[])
            .await
            .unwrap()
            .is_none()
    );
    let error = connection
        .query_typed_one("SELECT 1 WHERE false", &[])
        .await
        .unwrap_err();
    assert!(matches!(error, Error::RowCount(0)), "{error:?}");
    connection
        .execute_typed("CREATE TABLE goods (id int)", &[])
        .await
        .unwrap();
    let insert = "INSERT INTO goods SELECT generate_series(1, $1)";
    assert_eq!(connection.execute_typed(insert, &[(&5, Type::INT4)]).await.unwrap(), 5);
}

#[tokio::test]
async fn a_typed_command_is_counted_bounded_in_time_and_classified_like_any_other() {
    let (pool, _, watcher) = one().await;
    let connection = pool.get().await.unwrap();
    let before = pool.stats();
    let error = connection
        .query_typed("SELECT 1 / $1", &[(&0, Type::INT4)])
        .await
        .unwrap_err();
    assert_eq!(error.code().unwrap().code(), "22012");
    let error = connection
        .query_typed("SELECT $1", &[(&"text", Type::INT4)])
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotSent(_)), "{error:?}");
    let slow = connection.query_typed("SELECT pg_sleep(60)", &[]);
    let limit = std::time::Duration::from_millis(200);
    let error = connection.within(Some(limit), slow).await.unwrap_err();
    assert!(matches!(error, Error::Timeout(it) if it == limit), "{error:?}");
    let after = pool.stats();
    assert_eq!((after.queries - before.queries, after.errors - before.errors), (3, 3));
    assert_eq!(after.timeouts - before.timeouts, 1);
    drop(connection);
    assert_clean(&pool, &watcher).await;
}

#[tokio::test]
async fn what_a_typed_or_simple_command_changes_in_the_session_is_undone() {
    let (pool, process_id, watcher) = one().await;
    for at in 0..4 {
        let connection = pool.get().await.unwrap();
        let set = "SELECT set_config('work_mem', '1MB', false)";
        match at {
            0 => drop(connection.query_typed(set, &[]).await.unwrap()),
            1 => assert_eq!(connection.execute_typed("SET work_mem = '1MB'", &[]).await.unwrap(), 0),
            2 => drop(connection.simple_query(set).await.unwrap()),
            _ => {
                let local = connection.simple_query("BEGIN; SET LOCAL work_mem = '1MB'");
                drop(local.await.unwrap());
            }
        }
        drop(connection);
        let now = pool.query_one("SELECT current_setting('work_mem')", &[]).await.unwrap();
        assert_ne!(now.get::<_, &str>(0), "1MB", "{at}");
    }
    assert_as_new(&pool, process_id, &watcher).await;
}

#[tokio::test]
async fn a_caller_dropped_at_any_await_of_a_typed_command_leaves_a_clean_connection() {
    let (pool, _, watcher) = one().await;
    watcher.run("CREATE TYPE mood AS ENUM ('glad')").await;
    let mut polls = 0;
    loop {
        polls += 1;
        // The driver looks the type up, which takes round trips of its own.
        let work = async { pool.get().await.unwrap().query_typed("SELECT 'glad'::mood", &[]).await };
        let is_done = give_up_after(polls, work).await.is_some();
        let row = pool.query_one("SELECT $1::int", &[&7]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), 7);
        if is_done {
            break;
        }
    }
    assert!(polls > 1);
    assert_clean(&pool, &watcher).await;
}

#[tokio::test]
async fn a_simple_query_returns_the_text_of_each_row_of_each_statement() {
    let pool = database().await.pool(1);
    let connection = pool.get().await.unwrap();
    let answer = connection
        .simple_query("SELECT 1 AS a; SELECT NULL, 'two'")
        .await
        .unwrap();
    let rows: Vec<_> = answer
        .iter()
        .filter_map(|part| match part {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|at| row.get(at)).collect::<Vec<_>>()),
            _ => None,
        })
        .collect();
    assert_eq!(rows, [vec![Some("1")], vec![None, Some("two")]]);
    let error = connection.simple_query("SELECT\0").await.unwrap_err();
    assert!(matches!(error, Error::NotSent(_)), "{error:?}");
    let error = connection.simple_query("SELECT 1; SELECT nothing").await.unwrap_err();
    assert!(matches!(error, Error::Database(_)), "{error:?}");
}

#[tokio::test]
async fn a_statement_prepared_in_advance_is_the_one_that_commands_with_its_text_run() {
    let pool = database().await.pool(1);
    let connection = pool.get().await.unwrap();
    let sql = "SELECT $1::int AS number, 'x' AS name";
    let statement = connection.prepare(sql).await.unwrap();
    assert_eq!(statement.params(), [Type::INT4]);
    let columns: Vec<_> = statement.columns().iter().map(|column| column.name()).collect();
    assert_eq!(columns, ["number", "name"]);
    for number in 1..4 {
        connection.query_one(sql, &[&number]).await.unwrap();
    }
    let same = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%AS number%'";
    assert_eq!(connection.query_typed_one(same, &[]).await.unwrap().get::<_, i64>(0), 1);
    let error = connection.prepare("SELECT nothing").await.unwrap_err();
    assert!(matches!(error, Error::Database(_)), "{error:?}");
}

#[tokio::test]
async fn a_raw_query_takes_any_number_of_parameters_of_one_type() {
    let (pool, process_id, watcher) = one().await;
    let connection = pool.get().await.unwrap();
    let names: Vec<String> = (1..=30).map(|n| format!("name {n}")).collect();
    let places: Vec<_> = (1..=names.len()).map(|place| format!("${place}")).collect();
    let sql = format!("SELECT unnest(ARRAY[{}]::text[])", places.join(", "));
    let rows = connection.query_raw(&sql, &names).await.unwrap();
    let rows: Vec<String> = rows.map_ok(|row| row.get(0)).try_collect().await.unwrap();
    assert_eq!(rows, names);
    let few = connection.query_raw(&sql, &names[1..]).await.unwrap_err();
    assert!(matches!(few, Error::NotSent(_)), "{few:?}");
    drop(connection);
    assert_as_new(&pool, process_id, &watcher).await;
}

#[tokio::test]
async fn statements_on_the_pool_itself_leave_their_connection_clean() {
    let (pool, process_id, watcher) = one().await;
    pool.batch_execute("CREATE TABLE goods (id int); SET work_mem = '1MB'")
        .await
        .unwrap();
    let now = pool
        .query_typed("SELECT current_setting('work_mem')", &[])
        .await
        .unwrap();
    assert_ne!(now[0].get::<_, &str>(0), "1MB");
    assert_as_new(&pool, process_id, &watcher).await;
}
