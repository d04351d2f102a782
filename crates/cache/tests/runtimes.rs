//! One cache serves callers on several runtimes, each with its own origin, and outlives any of them.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

mod world;

use std::{thread, time::Duration};

use cenote_cache::{Cache, Coherence, EpochRow, Mode, Origin, RedisConfig, Source, Value};
use cenote_testing::RedisServer;
use tokio::{
    runtime,
    task::JoinSet,
    time::{Instant, timeout},
};
use world::{DEADLINE, Database, Down, LEASE, cache, config, ready, redis, strong, until, write};

/// A way of its own to the database.
#[derive(Clone)]
struct Way(Database);

impl Origin for Way {
    type Error = Down;

    async fn load(&self, keys: &[&str]) -> Result<Vec<Option<Value>>, Down> {
        self.0.load(keys).await
    }

    async fn epoch_row(&self) -> Result<EpochRow, Down> {
        panic!("only the first origin is asked for the epoch")
    }

    async fn advance(&self, _successor: EpochRow) -> Result<(), Down> {
        panic!("only the first origin moves the epoch on")
    }
}

/// Runs this on a thread with a runtime of its own.
fn elsewhere<T: Send>(work: impl AsyncFnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(work())
        });
        thread.join().unwrap()
    })
}

/// With keys of their own: the databases that the tests put behind them all begin with the same epoch.
fn modes(server: &RedisServer) -> [Mode; 3] {
    let mut redis = RedisConfig::from_url(&server.url()).unwrap();
    redis.prefix = "bounded".to_owned();
    let max_staleness = Duration::from_millis(400);
    let bounded = Mode::Bounded { redis, max_staleness };
    [Mode::Local, strong(server), bounded]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_reads_of_a_cold_key_on_four_runtimes_are_one_load() {
    let server = redis().await;
    for mode in modes(&server) {
        let database = Database::new();
        database.commit("key", "value");
        let cache = cache(&database, mode.clone());
        ready(&cache).await;
        database.close_gate();
        thread::scope(|scope| {
            for _ in 0..4 {
                let handle = cache.with_origin(Way(database.clone()));
                scope.spawn(move || {
                    elsewhere(async || {
                        let mut reads = JoinSet::new();
                        for _ in 0..250 {
                            let handle = handle.clone();
                            reads.spawn(async move { handle.read("key").await.unwrap() });
                        }
                        while let Some(read) = reads.join_next().await {
                            assert_eq!(read.unwrap().value.unwrap().version, 1);
                        }
                    })
                });
            }
            elsewhere(async || {
                database.at_gate(1).await;
                database.open_gate();
            });
        });
        assert_eq!(database.loads(), 1, "{mode:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_on_one_runtime_is_read_on_the_others() {
    let server = redis().await;
    for mode in modes(&server) {
        let database = Database::new();
        let cache = cache(&database, mode.clone());
        ready(&cache).await;
        let other = cache.with_origin(Way(database.clone()));
        for round in 0..10 {
            let version = elsewhere(async || write(&cache, &database, "key", "value").await);
            let read = || elsewhere(async || other.read("key").await.unwrap());
            assert_eq!(read().value.unwrap().version, version, "{mode:?} {round}");
            assert_eq!(read().value.unwrap().version, version, "{mode:?} {round}");
        }
        assert!(cache.stats().hits() >= 10, "handles share their counters");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_runtime_ends_during_a_load_other_runtimes_load_the_key() {
    let server = redis().await;
    for mode in modes(&server) {
        let database = Database::new();
        database.commit("key", "value");
        let cache = cache(&database, mode.clone());
        ready(&cache).await;
        database.close_gate();
        let handle = cache.with_origin(Way(database.clone()));
        elsewhere(async || {
            let reading = timeout(Duration::from_millis(200), handle.read("key"));
            assert!(reading.await.is_err());
        });
        database.open_gate();
        let read = timeout(Duration::from_secs(20), cache.read("key")).await;
        let read = read.unwrap().unwrap();
        assert_eq!(read.value.unwrap().version, 1, "{mode:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_write_is_settled_after_its_runtime_has_ended() {
    let server = redis().await;
    let database = Database::new();
    let mut config = config(strong(&server));
    config.write_patience = LEASE / 2;
    let cache = Cache::new(database.clone(), config).unwrap();
    ready(&cache).await;
    write(&cache, &database, "key", "old").await;
    elsewhere(async || {
        let fenced = cache.fence(&["key"]).await.unwrap();
        assert!(fenced.fits(DEADLINE));
        database.commit("key", "new");
        server.freeze().await.unwrap();
        database.fail(true);
        assert_eq!(fenced.release().await, Coherence::Pending);
    });
    database.fail(false);
    server.thaw().await.unwrap();
    ready(&cache).await;
    until("the fence is taken down", || {
        elsewhere(async || {
            let first = cache.read("key").await.unwrap();
            assert_eq!(first.value.unwrap().version, 2);
            cache.read("key").await.unwrap().source == Source::Redis
        })
    })
    .await;
}

#[tokio::test]
async fn only_near_values_are_returned_without_waiting() {
    let server = redis().await;
    for mode in modes(&server) {
        let database = Database::new();
        let version = database.commit("key", "value");
        let cache = cache(&database, mode.clone());
        ready(&cache).await;
        assert_eq!(cache.near("key"), None);
        cache.read("key").await.unwrap();
        if matches!(mode, Mode::Strong(_)) {
            cache.read("key").await.unwrap();
            assert_eq!(cache.near("key"), None, "nothing is near in this mode");
            continue;
        }
        // A read that meets the message about its own fill is not kept.
        let deadline = Instant::now() + Duration::from_secs(20);
        let near = loop {
            cache.read("key").await.unwrap();
            if let Some(near) = cache.near("key") {
                break near;
            }
            assert!(Instant::now() < deadline, "never near");
        };
        assert_eq!(near.source, Source::Near);
        assert_eq!(near.value.unwrap().version, version);
        write(&cache, &database, "key", "new").await;
        assert_eq!(cache.near("key"), None, "{mode:?}");
    }
}

/// How often Redis has carried out commands of this name.
async fn calls(server: &RedisServer, name: &str) -> usize {
    let stats = server.command(&["INFO", "commandstats"]).await.unwrap();
    let calls = stats.lines().find_map(|line| {
        let rest = line.strip_prefix(&format!("cmdstat_{name}:calls="))?;
        rest.split(',').next()?.parse().ok()
    });
    calls.unwrap_or(0)
}

#[tokio::test]
async fn concurrent_requests_of_a_runtime_go_to_redis_in_few_commands_over_one_connection() {
    const READS: usize = 200;
    let server = redis().await;
    let database = Database::new();
    let cache = cache(&database, strong(&server));
    ready(&cache).await;
    server.command(&["CONFIG", "RESETSTAT"]).await.unwrap();
    for source in [Source::Database, Source::Redis] {
        let mut reads = JoinSet::new();
        for number in 0..READS {
            let cache = cache.clone();
            reads.spawn(async move { cache.read(&number.to_string()).await.unwrap() });
        }
        while let Some(read) = reads.join_next().await {
            assert_eq!(read.unwrap().source, source);
        }
    }
    assert_eq!(cache.stats().fills as usize, READS);
    // One each would be enough for the reads, the leases and the fills, but no command is for more than 128 cells.
    let (reads, scripts) = (calls(&server, "mget").await, calls(&server, "evalsha").await);
    assert!((1..=20).contains(&reads), "{reads} for {} reads", 2 * READS);
    assert!((1..=20).contains(&scripts), "{scripts} for {} calls", 2 * READS);
    let clients = server.command(&["INFO", "clients"]).await.unwrap();
    // Besides, one watches the server, and one asks this.
    assert!(clients.contains("connected_clients:3"), "{clients}");
}

fn runtime() -> runtime::Runtime {
    let mut builder = runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

/// The runtime that created the cache ends, or still exists but is not polled.
#[test]
fn a_cache_outlives_the_runtime_that_created_it() {
    let world = runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let server = world.block_on(redis());
    let modes = modes(&server).into_iter();
    let cases = modes.flat_map(|mode| [(mode.clone(), false), (mode, true)]);
    for (case, (mode, stands)) in cases.enumerate() {
        let key = &*format!("key {case}");
        let database = Database::new();
        database.commit(key, "value");
        let home = runtime();
        let cache = home.block_on(async {
            let cache = cache(&database, mode.clone());
            ready(&cache).await;
            cache.read(key).await.unwrap();
            cache
        });
        let home = stands.then_some(home);
        runtime().block_on(async {
            let deadline = Instant::now() + Duration::from_secs(30);
            let mut newest = 1;
            // Written and read, and found in the cache again.
            loop {
                assert!(Instant::now() < deadline, "{mode:?}, {stands}: not cached");
                let read = cache.read(key).await.unwrap();
                assert_eq!(read.value.unwrap().version, newest, "{mode:?}");
                if let Ok(fenced) = cache.fence(&[key]).await
                    && fenced.fits(DEADLINE)
                {
                    newest = database.commit(key, "newer");
                    let _settled_or_not = fenced.release().await;
                    cache.read(key).await.unwrap();
                    let again = cache.read(key).await.unwrap();
                    assert_eq!(again.value.unwrap().version, newest, "{mode:?}");
                    if again.source != Source::Database && newest > 3 {
                        break;
                    }
                }
            }
        });
        // It is dropped outside any runtime.
        drop((cache, home));
    }
}
