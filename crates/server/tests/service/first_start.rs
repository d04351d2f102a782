//! The first instance over an empty database and an empty Redis caches as soon as it is ready, and a second one that
//! starts at the same time misses no write.

use serde_json::json;

use crate::support::{Database, Service, eventually, redis};

/// Write, read, read, as the first test of a client does.
async fn caches_at_once(settings: &[(&str, &str)]) {
    let service = Service::start(settings).await;
    let version = service.write("key", "value").await;
    service.read("key").await.json(200);
    let expected = json!({"key": "key", "value": "value", "version": version, "from_cache": true});
    assert_eq!(service.read("key").await.json(200), expected);
    assert_eq!(service.get("/health").await.json(200)["status"], "ok");
}

#[tokio::test]
async fn a_fresh_service_in_one_process_caches_once_it_is_ready() {
    caches_at_once(&[]).await;
}

#[tokio::test]
async fn a_fresh_service_with_redis_caches_once_it_is_ready() {
    let redis = redis().await;
    caches_at_once(&[("REDIS_URL", &redis.url())]).await;
}

#[tokio::test]
async fn a_fresh_bounded_service_caches_once_it_is_ready() {
    let redis = redis().await;
    caches_at_once(&[("REDIS_URL", &redis.url()), ("CACHE_MODE", "bounded")]).await;
}

#[tokio::test]
async fn a_fresh_service_that_follows_changes_caches_once_it_is_ready() {
    let redis = redis().await;
    let settings = [("REDIS_URL", &*redis.url()), ("CACHE_FEED", "notify")];
    let service = Service::start(&settings).await;
    service.write("key", "value").await;
    service.uses_its_cache().await;
    service.read("key").await.json(200);
    assert_eq!(service.read("key").await.json(200)["from_cache"], true);
}

#[tokio::test]
async fn two_services_that_start_together_over_an_empty_database_miss_nothing() {
    let redis = redis().await;
    let database = Database::create().await;
    let settings = [("REDIS_URL", &*redis.url())];
    let (one, other) = tokio::join!(
        Service::launch_with(&database, &settings),
        Service::launch_with(&database, &settings)
    );
    // The one that is ready is used, whether the other is ready or not.
    one.is_ready().await;
    let misses_nothing = async |key: &str| {
        for (writer, reader) in [(&one, &other), (&other, &one)] {
            let version = writer.write(key, "value").await;
            for service in [reader, writer, reader] {
                let read = service.read(key).await.json(200);
                assert!(read["version"].as_i64() >= Some(version), "{read} after {version}");
            }
        }
    };
    eventually("both use their cache", async || {
        misses_nothing("key").await;
        let states = [one.cache_stats().await, other.cache_stats().await];
        states.iter().all(|stats| stats["state"] == "ok").then_some(())
    })
    .await;
    for round in 0..20 {
        misses_nothing(&format!("key {}", round % 3)).await;
    }
}
