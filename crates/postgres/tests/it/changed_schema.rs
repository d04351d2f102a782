//! Types, columns and functions may be dropped and made again while a prepared statement that uses them is cached.
//! Outside a transaction no caller notices, and a transaction is repeated.

use std::{error, time::Duration};

use bytes::BytesMut;
use cenote_postgres::{
    Combine, Combiner, Command, Connection, Error, Loader, Pool, Result, Rows,
    tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked},
};
use futures_util::TryStreamExt;

use crate::support::{Watcher, database};

/// A value of a type that the database defines, in its text form.
#[derive(Debug)]
struct Label(&'static str);

impl ToSql for Label {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> std::result::Result<IsNull, Box<dyn error::Error + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        kind.schema() == "public"
    }

    to_sql_checked!();
}

const MAKE: &str = "CREATE TYPE mood AS ENUM ('calm', 'cross');
                    CREATE TABLE entry (id int, feeling mood)";
const MAKE_AGAIN: &str = "DROP TYPE mood CASCADE; CREATE TYPE mood AS ENUM ('cross', 'calm');
                          ALTER TABLE entry ADD feeling mood";
const INSERT: &str = "INSERT INTO entry (feeling) VALUES ($1) RETURNING feeling";
const SELECT: &str = "SELECT 'calm'::mood, feeling FROM entry";

/// A pool of one whose connection knows the statements, and a second session.
async fn one() -> (Pool, Watcher) {
    let database = database().await;
    let watcher = database.watcher().await;
    watcher.run(MAKE).await;
    let mut config = database.config(1);
    // A retry after a pause would hang this test.
    config.retry.delay = Duration::from_secs(3600);
    let pool = Pool::new(config).unwrap();
    let connection = pool.get().await.unwrap();
    connection.query(INSERT, &[&Label("calm")]).await.unwrap();
    connection.query(SELECT, &[]).await.unwrap();
    drop(connection);
    (pool, watcher)
}

#[tokio::test]
async fn callers_do_not_notice_a_type_that_is_dropped_and_made_again() {
    let (pool, watcher) = one().await;
    for _ in 0..3 {
        watcher.run(MAKE_AGAIN).await;
        let connection = pool.get().await.unwrap();
        connection.query(INSERT, &[&Label("calm")]).await.unwrap();
        connection.query(SELECT, &[]).await.unwrap();
        watcher.run(MAKE_AGAIN).await;
        let rows = connection.query_stream(SELECT, &[]).await.unwrap();
        rows.try_collect::<Vec<_>>().await.unwrap();
        let copy = "COPY (SELECT 'calm'::mood) TO STDOUT";
        let data = connection.copy_out(copy).await.unwrap();
        data.try_collect::<Vec<_>>().await.unwrap();
    }
    assert_eq!(pool.stats().pool.connects, 1);
}

#[tokio::test]
async fn callers_do_not_notice_a_change_of_anything_else_a_statement_depends_on() {
    let database = database().await;
    let watcher = database.watcher().await;
    let pool = database.pool(1);
    for (made, sql, parameter, again) in [
        (
            "CREATE DOMAIN name_d AS text; CREATE TABLE a (n name_d)",
            "INSERT INTO a VALUES ($1::text) RETURNING n",
            &"x" as &(dyn ToSql + Sync),
            "DROP DOMAIN name_d CASCADE; CREATE DOMAIN name_d AS varchar(5); ALTER TABLE a ADD n name_d",
        ),
        (
            "CREATE TYPE pair AS (a int, b int)",
            "SELECT ROW(1, 2)::pair, $1::text",
            &"x",
            "DROP TYPE pair; CREATE TYPE pair AS (b int, a int)",
        ),
        (
            "CREATE EXTENSION hstore; CREATE TABLE h (v hstore)",
            "SELECT v, 'a=>1'::hstore FROM h WHERE $1::text = 'x'",
            &"x",
            "DROP EXTENSION hstore CASCADE; CREATE EXTENSION hstore; ALTER TABLE h ADD v hstore",
        ),
        (
            "CREATE TABLE t (n text); INSERT INTO t VALUES ('x')",
            "SELECT * FROM t WHERE n = $1",
            &"x",
            "DROP TABLE t; CREATE TABLE t (id int, n text); INSERT INTO t VALUES (1, 'x')",
        ),
        (
            "CREATE FUNCTION f(text) RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "SELECT f($1)",
            &"x",
            "DROP FUNCTION f; CREATE FUNCTION f(text) RETURNS text LANGUAGE sql AS 'SELECT $1'",
        ),
        (
            "CREATE TABLE v (n text)",
            "SELECT n FROM v WHERE n = $1",
            &"x",
            "ALTER TABLE v ALTER n TYPE varchar(9)",
        ),
    ] {
        watcher.run(made).await;
        let connection = pool.get().await.unwrap();
        connection.query(sql, &[parameter]).await.unwrap();
        watcher.run(again).await;
        connection.query(sql, &[parameter]).await.unwrap();
    }
    assert_eq!(pool.stats().pool.connects, 1);
}

/// A prepared statement keeps the types of its parameters, but callers of the new schema give others.
#[tokio::test]
async fn a_column_of_another_type_takes_values_of_that_type_at_once() {
    let database = database().await;
    let watcher = database.watcher().await;
    watcher.run("CREATE TABLE entry (id int)").await;
    let pool = database.pool(1);
    let mut connection = pool.get().await.unwrap();
    let insert = "INSERT INTO entry VALUES ($1)";
    connection.execute(insert, &[&1_i32]).await.unwrap();
    watcher.run("ALTER TABLE entry ALTER id TYPE bigint").await;
    // Nothing was sent, so not even a transaction has to be repeated.
    let transaction = connection.transaction().await.unwrap();
    transaction.execute(insert, &[&2_i64]).await.unwrap();
    transaction.commit().await.unwrap();
    watcher.run("ALTER TABLE entry ALTER id TYPE text").await;
    let find = "SELECT id FROM entry WHERE id = $1";
    connection.query_one(find, &[&"2"]).await.unwrap();
    watcher.run("ALTER TABLE entry ALTER id TYPE int USING id::int").await;
    connection.query_one(find, &[&2]).await.unwrap();
    let wrong = connection.query(find, &[&"2"]).await.unwrap_err();
    assert!(matches!(wrong, Error::NotSent(_)), "{wrong:?}");
    // A value that was added to a type later is accepted too.
    watcher.run("CREATE TYPE mood AS ENUM ('calm')").await;
    let label = "SELECT $1::mood::text";
    connection.query_one(label, &[&Label("calm")]).await.unwrap();
    watcher.run("ALTER TYPE mood ADD VALUE 'cross'").await;
    connection.query_one(label, &[&Label("cross")]).await.unwrap();
}

#[tokio::test]
async fn a_transaction_that_meets_a_recreated_type_is_repeated_at_once() {
    let (pool, watcher) = one().await;
    let mut tries = 0;
    watcher.run("CREATE TABLE log (id int)").await;
    watcher.run(MAKE_AGAIN).await;
    pool.transaction(|transaction| {
        tries += 1;
        Box::pin(async move {
            transaction.execute("INSERT INTO log VALUES (1)", &[]).await?;
            transaction.query(SELECT, &[]).await?;
            transaction.query(INSERT, &[&Label("cross")]).await?;
            Ok::<_, Error>(())
        })
    })
    .await
    .unwrap();
    // One repetition for both statements.
    assert_eq!(tries, 2);
    assert_eq!(watcher.rows_of("log").await, 1);
}

#[tokio::test]
async fn every_connection_of_the_pool_may_have_a_stale_statement() {
    let database = database().await;
    let watcher = database.watcher().await;
    watcher.run("CREATE TABLE entry (id int)").await;
    let mut config = database.config(5);
    config.retry.delay = Duration::from_secs(3600);
    let pool = Pool::new(config).unwrap();
    let sql = "SELECT * FROM entry";
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(pool.get().await.unwrap());
    }
    for connection in &held {
        connection.query(sql, &[]).await.unwrap();
    }
    watcher.run("ALTER TABLE entry ADD note text").await;
    // All at the same time: one after the other, they would all get the same connection.
    let mut transactions = Vec::new();
    drop(held);
    for _ in 0..5 {
        transactions.push(pool.transaction(|transaction| Box::pin(async move { transaction.query(sql, &[]).await })));
    }
    for done in futures_util::future::join_all(transactions).await {
        done.unwrap();
    }
}

#[tokio::test]
async fn in_a_transaction_and_a_pipeline_a_stale_statement_is_an_error_and_the_next_try_works() {
    let (pool, watcher) = one().await;
    let mut connection = pool.get().await.unwrap();
    watcher.run(MAKE_AGAIN).await;
    let transaction = connection.transaction().await.unwrap();
    let error = transaction.query(SELECT, &[]).await.unwrap_err();
    assert!(matches!(error, Error::Stale(_)), "{error:?}");
    assert!(error.is_retryable() && !error.is_outcome_unknown());
    assert!(error.to_string().contains("repeat"), "{error}");
    drop(transaction);
    connection.query(SELECT, &[]).await.unwrap();
    watcher.run(MAKE_AGAIN).await;
    let commands = || [Command::new(SELECT, &[]), Command::new("SELECT 1", &[])];
    let [first, second] = connection.pipeline(commands()).await;
    assert!(matches!(first, Err(Error::Stale(_))), "{first:?}");
    second.unwrap();
    let [first, second] = connection.pipeline(commands()).await;
    first.unwrap();
    second.unwrap();
}

struct Feelings;

impl Combine for Feelings {
    type Key = i32;
    type Write = i32;
    type Outcome = ();
    type Error = Error;

    fn key<'a>(&self, write: &'a i32) -> &'a i32 {
        write
    }

    fn bytes(&self, _: &i32) -> usize {
        4
    }

    fn database_error(error: &Error) -> Option<&Error> {
        Some(error)
    }

    fn folds(&self, _: &[&i32], _: &i32) -> bool {
        true
    }

    async fn commit(&self, connection: &Connection, rows: &Rows<'_, i32>, _: Duration) -> Result<Vec<()>> {
        connection.query(INSERT, &[&Label("calm")]).await?;
        Ok(rows.iter().flatten().map(|_| ()).collect())
    }
}

#[tokio::test]
async fn loaders_and_combiners_go_on_with_a_recreated_type() {
    let (pool, watcher) = one().await;
    let writes = Combiner::new(Feelings, &pool);
    let loads: Loader<i64, bool> = Loader::new(
        pool.clone(),
        "SELECT position, 'calm'::mood = 'calm' FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (id, position),
             (SELECT 'calm'::mood AS m) AS typed",
        |row| Ok(row.try_get(1)?),
    );
    for _ in 0..2 {
        writes.submit(1).await.unwrap();
        assert_eq!(loads.load(7).await.unwrap(), Some(true));
        watcher.run(MAKE_AGAIN).await;
    }
    writes.submit(1).await.unwrap();
    assert_eq!(loads.load(7).await.unwrap(), Some(true));
}

/// Otherwise its first part would be committed twice.
#[tokio::test]
async fn a_procedure_that_fails_after_it_has_committed_is_not_run_again() {
    let database = database().await;
    let watcher = database.watcher().await;
    watcher
        .run(
            "CREATE TABLE entry (id int);
             CREATE PROCEDURE settle() LANGUAGE plpgsql AS $$BEGIN
                 INSERT INTO entry VALUES (1);
                 COMMIT;
                 IF (SELECT count(*) FROM entry) > 1 THEN PERFORM missing(1); END IF;
             END$$",
        )
        .await;
    let pool = database.pool(1);
    let connection = pool.get().await.unwrap();
    connection.execute("CALL settle()", &[]).await.unwrap();
    let error = connection.execute("CALL settle()", &[]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42883");
    assert_eq!(watcher.rows_of("entry").await, 2);
}

/// The driver looks up types with its own prepared statements, and cannot be told that they are gone.
#[tokio::test]
async fn a_connection_that_can_no_longer_look_up_types_is_replaced() {
    let (pool, watcher) = one().await;
    watcher.run("CREATE TYPE hue AS ENUM ('red')").await;
    let connection = pool.get().await.unwrap();
    // In a DO block, so that the library does not see it.
    let forget = "DO $$BEGIN EXECUTE 'DEALLOCATE ALL'; END$$";
    connection.batch_execute(forget).await.unwrap();
    let sql = "SELECT 'red'::hue";
    let error = connection.query(sql, &[]).await.unwrap_err();
    assert!(matches!(error, Error::Stale(_)), "{error:?}");
    drop(connection);
    let connection = pool.get().await.unwrap();
    connection.query(sql, &[]).await.unwrap();
}
