//! The number of keys in Redis: an estimate at first if the database holds much else, and no work without a caller.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

mod world;

use std::time::Duration;

use cenote_cache::State;
use cenote_testing::RedisServer;
use futures_util::FutureExt;
use tokio::time::{sleep, timeout};
use world::{Database, bounded, calls, read, ready_cache, redis, strong, until};

/// Sets this number of keys that begin with `prefix`: in parts, because a Redis that is busy for long is not trusted, and
/// then another epoch begins, with other keys.
async fn fill(server: &RedisServer, prefix: &str, keys: u32) {
    const PART: u32 = 2_000;
    let fill = "for i = ARGV[2], ARGV[3] do redis.call('SET', ARGV[1] .. i, 'N') end";
    for first in (1..=keys).step_by(PART as usize) {
        let last = (first + PART - 1).min(keys);
        let (first, last) = (first.to_string(), last.to_string());
        server
            .command(&["EVAL", fill, "0", prefix, &first, &last])
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_partial_count_is_an_estimate_until_the_scan_is_complete() {
    let server = redis().await;
    let cache = ready_cache(&Database::new(), strong(&server)).await;
    read(&cache, "key").await;
    let names = server.command(&["KEYS", "*:key"]).await.unwrap();
    let mut names = names.split(|c: char| !c.is_alphanumeric() && c != ':' && c != '_');
    let cell = names.find_map(|name| name.strip_suffix("key"));
    fill(&server, cell.unwrap(), 20_000).await;
    fill(&server, "other:", 80_000).await;
    // Nothing is counted while Redis is not trusted.
    let counted = timeout(Duration::from_secs(60), async {
        loop {
            match cache.count_keys().await.unwrap() {
                counted if counted.keys > 0 => break counted,
                _ => sleep(Duration::from_millis(10)).await,
            }
        }
    });
    let first = counted.await.unwrap();
    assert!(first.is_estimate, "{first:?}");
    assert!((16_000..=24_000).contains(&first.keys), "{first:?}");
    // Asked again at once, Redis is not asked.
    let before = calls(&server, "scan").await;
    let again = cache.count_keys().await.unwrap();
    if calls(&server, "scan").await == before {
        assert_eq!(again.keys, first.keys);
    }
    let whole = timeout(Duration::from_secs(60), async {
        loop {
            match cache.count_keys().await.unwrap() {
                counted if !counted.is_estimate => break counted,
                _ => sleep(Duration::from_millis(100)).await,
            }
        }
    });
    // While its table was being resized, some may have been seen twice.
    let whole = whole.await.unwrap();
    assert!((20_000..=20_200).contains(&whole.keys), "{whole:?}");
}

#[tokio::test]
async fn a_count_stops_when_its_caller_is_gone() {
    let server = redis().await;
    fill(&server, "other:", 100_000).await;
    let cache = ready_cache(&Database::new(), strong(&server)).await;
    for _ in 0..3 {
        let before = calls(&server, "scan").await;
        // One poll, which sends at most one command. A timer would let the answer in.
        let _dropped = cache.count_keys().now_or_never();
        // While these go to Redis and back, a count that went on would go on too.
        for _ in 0..10 {
            server.command(&["PING"]).await.unwrap();
        }
        let made = calls(&server, "scan").await - before;
        assert!(made <= 1, "{made}");
    }
    assert!(cache.count_keys().await.is_some(), "the next one counts");
}

#[tokio::test]
async fn without_the_permission_to_scan_keys_are_not_counted_and_all_else_works() {
    let server = redis().await;
    server.command(&["ACL", "SETUSER", "default", "-scan"]).await.unwrap();
    let database = Database::new();
    let cache = ready_cache(&database, bounded(&server, Duration::from_millis(500))).await;
    read(&cache, "key").await;
    assert_eq!(cache.count_keys().await, None);
    until("it goes on", || cache.stats().state == State::Ok).await;
    assert_eq!(cache.stats().redis_errors, 0);
}
