//! The next user of a connection notices nothing of statements that were prepared or deallocated by hand.

use crate::support::{
    give_up_after,
    single::{assert_as_new, one, text},
};

#[tokio::test]
async fn statements_prepared_by_name_are_gone_and_cached_ones_work_on() {
    let (pool, process_id, watcher) = one().await;
    let cached = "SELECT 'cached'";
    let named = "SELECT count(*)::text FROM pg_prepared_statements WHERE name = 'mine'";
    for by_hand in [
        "PREPARE mine AS SELECT 'mine'",
        "PREPARE mine AS SELECT 'mine'; DEALLOCATE mine",
        "DEALLOCATE ALL",
        "DISCARD ALL",
    ] {
        let connection = pool.get().await.unwrap();
        assert_eq!(text(&connection, cached).await, "cached");
        connection.batch_execute(by_hand).await.unwrap();
        assert_eq!(text(&connection, cached).await, "cached", "{by_hand}");
        drop(connection);
        let connection = pool.get().await.unwrap();
        assert_eq!(connection.process_id(), process_id, "{by_hand}");
        assert_eq!(text(&connection, cached).await, "cached", "{by_hand}");
        assert_eq!(text(&connection, named).await, "0", "{by_hand}");
    }
    assert_as_new(&pool, process_id, &watcher).await;
    assert_eq!(pool.stats().pool.connects, 1);
}

/// The driver looks up unknown types with its own prepared statements, and cannot be told that they are gone. Such a
/// connection is closed.
#[tokio::test]
async fn deallocated_statements_do_not_break_the_look_up_of_types() {
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
    assert!(prepared <= 20, "{prepared} statements that are not used");
}
