//! A revoked key is refused within a second by every instance.

use crate::support::{Database, Launch, Service, create_key, eventually_within, redis, secs};

/// How long after the command a revoked key may still be accepted.
const BOUND: std::time::Duration = secs(1);

/// Starts three instances over one database.
async fn three(settings: &[(&str, &str)]) -> [Service; 3] {
    let first = Service::start(settings).await;
    let second = Service::start_with(&first.database, settings).await;
    let third = Service::start_with(&first.database, settings).await;
    [first, second, third]
}

async fn status(instance: &Service, key: &str) -> u16 {
    instance.ask("GET", "/read/k", &[("x-api-key", key)], "").await.status
}

async fn revoke(database: &Database, key: &str) {
    let revoked = Launch::new(&["key", "revoke", key])
        .env("DATABASE_URL", &database.url)
        .run()
        .await;
    assert_eq!(revoked.code, Some(0), "{revoked:?}");
}

/// Revokes one of two keys that all instances know.
async fn is_refused_in_time(instances: &[Service; 3], revoked: &str, kept: &str) {
    for instance in instances {
        for key in [revoked, kept] {
            assert_eq!(status(instance, key).await, 200);
        }
    }
    revoke(&instances[0].database, revoked).await;
    let refused = instances.iter().map(async |instance| {
        let refuses = async || (status(instance, revoked).await == 401).then_some(());
        eventually_within(BOUND, "the key is refused", refuses).await;
    });
    futures_util::future::join_all(refused).await;
    for instance in instances {
        assert_eq!(status(instance, kept).await, 200);
    }
}

#[tokio::test]
async fn a_key_works_by_either_header_and_a_revoked_one_is_refused_within_a_second_everywhere() {
    let instances = three(&[("AUTH", "keys"), ("CACHE_MODE", "off")]).await;
    let database = &instances[0].database;
    let (reading, writing) = (
        create_key(database, "read").await,
        create_key(database, "write,read").await,
    );
    let bearer = format!("Bearer {writing}");
    let json = ("content-type", "application/json");
    for instance in &instances {
        let headers = [("authorization", bearer.as_str()), json];
        let body = r#"{"key": "k", "value": "v"}"#;
        instance.ask("POST", "/write", &headers, body).await.json(200);
        let refused = instance
            .ask("POST", "/write", &[("x-api-key", &reading), json], "{}")
            .await;
        refused.problem(403, "forbidden");
    }
    is_refused_in_time(&instances, &reading, &writing).await;
}

#[tokio::test]
async fn a_revoked_key_is_refused_within_a_second_everywhere_while_redis_is_frozen() {
    let redis = redis().await;
    let url = redis.url();
    let instances = three(&[("AUTH", "keys"), ("REDIS_URL", &url), ("AUTH_OPEN", "metrics")]).await;
    let database = &instances[0].database;
    let (revoked, kept) = (
        create_key(database, "read,write").await,
        create_key(database, "read").await,
    );
    let headers = [("x-api-key", revoked.as_str()), ("content-type", "application/json")];
    let body = r#"{"key": "k", "value": "v"}"#;
    instances[0].ask("POST", "/write", &headers, body).await.json(200);
    for instance in &instances {
        instance.uses_its_cache().await;
    }
    redis.freeze().await.unwrap();
    is_refused_in_time(&instances, &revoked, &kept).await;
    redis.thaw().await.unwrap();
}
