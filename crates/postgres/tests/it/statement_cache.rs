//! A statement is prepared once per connection, the server keeps no more statements than the cache, and a stale
//! statement is prepared again where that is safe.

use cenote_postgres::{Connection, Pool};

use crate::support::database;

const PREPARED: &str = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE $1";

/// The number of statements like this that the server keeps for the connection. PostgreSQL tells only the session
/// itself; the query goes through the driver, so that it is not cached.
async fn prepared(connection: &Connection, like: &str) -> i64 {
    let client = connection.client();
    client.query_one(PREPARED, &[&like]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_statement_is_prepared_once_however_often_it_runs() {
    let pool = database().await.pool(1);
    let sql = "SELECT $1::int + 1";
    let age = "SELECT min(prepare_time)::text FROM pg_prepared_statements WHERE statement = $1";
    let mut first_prepared = None;
    for round in 0..20 {
        let connection = pool.get().await.unwrap();
        let row = connection.query_one(sql, &[&round]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), round + 1);
        assert_eq!(prepared(&connection, sql).await, 1);
        let row = connection.client().query_one(age, &[&sql]).await.unwrap();
        let prepared_at: String = row.get(0);
        assert_eq!(*first_prepared.get_or_insert(prepared_at.clone()), prepared_at);
    }
    assert_eq!(pool.stats().pool.connects, 1);
}

#[tokio::test]
async fn the_cache_is_bounded_and_the_server_drops_what_is_evicted() {
    let database = database().await;
    for capacity in [0, 1, 8] {
        let mut config = database.config(1);
        config.statement_cache = capacity;
        let pool = Pool::new(config).unwrap();
        for round in 0..100 {
            let connection = pool.get().await.unwrap();
            let sql = format!("SELECT {round} AS mine");
            let row = connection.query_one(&sql, &[]).await.unwrap();
            assert_eq!(row.get::<_, i32>(0), round);
        }
        let connection = pool.get().await.unwrap();
        let kept = prepared(&connection, "%AS mine").await;
        let bound = i64::try_from(capacity).unwrap();
        assert!(kept <= bound, "{kept} for a capacity of {capacity}");
        assert!(capacity == 0 || kept > 0, "nothing is cached at all");
        assert_eq!(pool.stats().pool.connects, 1);
        drop(connection);
        pool.close().await;
    }
}

#[tokio::test]
async fn a_statement_whose_result_type_changed_is_prepared_again() {
    let database = database().await;
    let watcher = database.watcher().await;
    watcher
        .run("CREATE TABLE entry (id int); INSERT INTO entry VALUES (1)")
        .await;
    let pool = database.pool(1);
    let sql = "SELECT * FROM entry";
    let connection = pool.get().await.unwrap();
    assert_eq!(connection.query_one(sql, &[]).await.unwrap().len(), 1);
    for (change, columns) in [("ADD note text", 2), ("ALTER id TYPE bigint", 2), ("DROP note", 1)] {
        watcher.run(&format!("ALTER TABLE entry {change}")).await;
        let row = connection.query_one(sql, &[]).await.unwrap();
        assert_eq!(row.len(), columns, "after {change}");
    }
    assert_eq!(prepared(&connection, sql).await, 1, "stale ones are closed");
}

#[tokio::test]
async fn statements_that_vanished_are_prepared_again() {
    let pool = database().await.pool(1);
    let sql = "SELECT 7";
    let connection = pool.get().await.unwrap();
    connection.query(sql, &[]).await.unwrap();
    connection.batch_execute("DEALLOCATE ALL").await.unwrap();
    assert_eq!(prepared(&connection, sql).await, 0);
    let row = connection.query_one(sql, &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 7);
    assert_eq!(prepared(&connection, sql).await, 1);
}

#[tokio::test]
async fn statements_that_vanished_within_a_transaction_do_not_fail_it() {
    let database = database().await;
    let watcher = database.watcher().await;
    watcher.run("CREATE TABLE entry (id int)").await;
    let pool = database.pool(1);
    let insert = "INSERT INTO entry VALUES (1)";
    let mut connection = pool.get().await.unwrap();
    connection.execute(insert, &[]).await.unwrap();
    let transaction = connection.transaction().await.unwrap();
    transaction.batch_execute("DEALLOCATE ALL").await.unwrap();
    transaction.execute(insert, &[]).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(watcher.rows_of("entry").await, 2);
}

#[tokio::test]
async fn in_a_transaction_a_stale_statement_is_an_error_and_the_next_try_works() {
    let database = database().await;
    let watcher = database.watcher().await;
    watcher.run("CREATE TABLE entry (id int)").await;
    let pool = database.pool(1);
    let sql = "SELECT * FROM entry";
    let mut connection = pool.get().await.unwrap();
    connection.query(sql, &[]).await.unwrap();
    let transaction = connection.transaction().await.unwrap();
    let change = "INSERT INTO entry (id) VALUES (1)";
    transaction.execute(change, &[]).await.unwrap();
    let spoil = "ALTER TABLE entry ADD note text";
    transaction.batch_execute(spoil).await.unwrap();
    let error = transaction.query(sql, &[]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "0A000");
    drop(transaction);
    assert_eq!(watcher.rows_of("entry").await, 0, "nothing half done");
    connection.query(sql, &[]).await.unwrap();
}
