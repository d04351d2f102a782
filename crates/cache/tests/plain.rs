//! The mode `ttl` has the known behaviour of a cache-aside, so that the other modes can be compared with it.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

mod world;

use cenote_cache::{Mode, RedisConfig, Source, State};
use world::{Database, read, ready_cache, redis, until, write};

#[tokio::test]
async fn reads_store_the_value_and_writes_delete_it() {
    let server = redis().await;
    let database = Database::new();
    let cache = ready_cache(&database, Mode::Ttl(RedisConfig::from_url(&server.url()).unwrap())).await;
    write(&cache, &database, "key", "value").await;
    assert_eq!(read(&cache, "key").await, (Some(1), Source::Database));
    assert_eq!(read(&cache, "key").await, (Some(1), Source::Redis));
    assert_eq!(cache.read("key").await.unwrap().age, None);
    write(&cache, &database, "key", "value").await;
    assert_eq!(read(&cache, "key").await, (Some(2), Source::Database));
}

#[tokio::test]
async fn a_fill_that_raced_a_write_brings_the_old_value_back() {
    let server = redis().await;
    let database = Database::new();
    database.commit("key", "old");
    let cache = ready_cache(&database, Mode::Ttl(RedisConfig::from_url(&server.url()).unwrap())).await;
    database.close_gate();
    let early = tokio::spawn({
        let cache = cache.clone();
        async move { read(&cache, "key").await }
    });
    database.at_gate(1).await;
    write(&cache, &database, "key", "new").await;
    database.open_gate();
    early.await.unwrap();
    assert_eq!(read(&cache, "key").await, (Some(1), Source::Redis));
}

#[tokio::test]
async fn without_redis_the_database_answers() {
    let server = redis().await;
    let database = Database::new();
    let cache = ready_cache(&database, Mode::Ttl(RedisConfig::from_url(&server.url()).unwrap())).await;
    server.kill().await.unwrap();
    for version in 1..4 {
        write(&cache, &database, "key", "value").await;
        assert_eq!(read(&cache, "key").await, (Some(version), Source::Database));
    }
    server.restart().await.unwrap();
    until("it is used again", || cache.stats().state == State::Ok).await;
}
