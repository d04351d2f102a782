//! Instances that see different keyspaces never return a value that a write has replaced. An event that only removes the proof of
//! the keyspace costs no epoch.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

mod world;

use std::time::Duration;

use cenote_cache::{Cache, Coherence, ConfigError, DegradedReason, Mode, RedisConfig, Source, State};
use cenote_testing::{Proxy, RedisServer};
use tokio::time::{Instant, sleep};
use world::{Database, LEASE, after_calls, bounded, cache, read, ready, ready_cache, redis, strong, until, write};

/// Long enough for instances that disagree to change their minds several times.
const WHILE: Duration = Duration::from_secs(6);
const BOUND: Duration = Duration::from_millis(100);

fn database_number(server: &RedisServer, number: u8) -> Mode {
    Mode::Strong(RedisConfig::from_url(&format!("{}{number}", server.url())).unwrap())
}

fn prefixed(server: &RedisServer, prefix: &str) -> Mode {
    let mut redis = RedisConfig::from_url(&server.url()).unwrap();
    redis.prefix = prefix.to_owned();
    Mode::Strong(redis)
}

/// Writes through one instance and reads through the other, at once, in turn; everything acknowledged must be seen.
async fn nothing_is_missed(caches: [&Cache<Database>; 2], database: &Database, lasts: Duration) {
    let end = Instant::now() + lasts;
    let mut writes = 0;
    while Instant::now() < end {
        for [writer, reader] in [caches, [caches[1], caches[0]]] {
            read(reader, "key").await;
            let version = write(writer, database, "key", "value").await;
            for cache in [reader, writer, reader] {
                let (seen, _) = read(cache, "key").await;
                assert!(seen >= Some(version), "{seen:?} after {version}");
            }
            writes += 1;
        }
    }
    assert!(writes > 10, "{writes} writes");
}

async fn are_told_apart(modes: [Mode; 2]) {
    let database = Database::new();
    let [one, other] = modes.map(|mode| cache(&database, mode));
    nothing_is_missed([&one, &other], &database, WHILE).await;
    let disagree = || {
        let states = [&one, &other].map(|cache| cache.stats().state);
        states.contains(&State::Degraded(DegradedReason::OtherKeyspace))
    };
    until("one of them says so", disagree).await;
}

#[tokio::test]
async fn two_database_numbers_of_one_server_are_told_apart() {
    let server = redis().await;
    are_told_apart([0, 1].map(|number| database_number(&server, number))).await;
}

#[tokio::test]
async fn two_prefixes_on_one_server_are_told_apart() {
    let server = redis().await;
    are_told_apart(["one", "other"].map(|prefix| prefixed(&server, prefix))).await;
}

#[tokio::test]
async fn two_servers_are_told_apart() {
    let (one, other) = (redis().await, redis().await);
    are_told_apart([strong(&one), strong(&other)]).await;
}

#[tokio::test]
async fn once_instances_agree_the_cache_is_used_again() {
    let server = redis().await;
    let database = Database::new();
    let one = ready_cache(&database, database_number(&server, 0)).await;
    let other = cache(&database, database_number(&server, 1));
    nothing_is_missed([&one, &other], &database, LEASE * 2).await;
    drop(other);
    let other = cache(&database, database_number(&server, 0));
    ready(&one).await;
    ready(&other).await;
    let version = write(&one, &database, "key", "value").await;
    read(&one, "key").await;
    assert_eq!(read(&other, "key").await, (Some(version), Source::Redis));
}

#[tokio::test]
async fn swapping_databases_twice_restores_no_old_value() {
    let server = redis().await;
    let database = Database::new();
    let one = ready_cache(&database, strong(&server)).await;
    let other = ready_cache(&database, strong(&server)).await;
    let epoch = database.epoch();
    write(&one, &database, "key", "old").await;
    read(&other, "key").await;
    server.command(&["SWAPDB", "0", "1"]).await.unwrap();
    let version = write(&one, &database, "key", "new").await;
    assert!(database.epoch() > epoch, "it was acknowledged in another epoch");
    server.command(&["SWAPDB", "0", "1"]).await.unwrap();
    for _ in 0..20 {
        assert_eq!(read(&other, "key").await.0, Some(version));
    }
    nothing_is_missed([&one, &other], &database, LEASE).await;
    ready(&one).await;
    ready(&other).await;
}

#[tokio::test]
async fn a_proof_lost_before_a_swap_is_not_recreated_in_the_other_database() {
    let server = redis().await;
    let database = Database::new();
    let one = ready_cache(&database, strong(&server)).await;
    let other = ready_cache(&database, strong(&server)).await;
    write(&one, &database, "key", "old").await;
    read(&other, "key").await;
    read(&other, "key").await;
    let epoch = database.epoch();
    let lose_and_swap = "redis.call('DEL', KEYS[1]); redis.call('SWAPDB', 0, 1)";
    let command = ["EVAL", lose_and_swap, "1", &database.proof()];
    server.command(&command).await.unwrap();
    let version = write(&one, &database, "key", "new").await;
    assert!(database.epoch() > epoch, "it was acknowledged in another epoch");
    server.command(&["SWAPDB", "0", "1"]).await.unwrap();
    assert_eq!(read(&other, "key").await.0, Some(version));
    nothing_is_missed([&one, &other], &database, LEASE).await;
    ready(&one).await;
}

/// A loss of cells costs only misses, and no epoch.
async fn costs_no_epoch(lose: impl AsyncFn(&RedisServer, &str)) {
    let server = redis().await;
    let database = Database::new();
    let one = ready_cache(&database, strong(&server)).await;
    let other = ready_cache(&database, bounded(&server, BOUND)).await;
    let (epoch, proof) = (database.epoch(), database.proof());
    for round in 0..6 {
        write(&one, &database, "key", "value").await;
        read(&one, "key").await;
        let fenced = one.fence(&["fenced"]).await.unwrap();
        lose(&server, &proof).await;
        if round % 2 == 0 {
            // Meanwhile only the cache itself sends commands.
            is_put_back(&server, &proof).await;
        }
        let version = write(&other, &database, "key", "value").await;
        assert_eq!(read(&one, "key").await.0, Some(version));
        database.commit("fenced", "value");
        assert_eq!(fenced.release().await, Coherence::Settled);
        read(&one, "key").await;
        assert_eq!(read(&one, "key").await, (Some(version), Source::Redis));
    }
    assert_eq!(database.epoch(), epoch);
    assert_eq!(one.stats().redis_errors + other.stats().redis_errors, 0);
}

async fn is_put_back(server: &RedisServer, proof: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.command(&["EXISTS", proof]).await.unwrap() != "1" {
        assert!(Instant::now() < deadline, "the proof is not put back");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_flush_costs_no_epoch() {
    costs_no_epoch(async |server, _| {
        server.command(&["FLUSHALL"]).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_eviction_of_the_proof_costs_no_epoch() {
    costs_no_epoch(async |server, proof| {
        server.command(&["DEL", proof]).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_flush_while_connections_are_cut_costs_no_epoch() {
    let server = redis().await;
    let database = Database::new();
    let one = ready_cache(&database, strong(&server)).await;
    let epoch = database.epoch();
    write(&one, &database, "key", "value").await;
    let cut_and_flush = "redis.call('FLUSHALL')";
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]).await.unwrap();
    server.command(&["EVAL", cut_and_flush, "0"]).await.unwrap();
    assert_eq!(write(&one, &database, "key", "value").await, 2);
    assert_eq!(read(&one, "key").await.0, Some(2));
    assert_eq!(database.epoch(), epoch);
}

#[tokio::test]
async fn a_first_replica_costs_no_epoch() {
    let server = redis().await;
    let database = Database::new();
    let one = ready_cache(&database, strong(&server)).await;
    let epoch = database.epoch();
    let replica = server.replica().start().await.unwrap();
    is_in_step(&replica).await;
    // Several probes, each of which calls EVAL.
    after_calls(&server, "eval", 4).await;
    write(&one, &database, "key", "value").await;
    read(&one, "key").await;
    assert_eq!(read(&one, "key").await.1, Source::Redis);
    assert_eq!(database.epoch(), epoch);
}

async fn is_in_step(replica: &RedisServer) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let state = ["INFO", "replication"];
    while !replica.command(&state).await.unwrap().contains("master_link_status:up") {
        assert!(Instant::now() < deadline, "the replica is not in step");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_promoted_replica_has_the_proof_and_is_not_trusted() {
    let server = redis().await;
    let proxy = Proxy::to(([127, 0, 0, 1], server.port())).await.unwrap();
    let database = Database::new();
    let behind = Mode::Strong(RedisConfig::from_url(&proxy.url(&server.url())).unwrap());
    let one = ready_cache(&database, behind).await;
    let other = ready_cache(&database, strong(&server)).await;
    write(&one, &database, "key", "old").await;
    read(&one, "key").await;
    let (epoch, proof) = (database.epoch(), database.proof());
    let replica = server.replica().start().await.unwrap();
    is_in_step(&replica).await;
    assert_eq!(replica.command(&["EXISTS", &proof]).await.unwrap(), "1");
    replica.command(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    let version = write(&other, &database, "key", "new").await;
    proxy.lead_to(([127, 0, 0, 1], replica.port()));
    proxy.cut().await;
    for _ in 0..20 {
        assert_eq!(read(&one, "key").await.0, Some(version));
    }
    nothing_is_missed([&one, &other], &database, WHILE).await;
    assert!(database.epoch() > epoch);
}

/// Between two probes a primary becomes a replica, copies older data, and becomes a primary again.
#[tokio::test]
async fn a_primary_that_was_briefly_a_replica_has_another_identity() {
    let server = redis().await;
    let database = Database::new();
    let one = ready_cache(&database, strong(&server)).await;
    write(&one, &database, "key", "value").await;
    let epoch = database.epoch();
    server.command(&["REPLICAOF", "127.0.0.1", "1"]).await.unwrap();
    server.command(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    until("it is given up", || database.epoch() > epoch).await;
    ready(&one).await;
    let version = write(&one, &database, "key", "value").await;
    assert_eq!(read(&one, "key").await.0, Some(version));
}

#[tokio::test]
async fn an_address_that_leads_to_two_servers_restores_no_old_value() {
    let servers = [redis().await, redis().await];
    // Both take the same password.
    let password = servers[0].url();
    let password = password
        .strip_prefix("redis://:")
        .and_then(|rest| rest.split('@').next())
        .unwrap();
    let both = ["CONFIG", "SET", "requirepass", password];
    servers[1].command(&both).await.unwrap();
    let ports = servers.each_ref().map(RedisServer::port);
    let proxy = Proxy::to(([127, 0, 0, 1], ports[0])).await.unwrap();
    let mode = || Mode::Strong(RedisConfig::from_url(&proxy.url(&servers[0].url())).unwrap());
    let database = Database::new();
    let [one, other] = [mode(), mode()].map(|mode| cache(&database, mode));
    let dealing = async {
        loop {
            for port in ports {
                proxy.lead_to(([127, 0, 0, 1], port));
                sleep(Duration::from_millis(fastrand::u64(1..30))).await;
            }
            if fastrand::u8(..20) == 0 {
                proxy.cut().await;
            }
        }
    };
    tokio::select! {
        () = nothing_is_missed([&one, &other], &database, WHILE) => {}
        () = dealing => {}
    }
    proxy.lead_to(([127, 0, 0, 1], ports[1]));
    proxy.cut().await;
    ready(&one).await;
    ready(&other).await;
    nothing_is_missed([&one, &other], &database, LEASE).await;
}

#[tokio::test]
async fn two_caches_of_one_database_and_one_redis_do_not_share_values() {
    let server = redis().await;
    let (products, customers) = (Database::new(), Database::new());
    let make = |database: &Database, name: &str| {
        let mut config = world::config(strong(&server));
        config.name = name.to_owned();
        // They share the row of the epoch, as two caches of one service do.
        Cache::new(database.with_epoch_of(&products), config).unwrap()
    };
    products.commit("7", "a product");
    customers.commit("7", "a customer");
    let caches = [make(&products, "products"), make(&customers, "customers")];
    for cache in &caches {
        ready(cache).await;
    }
    for source in [Source::Database, Source::Redis] {
        for (cache, expected) in caches.iter().zip(["a product", "a customer"]) {
            let read = cache.read("7").await.unwrap();
            assert_eq!(read.value.unwrap().bytes, expected);
            assert_eq!(read.source, source);
        }
    }
}

#[tokio::test]
async fn two_databases_with_equal_epochs_and_names_do_not_share_values() {
    let server = redis().await;
    let databases = [Database::new(), Database::new()];
    for (number, database) in databases.iter().enumerate() {
        database.commit("key", &number.to_string());
    }
    let one = ready_cache(&databases[0], strong(&server)).await;
    let other = ready_cache(&databases[1], strong(&server)).await;
    assert_eq!(databases[0].epoch(), databases[1].epoch());
    for source in [Source::Database, Source::Redis] {
        for (cache, expected) in [(&one, "0"), (&other, "1")] {
            let read = cache.read("key").await.unwrap();
            assert_eq!((read.value.unwrap().bytes, read.source), (expected.into(), source));
        }
    }
}

#[tokio::test]
async fn a_cache_without_a_valid_name_is_refused() {
    for name in ["", "a:b", "7"] {
        let config = cenote_cache::Config::new(name, Mode::Local);
        let refused = Cache::new(Database::new(), config);
        assert!(matches!(refused, Err(ConfigError::Name(it)) if it == name));
    }
}

#[tokio::test]
async fn a_fresh_system_caches_as_soon_as_redis_is_reached() {
    let server = redis().await;
    let database = Database::fresh();
    let one = cache(&database, strong(&server));
    let other = cache(&database, strong(&server));
    let begun = Instant::now();
    nothing_is_missed([&one, &other], &database, LEASE * 2).await;
    for cache in [&one, &other] {
        ready(cache).await;
    }
    let version = write(&one, &database, "key", "value").await;
    read(&one, "key").await;
    assert_eq!(read(&other, "key").await, (Some(version), Source::Redis));
    assert_eq!(database.epoch(), 2, "one decision, {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_fresh_system_without_redis_takes_writes_and_uses_redis_when_it_comes() {
    let server = redis().await;
    server.kill().await.unwrap();
    let database = Database::fresh();
    let cache = cache(&database, strong(&server));
    write(&cache, &database, "key", "value").await;
    assert_eq!(cache.stats().state, State::Degraded(DegradedReason::Untrusted));
    server.restart().await.unwrap();
    ready(&cache).await;
    read(&cache, "key").await;
    assert_eq!(read(&cache, "key").await, (Some(1), Source::Redis));
}
