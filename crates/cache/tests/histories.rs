//! Under random load through two instances, with faults in between, every read can be explained.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

mod world;

use std::{
    hash::BuildHasher,
    sync::{Arc, Mutex},
    time::Duration,
};

use cenote_cache::{Cache, Coherence, Mode, Source, Value, clock};
use cenote_coherence::history::{Kind, Operation, Promise, check};
use foldhash::fast::FixedState;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use world::{DEADLINE, Database, bounded, ready_cache, redis, strong};

/// Many, because a key whose writer vanished stays fenced for a second.
const KEYS: usize = 12;
const CLIENTS: usize = 6;
const LOAD: Duration = Duration::from_secs(3);
const BOUND: Duration = Duration::from_millis(40);

const EXACT: Promise = Promise {
    staleness: Duration::ZERO,
    monotonic: true,
};

fn digest(bytes: &[u8]) -> u64 {
    FixedState::default().hash_one(bytes)
}

/// The operations of all clients.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Operation>>>);

impl Recorder {
    fn record(&self, operation: Operation) {
        self.0.lock().unwrap().push(operation);
    }

    /// Checks a history that is long enough to mean something.
    fn assert_explained(&self, promise: Promise) {
        let history = self.0.lock().unwrap().clone();
        println!("{} operations", history.len());
        assert!(history.len() > 500, "{} operations", history.len());
        assert_eq!(check(&history, promise), []);
    }
}

async fn read(cache: &Cache<Database>, instance: usize, key: &str, recorder: &Recorder) {
    let invoked = clock::now();
    let read = cache.read(key).await.unwrap();
    let found = |value: Value| (value.version, digest(&value.bytes));
    recorder.record(Operation {
        key: key.into(),
        instance,
        invoked,
        returned: Some(clock::now()),
        kind: Kind::Read(read.value.map(found)),
    });
}

/// Now and then the writer vanishes between commit and release.
async fn write(cache: &Cache<Database>, instance: usize, key: &str, database: &Database, recorder: &Recorder) {
    let value = fastrand::u64(..).to_string();
    let invoked = clock::now();
    let Ok(fenced) = cache.fence(&[key]).await else {
        return;
    };
    sleep(Duration::from_micros(fastrand::u64(..500))).await;
    if !fenced.fits(DEADLINE) {
        return;
    }
    let version = Some(database.commit(key, &value));
    sleep(Duration::from_micros(fastrand::u64(..500))).await;
    let settled = fastrand::u16(..400) > 0 && fenced.release().await == Coherence::Settled;
    recorder.record(Operation {
        key: key.into(),
        instance,
        invoked,
        returned: settled.then(clock::now),
        kind: Kind::Write {
            version,
            digest: Some(digest(value.as_bytes())),
        },
    });
}

/// Loads the instances from several clients until `faults` are over, and a little longer.
async fn load(caches: &[Cache<Database>], database: &Database, faults: impl Future<Output = ()>) -> Recorder {
    database.delay(Duration::from_micros(800));
    let recorder = Recorder::default();
    let (over, until_over) = tokio::sync::watch::channel(false);
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let instance = client % caches.len();
        let (cache, database) = (caches[instance].clone(), database.clone());
        let (recorder, until_over) = (recorder.clone(), until_over.clone());
        clients.spawn(async move {
            while !*until_over.borrow() {
                let key = format!("key {}", fastrand::usize(..KEYS));
                if fastrand::u8(..10) == 0 {
                    write(&cache, instance, &key, &database, &recorder).await;
                } else {
                    read(&cache, instance, &key, &recorder).await;
                }
                if fastrand::u8(..4) == 0 {
                    sleep(Duration::from_micros(fastrand::u64(..1_000))).await;
                }
            }
        });
    }
    let end = Instant::now() + LOAD;
    faults.await;
    tokio::time::sleep_until(end).await;
    over.send_replace(true);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    recorder
}

/// Fails unless a good part of the reads came from a cache.
fn assert_cached(caches: &[Cache<Database>], source: Source) {
    for cache in caches {
        let stats = cache.stats();
        println!("{stats:?}");
        let hits = match source {
            Source::Near => stats.near_hits,
            _ => stats.hits(),
        };
        assert!(hits > 50, "{stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_read_of_one_process_can_be_explained() {
    let database = Database::new();
    let caches = [world::cache(&database, Mode::Local)];
    let recorder = load(&caches, &database, async {}).await;
    assert_cached(&caches, Source::Near);
    recorder.assert_explained(EXACT);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_read_through_two_instances_can_be_explained() {
    let server = redis().await;
    let database = Database::new();
    let caches = [
        ready_cache(&database, strong(&server)).await,
        ready_cache(&database, strong(&server)).await,
    ];
    let recorder = load(&caches, &database, async {}).await;
    assert_cached(&caches, Source::Redis);
    recorder.assert_explained(EXACT);
}

/// Breaks Redis in each way. The load continues until the cache has recovered.
async fn every_fault(server: &cenote_testing::RedisServer, caches: &[Cache<Database>]) {
    let pause = Duration::from_millis(500);
    for fault in 0..5 {
        sleep(pause).await;
        match fault {
            0 => operator(server, &["FLUSHALL"]).await,
            1 => operator(server, &["CLIENT", "KILL", "TYPE", "normal"]).await,
            2 => operator(server, &["SCRIPT", "FLUSH"]).await,
            3 => {
                server.freeze().await.unwrap();
                sleep(pause * 4).await;
                server.thaw().await.unwrap();
            }
            _ => {
                server.kill().await.unwrap();
                sleep(pause * 4).await;
                server.restart().await.unwrap();
            }
        }
        for cache in caches {
            world::ready(cache).await;
        }
    }
}

async fn operator(server: &cenote_testing::RedisServer, command: &[&str]) {
    let client = redis::Client::open(server.url()).unwrap();
    let mut operator = client.get_multiplexed_async_connection().await.unwrap();
    let mut sent = redis::cmd(command[0]);
    sent.arg(&command[1..]);
    let _: redis::Value = sent.query_async(&mut operator).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_redis_flushed_cut_frozen_and_killed_no_read_misses_an_acknowledged_write() {
    let server = redis().await;
    let database = Database::new();
    let caches = [
        ready_cache(&database, strong(&server)).await,
        ready_cache(&database, strong(&server)).await,
    ];
    let recorder = load(&caches, &database, every_fault(&server, &caches)).await;
    assert_cached(&caches, Source::Redis);
    // An instance cut off from a Redis that is wiped in the same moment may see an unacknowledged write come and go.
    recorder.assert_explained(Promise {
        monotonic: false,
        ..EXACT
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn near_values_stay_within_the_bound_during_faults_of_redis() {
    let server = redis().await;
    let database = Database::new();
    let caches = [
        ready_cache(&database, bounded(&server, BOUND)).await,
        ready_cache(&database, bounded(&server, BOUND)).await,
    ];
    let recorder = load(&caches, &database, every_fault(&server, &caches)).await;
    assert_cached(&caches, Source::Near);
    recorder.assert_explained(Promise {
        staleness: BOUND,
        monotonic: false,
    });
}
