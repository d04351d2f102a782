//! Several statements in one round trip, and the outcome of each.

use std::time::Duration;

use cenote_postgres::{Command, CommandOutput, Connection, Error, Pool, Result, tokio_postgres::types::ToSql};
use cenote_testing::Direction;
use tokio::time::timeout;

use crate::support::{SOON, Watcher, database, give_up_after, through_proxy, until};

const TABLE: &str = "CREATE TABLE entry (id serial, n bigint PRIMARY KEY)";
const ADD: &str = "INSERT INTO entry (n) VALUES ($1)";
const COUNT: &str = "SELECT count(*) FROM entry WHERE n < $1";

async fn entries() -> (Pool, Watcher) {
    let database = database().await;
    let watcher = database.watcher().await;
    watcher.run(TABLE).await;
    (database.pool(1), watcher)
}

async fn add_all(connection: &Connection, numbers: &[i64]) -> Vec<Result<CommandOutput>> {
    let parameters: Vec<[&(dyn ToSql + Sync); 1]> = numbers.iter().map(|n| [n as _]).collect();
    let commands: Vec<_> = parameters.iter().map(|n| Command::new(ADD, n)).collect();
    connection.pipeline_all(&commands).await
}

#[tokio::test]
async fn each_statement_has_its_own_answer_in_order() {
    let (pool, _watcher) = entries().await;
    let connection = pool.get().await.unwrap();
    let [first, none, second, some] = connection
        .pipeline([
            Command::new(ADD, &[&1i64]),
            Command::new(COUNT, &[&1i64]),
            Command::new("INSERT INTO entry (n) SELECT generate_series(2, 4)", &[]),
            Command::new(COUNT, &[&4i64]),
        ])
        .await;
    assert_eq!((first.unwrap().affected, second.unwrap().affected), (1, 3));
    let count = |answer: Result<CommandOutput>| answer.unwrap().rows[0].get::<_, i64>(0);
    assert_eq!((count(none), count(some)), (0, 3));
    assert_eq!(pool.stats().queries, 4);
}

#[tokio::test]
async fn all_statements_are_executed_in_order_before_the_first_answer_arrives() {
    let database = database().await;
    let watcher = database.watcher().await;
    watcher.run(TABLE).await;
    let (proxy, through) = through_proxy(&database).await;
    let pool = through.pool(1);
    let connection = pool.get().await.unwrap();
    let warm_up = add_all(&connection, &[0]).await;
    assert!(warm_up[0].is_ok());
    let numbers: Vec<i64> = (1..=100).collect();
    // No answer comes back any more, so what is executed now was sent without waiting for answers.
    proxy.hold(Direction::ToClient);
    let mut answers = Box::pin(add_all(&connection, &numbers));
    let executed = until("all are executed", async || watcher.rows_of("entry").await == 101);
    tokio::select! {
        _ = &mut answers => panic!("no answer can have come"),
        () = executed => {}
    }
    proxy.heal();
    assert!(answers.await.iter().all(Result::is_ok));
    let in_order = "SELECT count(*) FROM (SELECT n, lag(n) OVER (ORDER BY id) AS before FROM entry) AS e \
                    WHERE n = before + 1";
    assert_eq!(watcher.number(in_order, &[]).await, 100);
}

#[tokio::test]
async fn a_statement_that_fails_stops_none_of_the_others() {
    let (pool, watcher) = entries().await;
    let connection = pool.get().await.unwrap();
    let answers = add_all(&connection, &[1, 2, 1, 3]).await;
    let codes: Vec<_> = answers
        .iter()
        .map(|answer| answer.as_ref().err().map(|error| error.code().unwrap().code()))
        .collect();
    assert_eq!(codes, [None, None, Some("23505"), None]);
    assert_eq!(watcher.rows_of("entry").await, 3);
    // Nor does one that cannot be prepared, or not be sent.
    let [wrong, missing, fine] = connection
        .pipeline([
            Command::new("SELECT nothing FROM nowhere", &[]),
            Command::new(ADD, &[]),
            Command::new(ADD, &[&4i64]),
        ])
        .await;
    assert_eq!(wrong.unwrap_err().code().unwrap().code(), "42P01");
    assert!(matches!(missing, Err(Error::NotSent(_))), "{missing:?}");
    fine.unwrap();
    assert_eq!(watcher.rows_of("entry").await, 4);
}

#[tokio::test]
async fn in_a_transaction_the_statements_after_a_failure_fail_too_and_nothing_is_kept() {
    let (pool, watcher) = entries().await;
    let transaction = pool.begin().await.unwrap();
    let answers = add_all(&transaction, &[1, 1, 2]).await;
    let code = |at: usize| answers[at].as_ref().unwrap_err().code().unwrap().code();
    assert!(answers[0].is_ok());
    assert_eq!((code(1), code(2)), ("23505", "25P02"));
    let committed = transaction.commit().await;
    assert!(matches!(committed, Err(Error::RolledBack)), "{committed:?}");
    assert_eq!(watcher.rows_of("entry").await, 0);
}

#[tokio::test]
async fn the_connection_of_a_pipeline_dropped_at_any_await_comes_back_clean() {
    let (pool, watcher) = entries().await;
    for polls in 1..40 {
        let connection = pool.get().await.unwrap();
        let number: [&(dyn ToSql + Sync); 1] = [&i64::from(polls)];
        let pipeline = connection.pipeline([
            Command::new(ADD, &number),
            Command::new("SELECT pg_sleep(0.002)", &[]),
            Command::new("SELECT generate_series(1, 2000)", &[]),
            Command::new("SELECT pg_sleep(20)", &[]),
        ]);
        // After some polls, or after some time while the server sleeps.
        let given_up = timeout(Duration::from_millis(50), give_up_after(polls % 8 + 1, pipeline));
        assert!(!matches!(given_up.await, Ok(Some(_))));
        drop(connection);
        let connection = timeout(SOON, pool.get()).await.unwrap().unwrap();
        let row = connection.query_one("SELECT 7", &[]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), 7);
        assert_eq!(watcher.sessions("idle in transaction%").await, 0);
    }
}

#[tokio::test]
async fn answers_from_before_the_connection_was_lost_are_known_and_the_rest_is_not() {
    let (pool, watcher) = entries().await;
    let connection = pool.get().await.unwrap();
    let process = connection.process_id();
    let ((), [known, unknown, unsent]) = tokio::join!(
        async {
            watcher.sees_running(process, "pg_sleep").await;
            watcher.terminate(process).await;
        },
        connection.pipeline([
            Command::new(ADD, &[&1i64]),
            Command::new("SELECT pg_sleep(20)", &[]),
            Command::new(ADD, &[&2i64]),
        ])
    );
    known.unwrap();
    for lost in [unknown, unsent] {
        let error = lost.unwrap_err();
        assert!(error.is_outcome_unknown(), "{error}");
    }
    drop(connection);
    pool.get().await.unwrap().execute(ADD, &[&3i64]).await.unwrap();
    assert_eq!(watcher.rows_of("entry").await, 2);
}

#[tokio::test]
async fn a_pipeline_that_takes_too_long_is_cancelled_and_the_answers_until_then_are_known() {
    let database = database().await;
    database.watcher().await.run(TABLE).await;
    let mut config = database.config(1);
    config.command_timeout = Some(Duration::from_secs(1));
    let pool = Pool::new(config).unwrap();
    let connection = pool.get().await.unwrap();
    let [known, late, behind] = connection
        .pipeline([
            Command::new(ADD, &[&1i64]),
            Command::new("SELECT pg_sleep(20)", &[]),
            Command::new(ADD, &[&2i64]),
        ])
        .await;
    known.unwrap();
    for late in [late, behind] {
        assert!(matches!(late, Err(Error::Timeout(_))), "{late:?}");
    }
    // On the same connection, on which nothing is under way any more.
    let [again] = connection.pipeline([Command::new(ADD, &[&3i64])]).await;
    assert_eq!(again.unwrap().affected, 1);
}
