//! Writes that bypass the cache and are reported afterwards: key by key, or as a gap in the reports.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

mod world;

use std::time::Duration;

use cenote_cache::{Cache, Coherence, Mode, Source};
use tokio::time::Instant;
use world::{Database, Down, bounded, cache, read, ready, ready_cache, redis, strong, until};

const BOUND: Duration = Duration::from_millis(400);

/// Reads until the key is found there.
async fn found(cache: &Cache<Database>, key: &str, wanted: Source) -> i64 {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (version, source) = read(cache, key).await;
        if source == wanted {
            return version.unwrap();
        }
        assert!(Instant::now() < deadline, "never {wanted:?}");
    }
}

#[tokio::test]
async fn an_interrupted_feed_drops_everything_in_local_mode() {
    let database = Database::new();
    database.commit("key", "old");
    let cache = cache(&database, Mode::Local);
    found(&cache, "key", Source::Near).await;
    database.commit("key", "new");
    cache.distrust().await.unwrap();
    assert_eq!(read(&cache, "key").await, (Some(2), Source::Database));
}

#[tokio::test]
async fn an_interrupted_feed_begins_one_epoch_for_all_instances() {
    let server = redis().await;
    let database = Database::new();
    database.commit("key", "old");
    let one = ready_cache(&database, strong(&server)).await;
    let other = ready_cache(&database, strong(&server)).await;
    found(&one, "key", Source::Redis).await;
    let epoch = one.stats().epoch.unwrap();
    database.commit("key", "new");
    let (told, told_too) = tokio::join!(one.distrust(), other.distrust());
    told.and(told_too).unwrap();
    assert_eq!(database.epoch(), epoch + 1);
    for cache in [&one, &other] {
        until("the epoch is over", || cache.stats().epoch > Some(epoch)).await;
        ready(cache).await;
        assert_eq!(found(cache, "key", Source::Redis).await, 2);
    }
    assert_eq!(database.epoch(), epoch + 2);
}

#[tokio::test]
async fn an_epoch_that_cannot_advance_is_reported() {
    let server = redis().await;
    let database = Database::new();
    let cache = ready_cache(&database, strong(&server)).await;
    let epoch = database.epoch();
    database.fail(true);
    assert_eq!(cache.distrust().await, Err(Down));
    database.fail(false);
    assert_eq!(database.epoch(), epoch);
    cache.distrust().await.unwrap();
    assert_eq!(database.epoch(), epoch + 1);
}

#[tokio::test]
async fn the_near_caches_of_other_instances_learn_which_keys_have_changed() {
    let server = redis().await;
    let database = Database::new();
    database.commit("key", "old");
    database.commit("untouched", "value");
    let one = ready_cache(&database, bounded(&server, BOUND)).await;
    let other = ready_cache(&database, bounded(&server, BOUND)).await;
    for cache in [&one, &other] {
        found(cache, "key", Source::Near).await;
        found(cache, "untouched", Source::Near).await;
    }
    database.commit("key", "new");
    assert_eq!(one.invalidate(&["key"]).await, Coherence::Settled);
    assert_eq!(read(&one, "key").await.0, Some(2));
    until("the other has dropped the key", || other.near("key").is_none()).await;
    assert_eq!(read(&other, "key").await.0, Some(2));
    // It was not read since. It is still kept, and only its proof is renewed from time to time.
    until("the other key is near", || other.near("untouched").is_some()).await;
}

#[tokio::test]
async fn a_value_that_changes_during_its_load_is_not_stored() {
    let server = redis().await;
    for mode in [Mode::Local, strong(&server)] {
        let database = Database::new();
        database.commit("key", "old");
        let cache = ready_cache(&database, mode).await;
        database.close_gate();
        let early = tokio::spawn({
            let cache = cache.clone();
            async move { read(&cache, "key").await.0 }
        });
        database.at_gate(1).await;
        database.commit("key", "new");
        assert_eq!(cache.invalidate(&["key"]).await, Coherence::Settled);
        database.open_gate();
        assert_eq!(early.await.unwrap(), Some(1));
        assert_eq!(read(&cache, "key").await, (Some(2), Source::Database));
    }
}
