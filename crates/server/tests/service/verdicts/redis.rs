//! Redis is gone, for the cache and for the limits.

use serde_json::json;

use super::watched;
use crate::support::{
    alerts::{assert_firing, assert_silent},
    redis,
};

#[tokio::test]
async fn a_redis_that_is_gone_is_told_until_it_is_back() {
    let redis = redis().await;
    let (service, mut events) = watched(&[("REDIS_URL", &redis.url()), ("CACHE_MODE", "ttl")]).await;
    assert_eq!(events.state["redis"], json!({"up": true, "problem": null}));
    let before = service.scrape().await;
    assert_silent(&before);
    redis.kill().await.unwrap();
    let verdict = events.verdict("redis-down").await;
    assert!(!verdict["text"].as_str().unwrap().contains("127.0.0.1"), "{verdict}");
    assert_eq!(events.state["redis"]["up"], false);
    let scrape = service.scrape().await;
    assert_eq!(scrape.sum("cenote_redis_up", &[]), 0.0);
    assert_firing(&before, &scrape, &["CenoteRedisDown"]);
    redis.restart().await.unwrap();
    events.verdict("healthy").await;
    service.write("key", "value").await;
}

#[tokio::test]
async fn limits_that_are_not_shared_are_told_until_they_are_again() {
    let redis = redis().await;
    let url = redis.url();
    let settings = [
        ("RATE_LIMIT_READ", "1000/s"),
        ("REDIS_URL", &*url),
        ("INSTANCES", "2"),
        ("CACHE_MODE", "off"),
    ];
    let (service, mut events) = watched(&settings).await;
    let before = service.scrape().await;
    assert_eq!(before.sum("cenote_limit_shared", &[]), 1.0);
    redis.kill().await.unwrap();
    // What finds out is the report of the next request.
    service.read("key").await;
    let verdict = events.verdict("limits-not-shared").await;
    let text = verdict["text"].as_str().unwrap();
    assert!(
        text.contains("1/2 of every limit") && !text.contains("127.0.0.1"),
        "{text}"
    );
    assert_eq!(events.state["limits"]["shared"], false);
    let scrape = service.scrape().await;
    assert_eq!(scrape.sum("cenote_limit_shared", &[]), 0.0);
    assert_firing(&before, &scrape, &["CenoteLimitsNotShared"]);
    redis.restart().await.unwrap();
    events.verdict("healthy").await;
    drop(service);
}
