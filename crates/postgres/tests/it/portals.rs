//! Portals: rows in portions, beside other commands, gone with their transaction.

use cenote_postgres::Error;

use crate::support::{
    give_up_after,
    single::{assert_as_new, assert_clean, one},
};

const NUMBERS: &str = "SELECT i FROM generate_series(1, $1) i";

fn numbers(rows: &[cenote_postgres::tokio_postgres::Row]) -> Vec<i32> {
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn rows_come_in_portions_and_other_commands_may_run_in_between() {
    let (pool, process_id, watcher) = one().await;
    let transaction = pool.begin().await.unwrap();
    let portal = transaction.bind(NUMBERS, &[&7]).await.unwrap();
    let other = transaction
        .bind("SELECT 'text ' || i FROM generate_series(1, 2) i", &[])
        .await
        .unwrap();
    let portion = transaction.query_portal(&portal, 3).await.unwrap();
    assert_eq!(numbers(&portion), [1, 2, 3]);
    let insert = "INSERT INTO entry VALUES (1)";
    transaction.execute(insert, &[]).await.unwrap();
    let text = transaction.query_portal(&other, 1).await.unwrap();
    assert_eq!(text[0].get::<_, &str>(0), "text 1");
    assert_eq!(numbers(&transaction.query_portal(&portal, 3).await.unwrap()), [4, 5, 6]);
    assert_eq!(numbers(&transaction.query_portal(&portal, 0).await.unwrap()), [7]);
    assert!(transaction.query_portal(&portal, 3).await.unwrap().is_empty());
    portal.close().await.unwrap();
    // The query's own portal has no name.
    let gone = "SELECT count(*) FROM pg_cursors WHERE name <> ''";
    assert_eq!(transaction.query_one(gone, &[]).await.unwrap().get::<_, i64>(0), 1);
    transaction.commit().await.unwrap();
    assert_eq!(watcher.rows_of("entry").await, 1);
    assert_as_new(&pool, process_id, &watcher).await;
    assert_eq!(pool.stats().pool.cleaned, 0, "a portal makes no session dirty");
}

#[tokio::test]
async fn a_portal_ends_with_its_savepoint_or_transaction() {
    let (pool, process_id, watcher) = one().await;
    let mut transaction = pool.begin().await.unwrap();
    let savepoint = transaction.savepoint().await.unwrap();
    savepoint.bind(NUMBERS, &[&7]).await.unwrap();
    savepoint.rollback().await.unwrap();
    let open = "SELECT count(*) FROM pg_cursors WHERE name <> ''";
    assert_eq!(transaction.query_one(open, &[]).await.unwrap().get::<_, i64>(0), 0);
    transaction.bind(NUMBERS, &[&7]).await.unwrap();
    drop(transaction);
    let open = pool.query_one(open, &[]).await.unwrap();
    assert_eq!(open.get::<_, i64>(0), 0);
    assert_as_new(&pool, process_id, &watcher).await;
}

#[tokio::test]
async fn many_portals_leave_no_prepared_statements_behind() {
    let (pool, process_id, watcher) = one().await;
    let transaction = pool.begin().await.unwrap();
    for _ in 0..50 {
        let portal = transaction.bind(NUMBERS, &[&2]).await.unwrap();
        assert_eq!(transaction.query_portal(&portal, 9).await.unwrap().len(), 2);
        portal.close().await.unwrap();
    }
    let kept = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'DECLARE%'";
    assert_eq!(transaction.query_one(kept, &[]).await.unwrap().get::<_, i64>(0), 0);
    transaction.commit().await.unwrap();
    assert_as_new(&pool, process_id, &watcher).await;
}

#[tokio::test]
async fn a_wrong_query_is_refused_and_the_transaction_has_failed() {
    let (pool, process_id, watcher) = one().await;
    let transaction = pool.begin().await.unwrap();
    let error = transaction.bind("SELECT nothing", &[]).await.unwrap_err();
    assert!(matches!(error, Error::Database(_)), "{error:?}");
    assert!(matches!(transaction.commit().await, Err(Error::RolledBack)));
    assert_as_new(&pool, process_id, &watcher).await;
}

#[tokio::test]
async fn a_caller_dropped_at_any_await_of_a_portal_leaves_a_clean_connection() {
    let (pool, _, watcher) = one().await;
    let mut polls = 0;
    loop {
        polls += 1;
        let work = async {
            let transaction = pool.begin().await.unwrap();
            let portal = transaction.bind(NUMBERS, &[&9]).await.unwrap();
            transaction.query_portal(&portal, 4).await.unwrap();
            portal.close().await.unwrap();
            transaction.commit().await.unwrap();
        };
        let is_done = give_up_after(polls, work).await.is_some();
        let row = pool.query_one("SELECT $1::int", &[&7]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), 7);
        if is_done {
            break;
        }
    }
    assert!(polls > 4, "it was not dropped at every await");
    assert_clean(&pool, &watcher).await;
}
