//! Code for the driver's own types runs over this pool as over deadpool-postgres, and is counted, bounded and cleaned up.

use std::time::Duration;

use cenote_postgres::{
    Error, GenericClient, Pool,
    tokio_postgres::{self, error::SqlState, types::Type},
};
use futures_util::TryStreamExt;

use crate::support::database;

const FIND: &str = "/* find_goods */ SELECT id, name FROM goods WHERE id = $1";

/// As generated code does it: prepare, then run.
async fn find(client: &impl GenericClient, id: i32) -> Result<String, tokio_postgres::Error> {
    let statement = client.prepare(FIND).await?;
    client.query_one(&statement, &[&id]).await?.try_get("name")
}

async fn shop(max_size: u32) -> (crate::support::Database, Pool) {
    let database = database().await;
    let mut config = database.config(max_size);
    config.statement_names = &["find_goods"];
    let pool = Pool::new(config).unwrap();
    pool.execute("CREATE TABLE goods (id int PRIMARY KEY, name text)", &[])
        .await
        .unwrap();
    pool.execute(
        "INSERT INTO goods SELECT n, 'name ' || n FROM generate_series(1, 5) n",
        &[],
    )
    .await
    .unwrap();
    (database, pool)
}

#[tokio::test]
async fn connections_guards_and_transactions_run_the_drivers_statements() {
    let (_database, pool) = shop(2).await;
    let mut connection = pool.get().await.unwrap();
    assert_eq!(find(&connection, 1).await.unwrap(), "name 1");
    assert_eq!(find(&*connection, 2).await.unwrap(), "name 2");
    let owned = pool.get_owned().await.unwrap();
    assert_eq!(find(&owned, 3).await.unwrap(), "name 3");

    let mut transaction = GenericClient::transaction(&mut connection).await.unwrap();
    let add = GenericClient::execute(&transaction, "INSERT INTO goods VALUES ($1, $2)", &[&6, &"name 6"]);
    assert_eq!(add.await.unwrap(), 1);
    let savepoint = GenericClient::transaction(&mut transaction).await.unwrap();
    assert_eq!(find(&savepoint, 6).await.unwrap(), "name 6");
    let values = [7_i32];
    let add = savepoint.execute_raw("INSERT INTO goods VALUES ($1, 'name 7')", values);
    assert_eq!(add.await.unwrap(), 1);
    drop(savepoint);
    transaction.commit().await.unwrap();

    let all = GenericClient::query(&owned, "SELECT id FROM goods", &[]).await.unwrap();
    assert_eq!(all.len(), 6);
    let none = GenericClient::query_opt(&owned, "SELECT id FROM goods WHERE id = 7", &[]);
    assert!(none.await.unwrap().is_none());
    let typed = owned.prepare_typed("SELECT $1", &[Type::INT4]).await.unwrap();
    let one = GenericClient::query_one(&owned, &typed, &[&1]).await.unwrap();
    assert_eq!(one.get::<_, i32>(0), 1);
    let rows = GenericClient::query_raw(&owned, "SELECT id FROM goods WHERE id > $1", [2_i32]);
    assert_eq!(rows.await.unwrap().try_collect::<Vec<_>>().await.unwrap().len(), 4);
    GenericClient::batch_execute(&owned, "SELECT 1; SELECT 2")
        .await
        .unwrap();
}

#[tokio::test]
async fn statements_are_prepared_once_a_connection_and_once_for_each_choice_of_types() {
    let (_database, pool) = shop(1).await;
    for _ in 0..3 {
        let connection = pool.get().await.unwrap();
        find(&connection, 1).await.unwrap();
        connection
            .prepare_typed_cached("SELECT $1", &[Type::INT4])
            .await
            .unwrap();
        connection
            .prepare_typed_cached("SELECT $1", &[Type::INT8])
            .await
            .unwrap();
        connection.prepare_cached("SELECT $1").await.unwrap();
    }
    let connection = pool.get().await.unwrap();
    let count = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '/* find_goods%' \
                 OR statement = 'SELECT $1'";
    let row = connection.query_one(count, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 4);
}

#[tokio::test]
async fn calls_are_counted_under_the_name_of_their_statement() {
    let (_database, pool) = shop(1).await;
    let before = pool.stats();
    let connection = pool.get().await.unwrap();
    for id in 1..=4 {
        find(&connection, id).await.unwrap();
    }
    // A text is not seen, so it has no name.
    GenericClient::query(&*connection, FIND, &[&1]).await.unwrap();
    let missing = find(&connection, 9).await.unwrap_err();
    assert!(missing.to_string().contains("unexpected number of rows"), "{missing}");
    let stats = pool.stats();
    assert_eq!(stats.queries - before.queries, 6);
    assert_eq!(stats.errors, before.errors, "the server has executed it");
    let named = stats.statements.iter().find(|it| it.name == "find_goods").unwrap();
    assert_eq!(named.durations.count(), 5);
}

#[tokio::test]
async fn the_drivers_errors_come_back_as_they_are() {
    let (_database, pool) = shop(1).await;
    let connection = pool.get().await.unwrap();
    let twice = GenericClient::execute(&*connection, "INSERT INTO goods VALUES (1)", &[]).await;
    let error = twice.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::UNIQUE_VIOLATION));
    assert_eq!(Error::from(error).constraint(), Some("goods_pkey"));
    let wrong = GenericClient::query(&*connection, "SELECT $1::int", &[&"text"]).await;
    let error = wrong.unwrap_err();
    assert_eq!(error.to_string(), "error serializing parameter 0");
    assert_eq!(pool.stats().errors_by_class, [("23", 1), ("none", 1)]);
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_cancelled_and_its_error_says_so() {
    let (_database, pool) = shop(1).await;
    let connection = pool.get().await.unwrap();
    connection.set_command_timeout(Some(Duration::from_millis(50)));
    let slow = GenericClient::query(&*connection, "SELECT pg_sleep(600)", &[]).await;
    let error = slow.unwrap_err();
    assert!(matches!(Error::from(error), Error::Timeout(_)));
    assert_eq!(pool.stats().timeouts, 1);
    drop(connection);
    let connection = pool.get().await.unwrap();
    assert_eq!(find(&connection, 1).await.unwrap(), "name 1");
}

#[tokio::test]
async fn after_a_change_of_the_schema_a_statement_fails_once_at_most() {
    let (database, pool) = shop(1).await;
    let connection = pool.get().await.unwrap();
    find(&connection, 1).await.unwrap();
    let watcher = database.watcher().await;
    watcher
        .run("ALTER TABLE goods ALTER COLUMN id TYPE bigint, ALTER COLUMN name TYPE varchar(20)")
        .await;
    let stale = find(&connection, 1).await.unwrap_err();
    assert_eq!(stale.code(), Some(&SqlState::FEATURE_NOT_SUPPORTED));
    let statement = connection.prepare(FIND).await.unwrap();
    let row = GenericClient::query_one(&*connection, &statement, &[&1_i64])
        .await
        .unwrap();
    assert_eq!(row.get::<_, &str>("name"), "name 1");
}

#[tokio::test]
async fn what_a_prepared_statement_may_do_to_the_session_is_undone() {
    let (database, pool) = shop(1).await;
    let connection = pool.get().await.unwrap();
    let lock = connection.prepare("SELECT pg_advisory_lock(7)").await.unwrap();
    GenericClient::query_one(&*connection, &lock, &[]).await.unwrap();
    drop(connection);
    let _next = pool.get().await.unwrap();
    let watcher = database.watcher().await;
    assert_eq!(
        watcher.number("SELECT pg_try_advisory_lock(7)::int::bigint", &[]).await,
        1
    );
}
