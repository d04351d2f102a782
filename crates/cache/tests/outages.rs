//! Without Redis, reads continue at once, writes wait until no instance trusts Redis, and everything recovers by itself.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

mod world;

use std::time::Duration;

use cenote_cache::{Cache, Coherence, DegradedReason, Fenced, Obstacle, Origin, Source, State};
use tokio::time::{Instant, sleep};
use world::{Database, LEASE, cache, config, read, ready, ready_cache, redis, strong, until, write};

/// The timeout of a call to Redis, the wait before the row is changed, a lease, and room for a busy machine.
const STALL: Duration = Duration::from_secs(10);

async fn run(server: &cenote_testing::RedisServer, command: &[&str]) {
    let client = redis::Client::open(server.url()).unwrap();
    let mut operator = client.get_multiplexed_async_connection().await.unwrap();
    let mut sent = redis::cmd(command[0]);
    sent.arg(&command[1..]);
    let _: redis::Value = sent.query_async(&mut operator).await.unwrap();
}

#[tokio::test]
async fn when_redis_dies_reads_continue_writes_wait_and_a_new_epoch_follows() {
    let server = redis().await;
    let database = Database::new();
    let cache = ready_cache(&database, strong(&server)).await;
    write(&cache, &database, "key", "before").await;
    read(&cache, "key").await;
    let epoch = cache.stats().epoch.unwrap();

    server.kill().await.unwrap();
    let killed = Instant::now();
    assert_eq!(read(&cache, "key").await, (Some(1), Source::Database));
    assert_eq!(write(&cache, &database, "key", "during").await, 2);
    let stalled = killed.elapsed();
    assert!(stalled < STALL, "{stalled:?}");
    assert_eq!(cache.stats().state, State::Degraded(DegradedReason::Untrusted));
    assert!(cache.stats().epoch.unwrap() > epoch);
    assert_eq!(read(&cache, "key").await, (Some(2), Source::Database));
    write(&cache, &database, "key", "at once").await;

    server.restart().await.unwrap();
    ready(&cache).await;
    assert!(cache.stats().epoch.unwrap() > epoch + 1);
    assert_eq!(read(&cache, "key").await, (Some(3), Source::Database));
    assert_eq!(read(&cache, "key").await, (Some(3), Source::Redis));
    assert_eq!(write(&cache, &database, "key", "after").await, 4);
}

#[tokio::test]
async fn a_write_that_could_not_be_released_is_settled_once_its_epoch_is_dead() {
    let server = redis().await;
    let database = Database::new();
    let cache = ready_cache(&database, strong(&server)).await;
    let epoch = cache.stats().epoch.unwrap();
    let fenced = cache.fence(&["key"]).await.unwrap();
    database.commit("key", "value");
    server.kill().await.unwrap();
    assert_eq!(fenced.release().await, Coherence::Settled);
    assert!(cache.stats().epoch.unwrap() > epoch);
}

/// Returns a fence of an epoch that is over. Both instances are in a later epoch, where the second has stored the value that
/// the write is about to replace: a fence of another epoch does not prevent that.
async fn overtaken(database: &Database, writer: &Cache<Database>, reader: &Cache<Database>) -> Fenced {
    write(writer, database, "key", "before").await;
    let fenced = writer.fence(&["key"]).await.unwrap();
    let epoch = writer.stats().epoch.unwrap();
    let next = database.row().without_redis();
    database.advance(next).await.unwrap();
    for cache in [writer, reader] {
        until("Redis is trusted again", || {
            let stats = cache.stats();
            stats.state == State::Ok && stats.epoch > Some(epoch + 1)
        })
        .await;
    }
    read(reader, "key").await;
    assert_eq!(read(reader, "key").await, (Some(1), Source::Redis));
    fenced
}

#[tokio::test]
async fn a_write_that_commits_after_its_epoch_is_settled_in_the_next_one() {
    let server = redis().await;
    let database = Database::new();
    let writer = ready_cache(&database, strong(&server)).await;
    let reader = ready_cache(&database, strong(&server)).await;
    let fenced = overtaken(&database, &writer, &reader).await;
    database.commit("key", "after");
    assert_eq!(fenced.release().await, Coherence::Settled);
    assert_eq!(read(&reader, "key").await, (Some(2), Source::Database));
}

#[tokio::test]
async fn a_pending_write_is_settled_in_the_background_as_soon_as_possible() {
    let server = redis().await;
    let database = Database::new();
    let mut config = config(strong(&server));
    config.write_patience = LEASE;
    let writer = Cache::new(database.clone(), config).unwrap();
    ready(&writer).await;
    let reader = ready_cache(&database, strong(&server)).await;
    let fenced = overtaken(&database, &writer, &reader).await;
    database.commit("key", "after");
    database.fail(true);
    until("the view is over", || {
        writer.stats().state == State::Degraded(DegradedReason::UnknownEpoch)
    })
    .await;
    assert_eq!(fenced.release().await, Coherence::Pending);
    database.fail(false);
    // Without a view it would ask the database.
    ready(&reader).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while read(&reader, "key").await.0 != Some(2) {
        assert!(Instant::now() < deadline, "the write is missed for good");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_write_whose_epoch_does_not_end_in_time_is_reported_as_pending() {
    let server = redis().await;
    let database = Database::new();
    let mut config = config(strong(&server));
    config.write_patience = LEASE;
    let cache = Cache::new(database.clone(), config).unwrap();
    ready(&cache).await;
    let fenced = cache.fence(&["key"]).await.unwrap();
    database.commit("key", "value");
    server.kill().await.unwrap();
    database.fail(true);
    assert_eq!(fenced.release().await, Coherence::Pending);
    assert_eq!(cache.stats().pending, 1);
}

#[tokio::test]
async fn without_a_view_writes_are_refused_and_reads_ask_the_database() {
    let server = redis().await;
    let database = Database::new();
    database.commit("key", "value");
    let mut config = config(strong(&server));
    config.write_patience = Duration::from_millis(50);
    let cache = Cache::new(database.clone(), config).unwrap();
    ready(&cache).await;
    database.fail(true);
    until("the view is over", || {
        cache.stats().state == State::Degraded(DegradedReason::UnknownEpoch)
    })
    .await;
    let refused = cache.fence(&["key"]).await.unwrap_err();
    assert_eq!(refused.reason, Obstacle::UnknownEpoch);
    assert!(cache.read("key").await.is_err());
    database.fail(false);
    ready(&cache).await;
    write(&cache, &database, "key", "value").await;
}

#[tokio::test]
async fn an_outdated_value_is_served_while_the_database_fails_only_if_configured_and_marked() {
    let server = redis().await;
    let database = Database::new();
    database.commit("key", "value");
    let mut config = config(strong(&server));
    config.stale_on_error = true;
    let cache = Cache::new(database.clone(), config).unwrap();
    ready(&cache).await;
    read(&cache, "key").await;
    database.fail(true);
    until("the view is over", || {
        cache.stats().state == State::Degraded(DegradedReason::UnknownEpoch)
    })
    .await;
    let read = cache.read("key").await.unwrap();
    assert!(read.stale && read.age.is_none());
    assert_eq!(read.value.unwrap().bytes, "value");
    assert!(cache.read("never read").await.is_err());
    database.fail(false);
    assert!(!cache.read("key").await.unwrap().stale);
}

#[tokio::test]
async fn a_frozen_redis_costs_a_read_its_timeout_once_and_stalls_writes_no_longer_than_a_dead_one() {
    let server = redis().await;
    let database = Database::new();
    let cache = ready_cache(&database, strong(&server)).await;
    write(&cache, &database, "key", "before").await;
    server.freeze().await.unwrap();
    let frozen = Instant::now();
    assert_eq!(read(&cache, "key").await, (Some(1), Source::Database));
    assert_eq!(write(&cache, &database, "key", "during").await, 2);
    assert!(frozen.elapsed() < STALL, "{:?}", frozen.elapsed());
    server.thaw().await.unwrap();
    ready(&cache).await;
    assert_eq!(read(&cache, "key").await.0, Some(2));
    assert_eq!(read(&cache, "key").await, (Some(2), Source::Redis));
}

#[tokio::test]
async fn a_cut_connection_is_replaced_without_a_new_epoch() {
    let server = redis().await;
    let database = Database::new();
    let cache = ready_cache(&database, strong(&server)).await;
    let epoch = cache.stats().epoch;
    write(&cache, &database, "key", "before").await;
    run(&server, &["CLIENT", "KILL", "TYPE", "normal"]).await;
    assert_eq!(read(&cache, "key").await.0, Some(1));
    assert_eq!(write(&cache, &database, "key", "after").await, 2);
    ready(&cache).await;
    assert_eq!(read(&cache, "key").await.0, Some(2));
    assert_eq!(cache.stats().epoch, epoch);
}

#[tokio::test]
async fn a_flush_during_a_write_restores_no_old_value() {
    let server = redis().await;
    let database = Database::new();
    let cache = ready_cache(&database, strong(&server)).await;
    write(&cache, &database, "key", "old").await;
    let fenced = cache.fence(&["key"]).await.unwrap();
    run(&server, &["FLUSHALL"]).await;
    assert_eq!(read(&cache, "key").await, (Some(1), Source::Database));
    assert_eq!(read(&cache, "key").await, (Some(1), Source::Redis));
    database.commit("key", "new");
    assert_eq!(fenced.release().await, Coherence::Settled);
    assert_eq!(read(&cache, "key").await, (Some(2), Source::Database));
}

#[tokio::test]
async fn after_a_read_without_a_lease_no_older_value_is_served() {
    let server = redis().await;
    let database = Database::new();
    let one = ready_cache(&database, strong(&server)).await;
    let other = ready_cache(&database, strong(&server)).await;
    write(&one, &database, "key", "old").await;
    let fenced = one.fence(&["key"]).await.unwrap();
    run(&server, &["FLUSHALL"]).await;
    database.close_gate();
    let slow = tokio::spawn(async move { read(&one, "key").await });
    database.at_gate(1).await;
    database.leave_gate();
    database.commit("key", "new");
    assert_eq!(read(&other, "key").await, (Some(2), Source::Database));
    database.open_gate();
    assert_eq!(slow.await.unwrap().0, Some(1));
    assert_eq!(read(&other, "key").await.0, Some(2));
    assert_eq!(fenced.release().await, Coherence::Settled);
}

#[tokio::test]
async fn a_redis_that_refuses_writes_is_not_trusted() {
    let server = redis().await;
    let database = Database::new();
    let cache = ready_cache(&database, strong(&server)).await;
    // A replica of an address without a server: it answers reads and refuses writes.
    run(&server, &["REPLICAOF", "127.0.0.1", "1"]).await;
    until("it is given up", || {
        cache.stats().state == State::Degraded(DegradedReason::Untrusted)
    })
    .await;
    write(&cache, &database, "key", "value").await;
    run(&server, &["REPLICAOF", "NO", "ONE"]).await;
    ready(&cache).await;
}

#[tokio::test]
async fn without_redis_from_the_start_the_database_answers_and_takes_writes() {
    let server = redis().await;
    server.kill().await.unwrap();
    let database = Database::new();
    let cache = cache(&database, strong(&server));
    assert_eq!(read(&cache, "key").await, (None, Source::Database));
    write(&cache, &database, "key", "value").await;
    server.restart().await.unwrap();
    ready(&cache).await;
    assert_eq!(read(&cache, "key").await.0, Some(1));
}
