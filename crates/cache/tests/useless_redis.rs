//! A Redis that answers but cannot be used counts as lost: reads and writes continue, and it is used again once it can be.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

mod world;

use std::{sync::Arc, time::Duration};

use cenote_cache::{Cache, DegradedReason, Mode, RedisConfig, Source, State};
use cenote_testing::{Direction, Proxy, RedisServer};
use tokio::time::Instant;
use world::{Database, config, read, ready, ready_cache, redis, strong, until, write};

/// Reads and writes continue without Redis; afterwards it is used again.
async fn goes_on(cache: &Cache<Database>, database: &Database) {
    until("Redis is given up", || {
        cache.stats().state == State::Degraded(DegradedReason::Untrusted)
    })
    .await;
    let version = write(cache, database, "key", "meanwhile").await;
    assert_eq!(read(cache, "key").await, (Some(version), Source::Database));
}

async fn recovers(cache: &Cache<Database>, database: &Database) {
    ready(cache).await;
    let version = write(cache, database, "key", "after").await;
    assert_eq!(read(cache, "key").await, (Some(version), Source::Database));
    assert_eq!(read(cache, "key").await, (Some(version), Source::Redis));
}

#[tokio::test]
async fn while_it_loads_its_data() {
    let server = RedisServer::temporary()
        .setting("key-load-delay", "10000") // microseconds
        .setting("loading-process-events-interval-bytes", "1024")
        .start()
        .await
        .unwrap();
    let server = Arc::new(server);
    let database = Database::new();
    let cache = ready_cache(&database, strong(&server)).await;
    let fill = "for i = 1, 1000 do redis.call('SET', i, string.rep('x', 100)) end";
    server.command(&["EVAL", fill, "0"]).await.unwrap();
    server.save().await.unwrap();
    server.kill().await.unwrap();
    let restart = tokio::spawn({
        let server = server.clone();
        async move { server.restart().await.unwrap() }
    });
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match server.command(&["GET", "key"]).await {
            Err(refused) if refused.to_string().contains("LOADING") => break,
            answer => assert!(Instant::now() < deadline, "it never loads: {answer:?}"),
        }
    }
    goes_on(&cache, &database).await;
    assert!(!restart.is_finished(), "it was still loading");
    restart.await.unwrap();
    recovers(&cache, &database).await;
}

#[tokio::test]
async fn while_it_is_out_of_memory() {
    let server = RedisServer::temporary()
        .setting("maxmemory", "4mb")
        .setting("maxmemory-policy", "noeviction")
        .start()
        .await
        .unwrap();
    let database = Database::new();
    let cache = ready_cache(&database, strong(&server)).await;
    let fill = "for i = 1, 5000 do redis.call('SET', i, string.rep('x', 1000)) end";
    let full = server.command(&["EVAL", fill, "0"]).await;
    let refused = match full {
        Err(refused) => refused,
        // A script that has begun to write is let finish.
        Ok(_) => server.command(&["SET", "one", "more"]).await.unwrap_err(),
    };
    assert!(refused.to_string().contains("OOM"), "{refused}");
    goes_on(&cache, &database).await;
    server.command(&["FLUSHALL"]).await.unwrap();
    recovers(&cache, &database).await;
}

#[tokio::test]
async fn while_it_answers_later_than_the_timeout() {
    let server = redis().await;
    let proxy = Proxy::to(([127, 0, 0, 1], server.port())).await.unwrap();
    let database = Database::new();
    let mode = Mode::Strong(RedisConfig::from_url(&proxy.url(&server.url())).unwrap());
    let cache = ready_cache(&database, mode).await;
    write(&cache, &database, "key", "before").await;
    proxy.delay(Direction::ToClient, Duration::from_millis(400));
    let slow = Instant::now();
    let (version, source) = read(&cache, "key").await;
    assert_eq!((version, source), (Some(1), Source::Database));
    goes_on(&cache, &database).await;
    let begun = Instant::now();
    for _ in 0..100 {
        assert_eq!(read(&cache, "key").await, (Some(2), Source::Database));
    }
    // One wait for Redis in each would be 25 s.
    assert!(begun.elapsed() < Duration::from_secs(10), "{begun:?}");
    assert!(slow.elapsed() < Duration::from_secs(20), "{slow:?}");
    proxy.heal();
    recovers(&cache, &database).await;
}

#[tokio::test]
async fn bytes_that_are_not_a_cell_are_a_miss_and_are_replaced() {
    let server = redis().await;
    let database = Database::new();
    let version = database.commit("key", "value");
    let cache = ready_cache(&database, strong(&server)).await;
    let cell = database.cell("key");
    for foreign in ["", "W of a later version", "V short", "F odd", "L"] {
        server.command(&["SET", &cell, foreign]).await.unwrap();
        let found = read(&cache, "key").await;
        assert_eq!(found, (Some(version), Source::Database), "{foreign:?}");
        if !foreign.starts_with('F') {
            read(&cache, "key").await;
            assert_eq!(read(&cache, "key").await.1, Source::Redis, "{foreign:?}");
        }
    }
    assert_eq!(write(&cache, &database, "key", "new").await, version + 1);
    read(&cache, "key").await;
    let found = read(&cache, "key").await;
    assert_eq!(found, (Some(version + 1), Source::Redis));
    assert_eq!(cache.stats().redis_errors, 0);
}

#[tokio::test]
async fn an_absence_is_kept_and_expires_sooner_than_a_value() {
    let server = redis().await;
    let database = Database::new();
    database.commit("key", "value");
    let mut config = config(strong(&server));
    config.absent_ttl = Duration::from_secs(20);
    let cache = Cache::new(database.clone(), config).unwrap();
    ready(&cache).await;
    for key in ["key", "nothing"] {
        read(&cache, key).await;
    }
    let loads = database.loads();
    assert_eq!(read(&cache, "nothing").await, (None, Source::Redis));
    assert_eq!(database.loads(), loads);
    let lasts = async |key: &str| {
        let told = server.command(&["PTTL", &database.cell(key)]).await.unwrap();
        told.parse::<i64>().unwrap()
    };
    assert!((1..=20_000).contains(&lasts("nothing").await));
    assert!(lasts("key").await > 200_000);
    // Ended early here: the expiry of keys in Redis is not what is tested.
    let now = ["PEXPIRE", &database.cell("nothing"), "0"];
    server.command(&now).await.unwrap();
    assert_eq!(read(&cache, "nothing").await, (None, Source::Database));
    assert_eq!(read(&cache, "key").await, (Some(1), Source::Redis));
}
