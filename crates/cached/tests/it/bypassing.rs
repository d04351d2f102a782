//! Changes by programs that know nothing of the cache.

use std::time::Duration;

use cenote_cached::Source;

use crate::world::{SOON, World, until};

#[tokio::test]
async fn without_a_feed_an_outside_change_is_not_seen_before_the_time_to_live_is_over() {
    let world = World::start().await;
    let one = world.instance(world.strong()).await;
    let brief = one.goods.clone().with_ttl(Duration::from_secs(2));
    assert_eq!(brief.get(&7).await.unwrap().unwrap().pieces, 100);
    world.run("UPDATE goods SET pieces = 1 WHERE id = 7").await;
    assert_eq!(one.goods.read(&7).await.unwrap().value.unwrap().pieces, 100);
    until("the time to live is over", async || one.pieces(7).await == 1).await;
}

#[tokio::test]
async fn with_the_feed_changes_by_any_statement_are_seen() {
    let world = World::start().await;
    let one = world.instance(world.strong()).await;
    world
        .run("SELECT cenote_watch('goods', 'id', 'goods'); SELECT cenote_watch('goods', 'id', 'goods')")
        .await;
    let (cached, pool) = (one.cached.clone(), world.pool.clone());
    let feed = tokio::spawn(async move { cached.follow_changes(&pool).await });
    until("the feed listens", async || one.cached.feed_stats().everything == 1).await;
    assert_eq!(one.cached.ready(SOON).await, cenote_cached::State::Ok);

    assert_eq!((one.pieces(7).await, one.pieces(8).await), (100, 100));
    world.run("UPDATE goods SET pieces = 1 WHERE id = 7").await;
    until("the update is seen", async || one.pieces(7).await == 1).await;
    world.run("UPDATE goods SET id = 1007 WHERE id = 8").await;
    until("the old key is gone", async || {
        one.goods.get(&8).await.unwrap().is_none()
    })
    .await;
    assert_eq!(one.pieces(1007).await, 100);
    world.run("INSERT INTO goods VALUES (8, 0, 'again', 3)").await;
    until("the insert is seen", async || {
        one.goods.get(&8).await.unwrap().is_some()
    })
    .await;
    world.run("DELETE FROM goods WHERE id = 8").await;
    until("the delete is seen", async || {
        one.goods.get(&8).await.unwrap().is_none()
    })
    .await;
    assert!(one.cached.feed_stats().keys >= 5, "{:?}", one.cached.feed_stats());

    world
        .run("SET cenote.writer = 'on'; UPDATE goods SET pieces = 2 WHERE id = 7; RESET cenote.writer")
        .await;
    assert_eq!(one.goods.read(&7).await.unwrap().source, Source::Redis);
    assert_eq!(one.pieces(7).await, 1);
    world.run("TRUNCATE goods").await;
    until("the table is empty", async || {
        one.goods.get(&7).await.unwrap().is_none()
    })
    .await;
    assert_eq!(one.cached.feed_stats().everything, 2);
    feed.abort();
}
