//! With Redis, no read of any instance misses an acknowledged write, and reads never go back.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

mod world;

use std::time::Duration;

use cenote_cache::{Coherence, Source};
use tokio::{task::JoinSet, time::sleep};
use world::{Database, FENCE, after_calls, read, reads_before_this, ready_cache, redis, strong, until, write};

#[tokio::test]
async fn a_value_loaded_by_one_instance_is_found_in_redis_by_another() {
    let server = redis().await;
    let database = Database::new();
    let one = ready_cache(&database, strong(&server)).await;
    let other = ready_cache(&database, strong(&server)).await;
    let version = write(&one, &database, "key", "value\0\r\n").await;
    assert_eq!(read(&one, "key").await, (Some(version), Source::Database));
    let found = other.read("key").await.unwrap();
    assert_eq!(found.source, Source::Redis);
    assert_eq!(found.age, Some(Duration::ZERO));
    assert_eq!(found.value.unwrap().bytes, "value\0\r\n");
    assert_eq!(read(&one, "nothing").await, (None, Source::Database));
    assert_eq!(read(&other, "nothing").await, (None, Source::Redis));
    assert_eq!(database.loads(), 2);
}

#[tokio::test]
async fn a_write_through_one_instance_is_seen_by_the_other_at_once() {
    let server = redis().await;
    let database = Database::new();
    let one = ready_cache(&database, strong(&server)).await;
    let other = ready_cache(&database, strong(&server)).await;
    for _ in 0..20 {
        let version = write(&one, &database, "key", "value").await;
        assert_eq!(read(&other, "key").await.0, Some(version));
        assert_eq!(read(&other, "key").await, (Some(version), Source::Redis));
    }
}

#[tokio::test]
async fn a_fill_that_raced_a_write_is_not_stored() {
    let server = redis().await;
    let database = Database::new();
    database.commit("key", "old");
    let one = ready_cache(&database, strong(&server)).await;
    let other = ready_cache(&database, strong(&server)).await;
    read(&one, "cached").await;
    database.close_gate();
    let early = tokio::spawn({
        let one = one.clone();
        async move { read(&one, "key").await }
    });
    database.at_gate(1).await;
    let version = write(&other, &database, "key", "new").await;
    let late = tokio::spawn({
        let one = one.clone();
        async move { read(&one, "key").await }
    });
    reads_before_this(&one, "cached").await;
    database.open_gate();
    assert_eq!(early.await.unwrap().0, Some(1));
    assert_eq!(late.await.unwrap().0, Some(version));
    assert_eq!(one.stats().fills_rejected, 1);
    assert_eq!(read(&other, "key").await.0, Some(version));
}

#[tokio::test]
async fn after_a_crash_between_commit_and_release_reads_go_to_the_database_until_the_fence_expires() {
    let server = redis().await;
    let database = Database::new();
    let one = ready_cache(&database, strong(&server)).await;
    let other = ready_cache(&database, strong(&server)).await;
    write(&one, &database, "key", "old").await;
    read(&other, "key").await;
    let fenced = one.fence(&["key"]).await.unwrap();
    database.commit("key", "new");
    drop(fenced);
    for _ in 0..3 {
        assert_eq!(read(&other, "key").await, (Some(2), Source::Database));
    }
    sleep(FENCE).await;
    assert_eq!(read(&other, "key").await, (Some(2), Source::Database));
    assert_eq!(read(&other, "key").await, (Some(2), Source::Redis));
}

#[tokio::test]
async fn a_key_stays_fenced_until_the_last_of_its_writers_has_released() {
    let server = redis().await;
    let database = Database::new();
    let one = ready_cache(&database, strong(&server)).await;
    let other = ready_cache(&database, strong(&server)).await;
    let first = one.fence(&["key"]).await.unwrap();
    let second = other.fence(&["key"]).await.unwrap();
    database.commit("key", "first");
    assert_eq!(first.release().await, Coherence::Settled);
    read(&one, "key").await;
    assert_eq!(read(&one, "key").await, (Some(1), Source::Database));
    database.commit("key", "second");
    assert_eq!(second.release().await, Coherence::Settled);
    read(&one, "key").await;
    assert_eq!(read(&one, "key").await, (Some(2), Source::Redis));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_reads_of_a_cold_key_through_two_instances_are_one_load() {
    let server = redis().await;
    let database = Database::new();
    database.commit("key", "value");
    let one = ready_cache(&database, strong(&server)).await;
    let other = ready_cache(&database, strong(&server)).await;
    let mut reads = JoinSet::new();
    for index in 0..2_000 {
        let cache = if index % 2 == 0 { &one } else { &other }.clone();
        reads.spawn(async move { read(&cache, "key").await.0 });
    }
    while let Some(found) = reads.join_next().await {
        assert_eq!(found.unwrap(), Some(1));
    }
    assert_eq!(database.loads(), 1);
}

#[tokio::test]
async fn a_read_waits_only_briefly_for_the_load_of_another_instance() {
    let server = redis().await;
    let database = Database::new();
    database.commit("key", "value");
    let one = ready_cache(&database, strong(&server)).await;
    let other = ready_cache(&database, strong(&server)).await;
    database.close_gate();
    let slow = tokio::spawn(async move { read(&one, "key").await });
    database.at_gate(1).await;
    let second = tokio::spawn(async move { read(&other, "key").await });
    until("the other instance loads itself", || database.loads() == 2).await;
    database.open_gate();
    assert_eq!(slow.await.unwrap().0, Some(1));
    assert_eq!(second.await.unwrap().0, Some(1));
}

#[tokio::test]
async fn after_a_reader_is_dropped_another_one_loads() {
    let server = redis().await;
    let database = Database::new();
    database.commit("key", "value");
    let cache = ready_cache(&database, strong(&server)).await;
    read(&cache, "cached").await;
    let loads = database.loads();
    database.close_gate();
    let leader = tokio::spawn({
        let cache = cache.clone();
        async move { read(&cache, "key").await }
    });
    database.at_gate(1).await;
    let follower = tokio::spawn({
        let cache = cache.clone();
        async move { read(&cache, "key").await }
    });
    reads_before_this(&cache, "cached").await;
    assert_eq!(database.loads(), loads + 1, "the second read joined the first");
    leader.abort();
    until("the follower loads itself", || database.loads() == loads + 2).await;
    database.open_gate();
    assert_eq!(follower.await.unwrap().0, Some(1));
}

#[tokio::test]
async fn several_keys_are_loaded_once_together_and_then_served_from_the_cache() {
    let server = redis().await;
    let database = Database::new();
    database.commit("a", "1");
    database.commit("b", "2");
    let cache = ready_cache(&database, strong(&server)).await;
    for _ in 0..2 {
        let reads = cache.read_many(&["b", "nothing", "a", "b"]).await.unwrap();
        let values: Vec<_> = reads
            .into_iter()
            .map(|read| read.value.map(|value| value.bytes))
            .collect();
        assert_eq!(values, [Some("2".into()), None, Some("1".into()), Some("2".into())]);
    }
    assert_eq!((database.loads(), database.loaded_keys()), (1, 3));
}

#[tokio::test]
async fn scripts_that_were_flushed_are_loaded_again() {
    let server = redis().await;
    let database = Database::new();
    let cache = ready_cache(&database, strong(&server)).await;
    let client = redis::Client::open(server.url()).unwrap();
    let mut operator = client.get_multiplexed_async_connection().await.unwrap();
    let () = redis::cmd("SCRIPT")
        .arg("FLUSH")
        .query_async(&mut operator)
        .await
        .unwrap();
    // Also if a probe of the cache, which calls EVAL, comes first.
    after_calls(&server, "eval", 1).await;
    let fenced = cache.fence(&["a", "b"]).await.unwrap();
    database.commit("a", "1");
    database.commit("b", "2");
    assert_eq!(fenced.release().await, Coherence::Settled);
    cache.read_many(&["a", "b"]).await.unwrap();
    assert_eq!(read(&cache, "b").await, (Some(1), Source::Redis));
    assert_eq!(cache.stats().redis_errors, 0);
}

#[tokio::test]
async fn values_changed_outside_the_cache_are_dropped_on_request() {
    let server = redis().await;
    let database = Database::new();
    database.commit("key", "old");
    let cache = ready_cache(&database, strong(&server)).await;
    read(&cache, "key").await;
    database.commit("key", "new");
    assert_eq!(read(&cache, "key").await, (Some(1), Source::Redis));
    assert_eq!(cache.invalidate(&["key"]).await, Coherence::Settled);
    assert_eq!(read(&cache, "key").await, (Some(2), Source::Database));
}
