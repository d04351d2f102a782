//! No duration causes a panic: each is refused or works, including zero and the longest.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

mod world;

use std::{
    panic,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::Duration,
};

use cenote_cache::{Cache, Config, Mode, RedisConfig, Timing};
use cenote_testing::RedisServer;
use tokio::time::{sleep, timeout};
use world::{Database, config, redis, until};

static PANICS: AtomicUsize = AtomicUsize::new(0);

fn modes(server: &RedisServer, set: impl Fn(&mut RedisConfig)) -> Vec<Mode> {
    let mut redis = RedisConfig::from_url(&server.url()).unwrap();
    set(&mut redis);
    let bounded = |max_staleness| Mode::Bounded {
        redis: redis.clone(),
        max_staleness,
    };
    vec![
        Mode::Local,
        Mode::Off,
        Mode::Ttl(redis.clone()),
        Mode::Strong(redis.clone()),
        bounded(Duration::from_secs(1)),
        bounded(Duration::MAX),
        bounded(Duration::ZERO),
    ]
}

/// Uses a cache long enough for all its timers to fire.
async fn is_used(config: Config) {
    let database = Database::new();
    let Ok(cache) = Cache::new(database.clone(), config) else {
        return;
    };
    for _ in 0..2 {
        let read = timeout(Duration::from_secs(20), cache.read("key")).await;
        read.unwrap().unwrap();
        if let Ok(Ok(fenced)) = timeout(Duration::from_millis(200), cache.fence(&["key"])).await {
            database.commit("key", "value");
            let _settled = timeout(Duration::from_millis(200), fenced.release()).await;
        }
        let _told = timeout(Duration::from_millis(200), cache.invalidate(&["key"])).await;
        let _counted = timeout(Duration::from_secs(20), cache.count_keys()).await;
        sleep(Duration::from_millis(50)).await;
    }
    let _stats = cache.stats();
}

#[tokio::test]
async fn every_duration_of_a_cache_may_be_the_longest_or_none() {
    let told = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, SeqCst);
        told(panic);
    }));
    let server = redis().await;
    let fine = |name: &str| assert_eq!(PANICS.load(SeqCst), 0, "{name}");
    for it in [Duration::MAX, Duration::ZERO] {
        for mode in modes(&server, |redis| redis.timeout = it) {
            is_used(config(mode)).await;
            fine("timeout");
        }
        let fields: [fn(&mut Config, Duration); 3] = [
            |config, it| config.ttl = it,
            |config, it| config.absent_ttl = it,
            |config, it| config.write_patience = it,
        ];
        for set in fields {
            for mode in modes(&server, |_| {}) {
                let mut config = config(mode);
                set(&mut config, it);
                is_used(config).await;
                fine("a time to live or a patience");
            }
        }
        let second = Duration::from_secs(1);
        for timing in [
            (it, second, it),
            (second, it, second),
            (it, it, it),
            (second, second / 4, it),
        ] {
            let Ok(timing) = Timing::new(timing.0, timing.1, timing.2) else {
                continue;
            };
            for mode in modes(&server, |_| {}) {
                let mut config = config(mode);
                config.timing = timing;
                is_used(config).await;
                fine("the timing");
            }
        }
    }
}

#[tokio::test]
async fn with_the_longest_durations_a_cache_works() {
    let server = redis().await;
    let mut redis = RedisConfig::from_url(&server.url()).unwrap();
    redis.timeout = Duration::MAX;
    let mut config = config(Mode::Strong(redis));
    (config.ttl, config.absent_ttl, config.write_patience) = (Duration::MAX, Duration::MAX, Duration::MAX);
    let database = Database::new();
    database.commit("key", "value");
    let cache = Cache::new(database.clone(), config).unwrap();
    world::ready(&cache).await;
    cache.read("key").await.unwrap();
    let loads = database.loads();
    cache.read("key").await.unwrap();
    assert_eq!((database.loads(), cache.stats().redis_errors), (loads, 0));
    until("it is used", || cache.stats().redis_hits > 0).await;
}
