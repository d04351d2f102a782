//! What the cache needs in the database.

use futures_util::future::try_join_all;

use crate::world::World;

#[tokio::test]
async fn installing_again_or_at_the_same_time_changes_nothing() {
    let world = World::start().await;
    let epoch = "SELECT epoch FROM cache_epoch";
    let before: i64 = world.pool.query_one(epoch, &[]).await.unwrap().get(0);
    try_join_all((0..8).map(|_| cenote_cached::install(&world.pool)))
        .await
        .unwrap();
    world.run(cenote_cached::MIGRATION).await;
    let after: i64 = world.pool.query_one(epoch, &[]).await.unwrap().get(0);
    assert_eq!(before, after);
}

#[tokio::test]
async fn instances_that_install_an_empty_database_at_the_same_time_all_succeed() {
    let world = World::start().await;
    world.postgres.create_database("empty").await.unwrap();
    let pool = crate::world::pool(&world.postgres.url_for("empty"));
    try_join_all((0..8).map(|_| cenote_cached::install(&pool)))
        .await
        .unwrap();
    let rows: i64 = pool
        .query_one("SELECT count(*) FROM cache_epoch", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(rows, 1);
}

#[tokio::test]
async fn versions_grow_across_updates_and_a_delete() {
    let world = World::start().await;
    let version = async || -> i64 {
        let sql = "SELECT version FROM goods WHERE id = 7";
        world.pool.query_one(sql, &[]).await.unwrap().get(0)
    };
    let mut last = version().await;
    for change in [
        "UPDATE goods SET pieces = 1 WHERE id = 7",
        "INSERT INTO goods VALUES (7, -5, 'again', 2) ON CONFLICT (id) DO UPDATE SET pieces = 3",
        "DELETE FROM goods WHERE id = 7; INSERT INTO goods VALUES (7, 0, 'new', 1)",
        "UPDATE goods SET version = 0 WHERE id = 7",
    ] {
        world.run(change).await;
        let now = version().await;
        assert!(now > last, "{change}: {last}, then {now}");
        last = now;
    }
}
