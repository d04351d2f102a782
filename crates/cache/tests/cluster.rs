//! A Redis Cluster gives the same guarantees as one server. A lost primary and slots that move begin a new epoch.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

mod world;

use std::time::Duration;

use cenote_cache::{Cache, Coherence, DegradedReason, Mode, RedisConfig, Source, State};
use cenote_testing::{RedisCluster, RedisServer};
use tokio::time::{Instant, sleep};
use world::{Database, config, read, ready, ready_cache, until, write};

const BOUND: Duration = Duration::from_millis(400);

async fn cluster() -> RedisCluster {
    RedisCluster::temporary().start().await.unwrap()
}

fn strong(cluster: &RedisCluster) -> Mode {
    Mode::Strong(RedisConfig::from_url(&cluster.url()).unwrap())
}

fn bounded(cluster: &RedisCluster) -> Mode {
    Mode::Bounded {
        redis: RedisConfig::from_url(&cluster.url()).unwrap(),
        max_staleness: BOUND,
    }
}

/// Keys enough for every primary to have some.
fn keys() -> Vec<String> {
    let plain = (0..30).map(|number| format!("key {number}"));
    let tagged = (0..30).map(|number| format!("{{tag}} {number}"));
    plain.chain(tagged).collect()
}

async fn held(node: &RedisServer) -> usize {
    let count = node.command(&["DBSIZE"]).await.unwrap();
    count.parse().unwrap()
}

#[tokio::test]
async fn keys_of_all_slots_are_shared_fenced_and_released_together() {
    let cluster = cluster().await;
    let database = Database::new();
    // One of its nodes is enough, even a replica.
    let replica = Mode::Strong(RedisConfig::from_url(&cluster.nodes()[4].url()).unwrap());
    let one = ready_cache(&database, replica).await;
    let other = ready_cache(&database, strong(&cluster)).await;
    let keys = keys();
    let keys: Vec<_> = keys.iter().map(|key| &**key).collect();
    for round in 1..4 {
        let fenced = one.fence(&keys).await.unwrap();
        for key in &keys {
            database.commit(key, "value");
        }
        assert_eq!(fenced.release().await, Coherence::Settled);
        let loaded = other.read_many(&keys).await.unwrap();
        let shared = one.read_many(&keys).await.unwrap();
        for (loaded, shared) in loaded.iter().zip(&shared) {
            assert_eq!(loaded.source, Source::Database);
            assert_eq!(shared.source, Source::Redis);
            assert_eq!(shared.value.as_ref().unwrap().version, round);
            assert_eq!(loaded.value, shared.value);
        }
        assert_eq!(read(&one, keys[0]).await, (Some(round), Source::Redis));
    }
    for primary in &cluster.nodes()[..3] {
        assert!(held(primary).await > 3, "each has its part");
    }
    assert_eq!(one.invalidate(&keys).await, Coherence::Settled);
    assert_eq!(read(&other, keys[0]).await, (Some(3), Source::Database));
    assert_eq!(one.stats().redis_errors + other.stats().redis_errors, 0);
}

#[tokio::test]
async fn when_a_primary_is_killed_and_its_replica_promoted_a_new_epoch_begins() {
    let cluster = cluster().await;
    let database = Database::new();
    let one = ready_cache(&database, strong(&cluster)).await;
    let other = ready_cache(&database, bounded(&cluster)).await;
    let keys = keys();
    for key in &keys {
        write(&one, &database, key, "before").await;
        read(&other, key).await;
    }
    let epoch = one.stats().epoch.unwrap();

    cluster.nodes()[0].kill().await.unwrap();
    for key in &keys {
        assert_eq!(read(&one, key).await.0, Some(1));
        assert_eq!(write(&one, &database, key, "during").await, 2);
    }
    cluster.steady().await.unwrap();
    for cache in [&one, &other] {
        until("the cluster is trusted again", || {
            let stats = cache.stats();
            stats.state == State::Ok && stats.epoch > Some(epoch + 1)
        })
        .await;
    }
    for key in &keys {
        assert_eq!(read(&other, key).await.0, Some(2));
        assert_eq!(write(&one, &database, key, "after").await, 3);
    }
    sleep(BOUND).await;
    for key in &keys {
        assert_eq!(read(&one, key).await.0, Some(3));
        assert_eq!(read(&other, key).await.0, Some(3));
    }

    // It comes back as a replica, which changes nothing.
    let epoch = one.stats().epoch;
    cluster.nodes()[0].restart().await.unwrap();
    cluster.steady().await.unwrap();
    ready(&one).await;
    assert_eq!(read(&one, &keys[0]).await.0, Some(3));
    assert_eq!(one.stats().epoch, epoch);
}

#[tokio::test]
async fn a_slot_that_moves_to_another_primary_is_a_new_epoch() {
    let cluster = cluster().await;
    let database = Database::new();
    let cache = ready_cache(&database, strong(&cluster)).await;
    write(&cache, &database, "key", "before").await;
    let epoch = cache.stats().epoch.unwrap();
    // A slot without a key of this test, so no request shows that it has moved.
    let slot = "1";
    let [from, to] = [0, 1].map(|at| &cluster.nodes()[at]);
    let id = to.command(&["CLUSTER", "MYID"]).await.unwrap();
    for node in [to, from] {
        let assign = ["CLUSTER", "SETSLOT", slot, "NODE", &id];
        node.command(&assign).await.unwrap();
    }
    until("the epoch is new", || {
        let stats = cache.stats();
        stats.state == State::Ok && stats.epoch > Some(epoch + 1)
    })
    .await;
    assert_eq!(write(&cache, &database, "key", "after").await, 2);
    read(&cache, "key").await;
    assert_eq!(read(&cache, "key").await, (Some(2), Source::Redis));
}

#[tokio::test]
async fn a_key_whose_slot_is_migrating_is_read_from_the_database_and_still_written() {
    let cluster = cluster().await;
    let database = Database::new();
    let cache = ready_cache(&database, strong(&cluster)).await;
    write(&cache, &database, "key", "before").await;
    let first = &cluster.nodes()[0];
    let cell = database.cell("key");
    let slot = first.command(&["CLUSTER", "KEYSLOT", &cell]).await.unwrap();
    let at = slot.parse::<usize>().unwrap() * 3 / 16_384;
    let (from, to) = (&cluster.nodes()[at], &cluster.nodes()[(at + 1) % 3]);
    let from_id = from.command(&["CLUSTER", "MYID"]).await.unwrap();
    let to_id = to.command(&["CLUSTER", "MYID"]).await.unwrap();
    let import = ["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id];
    to.command(&import).await.unwrap();
    let migrate = ["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id];
    from.command(&migrate).await.unwrap();
    // The cell is not there, so its server says: ask the other.
    assert_eq!(read(&cache, "key").await, (Some(1), Source::Database));
    assert_eq!(write(&cache, &database, "key", "during").await, 2);
    for node in [to, from] {
        let assign = ["CLUSTER", "SETSLOT", &slot, "NODE", &to_id];
        node.command(&assign).await.unwrap();
    }
    ready(&cache).await;
    assert_eq!(read(&cache, "key").await.0, Some(2));
    assert_eq!(write(&cache, &database, "key", "after").await, 3);
}

#[tokio::test]
async fn near_values_of_every_primary_are_proven_and_dropped_when_they_change() {
    let cluster = cluster().await;
    let database = Database::new();
    let one = ready_cache(&database, strong(&cluster)).await;
    let other = ready_cache(&database, bounded(&cluster)).await;
    for key in keys() {
        write(&one, &database, &key, "old").await;
        near(&other, &key).await;
        write(&one, &database, &key, "new").await;
        let written = Instant::now();
        loop {
            let begun = written.elapsed();
            if read(&other, &key).await.0 == Some(2) {
                break;
            }
            assert!(begun <= BOUND, "missed {begun:?} after the write");
        }
    }
}

async fn near(cache: &Cache<Database>, key: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while read(cache, key).await.1 != Source::Near {
        assert!(Instant::now() < deadline, "never near");
    }
}

#[tokio::test]
async fn a_frozen_primary_stops_the_near_values_of_all_primaries() {
    let cluster = RedisCluster::temporary()
        .setting("cluster-node-timeout", "60000")
        .start()
        .await
        .unwrap();
    let database = Database::new();
    let cache = ready_cache(&database, bounded(&cluster)).await;
    let keys = keys();
    for key in &keys {
        database.commit(key, "value");
        near(&cache, key).await;
    }
    cluster.nodes()[1].freeze().await.unwrap();
    let frozen = Instant::now();
    until("all is dropped", || cache.stats().keys == 0).await;
    assert!(keys.iter().all(|key| cache.near(key).is_none()));
    for key in &keys {
        assert_eq!(read(&cache, key).await.0, Some(1));
    }
    assert_eq!(write(&cache, &database, &keys[0], "during").await, 2);
    assert!(frozen.elapsed() < Duration::from_secs(20));
    cluster.nodes()[1].thaw().await.unwrap();
    ready(&cache).await;
    near(&cache, &keys[0]).await;
}

#[tokio::test]
async fn a_cluster_with_unserved_slots_is_not_trusted() {
    let cluster = RedisCluster::temporary()
        .setting("cluster-require-full-coverage", "no")
        .start()
        .await
        .unwrap();
    let database = Database::new();
    let cache = ready_cache(&database, strong(&cluster)).await;
    let delete = ["CLUSTER", "DELSLOTS", "16000"];
    for node in cluster.nodes() {
        node.command(&delete).await.unwrap();
    }
    until("it is given up", || {
        cache.stats().state == State::Degraded(DegradedReason::Untrusted)
    })
    .await;
    write(&cache, &database, "key", "value").await;
    assert_eq!(read(&cache, "key").await, (Some(1), Source::Database));
}

#[tokio::test]
async fn servers_outside_a_cluster_cannot_be_named_together() {
    let one = RedisServer::temporary().start().await.unwrap();
    let other = RedisServer::temporary().start().await.unwrap();
    let database = Database::new();
    for server in [&one, &other] {
        let same = ["CONFIG", "SET", "requirepass", "same"];
        server.command(&same).await.unwrap();
    }
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", one.port(), other.port());
    let both = RedisConfig::from_url(&format!("redis://:same@{hosts}")).unwrap();
    let cache = Cache::new(database.clone(), config(Mode::Strong(both))).unwrap();
    until("it was tried", || cache.stats().redis_errors > 2).await;
    assert_eq!(read(&cache, "key").await, (None, Source::Database));
    assert_eq!(database.epoch(), 1, "none of them was trusted");
}
