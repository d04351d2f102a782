//! Near values are never older than the bound, and an instance sees its own writes at once.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

mod world;

use std::time::Duration;

use cenote_cache::{Cache, Config, ConfigError, DegradedReason, Source, State};
use tokio::time::{Instant, sleep};
use world::{Database, bounded, read, ready, ready_cache, redis, until, write};

const BOUND: Duration = Duration::from_millis(400);

async fn operator(server: &cenote_testing::RedisServer, command: &[&str]) {
    let client = redis::Client::open(server.url()).unwrap();
    let mut operator = client.get_multiplexed_async_connection().await.unwrap();
    let mut sent = redis::cmd(command[0]);
    sent.arg(&command[1..]);
    let _: redis::Value = sent.query_async(&mut operator).await.unwrap();
}

/// Reads until the value is near.
async fn warm(cache: &Cache<Database>, key: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while read(cache, key).await.1 != Source::Near {
        assert!(Instant::now() < deadline, "never near");
        sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_value_read_again_is_near_and_its_age_is_proven() {
    let server = redis().await;
    let database = Database::new();
    database.commit("key", "value");
    let cache = ready_cache(&database, bounded(&server, BOUND)).await;
    warm(&cache, "key").await;
    warm(&cache, "nothing").await;
    let near = cache.read("key").await.unwrap();
    if near.source == Source::Near {
        assert!(near.age.unwrap() <= BOUND);
    }
    assert_eq!(cache.stats().keys, 2);
    assert_eq!(database.loads(), 2);
}

#[tokio::test]
async fn an_instance_sees_its_own_writes_at_once_and_others_by_invalidation() {
    let server = redis().await;
    let database = Database::new();
    let one = ready_cache(&database, bounded(&server, BOUND)).await;
    let other = ready_cache(&database, bounded(&server, BOUND)).await;
    for _ in 0..20 {
        warm(&one, "key").await;
        warm(&other, "key").await;
        let version = write(&one, &database, "key", "value").await;
        assert_eq!(read(&one, "key").await.0, Some(version));
        let written = Instant::now();
        loop {
            let begun = written.elapsed();
            if read(&other, "key").await.0 == Some(version) {
                break;
            }
            assert!(begun <= BOUND, "missed {begun:?} after the write");
        }
    }
}

#[tokio::test]
async fn a_flush_drops_near_values() {
    let server = redis().await;
    let database = Database::new();
    database.commit("key", "old");
    let cache = ready_cache(&database, bounded(&server, BOUND)).await;
    warm(&cache, "key").await;
    operator(&server, &["FLUSHALL"]).await;
    until("it is dropped", || cache.stats().keys == 0).await;
}

#[tokio::test]
async fn a_cut_connection_drops_near_values() {
    let server = redis().await;
    let database = Database::new();
    database.commit("key", "old");
    let cache = ready_cache(&database, bounded(&server, BOUND)).await;
    warm(&cache, "key").await;
    operator(&server, &["CLIENT", "KILL", "TYPE", "normal"]).await;
    until("it is dropped", || cache.stats().keys == 0).await;
    ready(&cache).await;
    warm(&cache, "key").await;
}

#[tokio::test]
async fn when_redis_freezes_no_near_value_is_served_beyond_the_bound() {
    let server = redis().await;
    let database = Database::new();
    database.commit("key", "value");
    let cache = ready_cache(&database, bounded(&server, BOUND)).await;
    warm(&cache, "key").await;
    server.freeze().await.unwrap();
    let frozen = Instant::now();
    loop {
        let before = frozen.elapsed();
        let (_, source) = read(&cache, "key").await;
        match source {
            Source::Near => assert!(before <= BOUND, "near {before:?} after the last sign of life"),
            Source::Database => break,
            Source::Redis => {}
        }
        sleep(Duration::from_millis(1)).await;
    }
    server.thaw().await.unwrap();
    ready(&cache).await;
    warm(&cache, "key").await;
}

#[tokio::test]
async fn without_a_valid_view_no_near_value_is_served() {
    let server = redis().await;
    let database = Database::new();
    database.commit("key", "value");
    let cache = ready_cache(&database, bounded(&server, BOUND)).await;
    warm(&cache, "key").await;
    database.fail(true);
    until("the view is over", || {
        cache.stats().state == State::Degraded(DegradedReason::UnknownEpoch)
    })
    .await;
    assert!(cache.read("key").await.is_err());
}

#[tokio::test]
async fn a_new_epoch_starts_without_near_values() {
    let server = redis().await;
    let database = Database::new();
    database.commit("key", "value");
    let cache = ready_cache(&database, bounded(&server, BOUND)).await;
    warm(&cache, "key").await;
    let epoch = cache.stats().epoch;
    // As another instance does that cannot reach Redis.
    let next = database.row().without_redis();
    cenote_cache::Origin::advance(&database, next).await.unwrap();
    until("the epoch is new", || {
        let stats = cache.stats();
        stats.epoch.is_some() && stats.epoch != epoch
    })
    .await;
    assert_ne!(read(&cache, "key").await.1, Source::Near);
    ready(&cache).await;
    warm(&cache, "key").await;
}

#[tokio::test]
async fn a_bound_too_short_to_be_proven_is_refused() {
    let database = Database::new();
    let redis = cenote_cache::RedisConfig::from_url("redis://127.0.0.1:1/").unwrap();
    let max_staleness = Duration::from_millis(5);
    let config = Config::new("test", cenote_cache::Mode::Bounded { redis, max_staleness });
    assert!(matches!(Cache::new(database, config), Err(ConfigError::Staleness(_))));
}
