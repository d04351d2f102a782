//! Without Redis reads go on, writes wait for about two seconds, and the cache recovers by itself. Without PostgreSQL
//! no stale value is answered, unless the settings allow it.

use cenote_testing::RedisServer;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{Answer, Database, SLACK, SOON, Service, eventually, redis, secs, server, source};

/// How long writes may stall: until no instance trusts Redis any more.
const STALL: std::time::Duration = secs(2);

async fn over(redis: &RedisServer, settings: &[(&str, &str)]) -> Service {
    let url = redis.url();
    let mut all = vec![("REDIS_URL", &*url)];
    all.extend_from_slice(settings);
    let service = Service::start(&all).await;
    service.uses_its_cache().await;
    service
}

async fn is_hit(service: &Service, key: &str) {
    eventually("a hit", async || {
        let read = service.read(key).await.json(200);
        (read["from_cache"] == true).then_some(())
    })
    .await;
}

fn body(value: &str) -> Value {
    json!({"key": "key", "value": value})
}

/// Called when Redis is lost: reads are right, writes go on soon, and health reports the loss.
async fn goes_on_without_redis(service: &Service) {
    let lost = Instant::now();
    let read = service.read("key").await.json(200);
    assert_eq!((&read["value"], &read["from_cache"]), (&json!("before"), &json!(false)));
    let written = service.post("/write", &body("during")).await;
    let stalled = lost.elapsed();
    written.json(200);
    assert!(stalled < STALL + SLACK, "writes stalled for {stalled:?}");
    eventually("health is degraded", async || {
        let health = service.get("/health").await.json(200);
        (health["cache"]["state"] == "degraded").then(|| {
            assert_eq!(health["status"], "degraded");
            assert!(health["cache"]["problem"].is_string());
        })
    })
    .await;
    service.get("/health/ready").await.json(200);
    // Once no instance trusts Redis, no write waits for it.
    for n in 0..5 {
        service.write("key", &n.to_string()).await;
        let read = service.read("key").await.json(200);
        assert_eq!(
            (&read["value"], &read["from_cache"]),
            (&json!(n.to_string()), &json!(false))
        );
    }
    let stats = service.cache_stats().await;
    assert_eq!((&stats["state"], &stats["pending"]), (&json!("degraded"), &json!(0)));
    assert!(stats["bypassed"].as_u64().unwrap() > 0, "{stats}");
}

/// Called when Redis is back: a new epoch begins, and no entry of the old one is used.
async fn comes_back(service: &Service) {
    service.uses_its_cache().await;
    let read = service.read("key").await.json(200);
    assert_eq!((&read["value"], &read["from_cache"]), (&json!("4"), &json!(false)));
    is_hit(service, "key").await;
    service.write("key", "after").await;
    assert_eq!(service.read("key").await.json(200)["value"], "after");
    let health = service.get("/health").await.json(200);
    assert_eq!(health["status"], "ok");
}

#[tokio::test]
async fn while_redis_is_down_reads_go_on_and_writes_wait_once_and_afterwards_it_is_used_again() {
    let redis = redis().await;
    let service = over(&redis, &[]).await;
    service.write("key", "before").await;
    is_hit(&service, "key").await;
    let epoch = service.cache_stats().await["epoch"].as_u64().unwrap();
    redis.kill().await.unwrap();
    goes_on_without_redis(&service).await;
    redis.restart().await.unwrap();
    comes_back(&service).await;
    assert!(service.cache_stats().await["epoch"].as_u64().unwrap() > epoch + 1);
}

#[tokio::test]
async fn a_redis_that_hangs_is_treated_like_one_that_is_down() {
    let redis = redis().await;
    let service = over(&redis, &[]).await;
    service.write("key", "before").await;
    is_hit(&service, "key").await;
    redis.freeze().await.unwrap();
    goes_on_without_redis(&service).await;
    redis.thaw().await.unwrap();
    comes_back(&service).await;
}

#[tokio::test]
async fn a_service_started_without_its_redis_serves_from_the_database_until_redis_is_up() {
    let redis = redis().await;
    redis.kill().await.unwrap();
    let service = Service::start(&[("REDIS_URL", &redis.url())]).await;
    service.write("key", "value").await;
    for _ in 0..2 {
        let read = service.read("key").await.json(200);
        assert_eq!((&read["value"], &read["from_cache"]), (&json!("value"), &json!(false)));
    }
    assert_eq!(service.get("/health").await.json(200)["status"], "degraded");
    redis.restart().await.unwrap();
    service.uses_its_cache().await;
    is_hit(&service, "key").await;
}

/// Waits until the service trusts no Redis, because its last read of the epoch's row is too old.
async fn epoch_is_unknown(service: &Service) {
    eventually("the view ends", async || {
        service.cache_stats().await["epoch"].is_null().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_write_that_cannot_be_announced_is_503_and_writes_nothing() {
    let redis = redis().await;
    let service = over(&redis, &[]).await;
    let version = service.write("key", "before").await;
    let session = service.database.session().await;
    session.run("BEGIN; LOCK TABLE cache_epoch").await;
    epoch_is_unknown(&service).await;
    for answer in [
        service.post("/write", &body("lost")).await,
        service.delete("/read/key").await,
    ] {
        let problem = answer.problem(503, "cache-unreachable");
        assert!(problem["waited_ms"].as_u64().unwrap() >= 4_000, "{problem}");
    }
    let read = service.read("key").await.json(200);
    assert_eq!((&read["value"], &read["from_cache"]), (&json!("before"), &json!(false)));
    session.run("COMMIT").await;
    service.uses_its_cache().await;
    let again = service.write("key", "after").await;
    assert_eq!(again, version + 1);
    assert_eq!(service.read("key").await.json(200)["value"], "after");
}

#[tokio::test]
async fn writes_that_wait_for_redis_hold_no_connection() {
    let redis = redis().await;
    let one = [("DB_POOL_MIN_SIZE", "1"), ("DB_POOL_MAX_SIZE", "1")];
    let service = std::sync::Arc::new(over(&redis, &one).await);
    let session = service.database.session().await;
    session.run("BEGIN; LOCK TABLE cache_epoch").await;
    redis.freeze().await.unwrap();
    let mut writes = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let service = service.clone();
        writes.spawn(async move { service.post("/write", &body("lost")).await });
    }
    eventually("Redis is given up", async || {
        let state = &service.cache_stats().await["state"];
        (state == "degraded").then_some(())
    })
    .await;
    // These need the only connection.
    for _ in 0..5 {
        service.get("/users/1").await.problem(404, "not-found");
    }
    assert!(writes.try_join_next().is_none(), "none has an answer yet");
    while let Some(write) = writes.join_next().await {
        write.unwrap().problem(503, "cache-unreachable");
    }
    session.run("COMMIT").await;
    redis.thaw().await.unwrap();
    service.uses_its_cache().await;
    service.write("key", "after").await;
}

#[tokio::test]
async fn a_write_whose_release_does_not_reach_redis_is_202_and_not_a_plain_success() {
    let redis = redis().await;
    let service = std::sync::Arc::new(over(&redis, &[]).await);
    let version = service.write("key", "before").await;
    let session = service.database.session().await;
    let other = service.database.session().await;
    // The write has its fence and waits for a lock. Meanwhile Redis dies, and the row of the epoch is locked, so that
    // no new epoch can begin.
    session.run("BEGIN; UPDATE kv SET value = 'before'").await;
    let writing = tokio::spawn({
        let service = service.clone();
        async move { service.post("/write", &body("pending")).await }
    });
    session.sees_blocked(1).await;
    other.run("BEGIN; LOCK TABLE cache_epoch").await;
    redis.kill().await.unwrap();
    session.run("COMMIT").await;
    let answer: Answer = writing.await.unwrap();
    let pending = answer.json(202);
    let expected = json!({"status": "coherence-pending", "key": "key", "version": version + 1});
    assert_eq!(pending, expected);
    assert_eq!(service.cache_stats().await["pending"], 1);
    assert_eq!(service.read("key").await.json(200)["value"], "pending");
    other.run("COMMIT").await;
    redis.restart().await.unwrap();
    service.uses_its_cache().await;
    assert_eq!(service.read("key").await.json(200)["value"], "pending");
    service.write("key", "after").await;
}

#[tokio::test]
async fn while_the_database_is_down_stale_values_are_answered_only_if_allowed_and_are_marked() {
    let redis = redis().await;
    let postgres = server("100").await;
    let database = Database::create_on(&postgres).await;
    let url = redis.url();
    let quick = ("DB_POOL_TIMEOUT", "0.5");
    let strict = [("REDIS_URL", &*url), quick];
    let lenient = [("REDIS_URL", &*url), quick, ("CACHE_STALE_ON_ERROR", "true")];
    let strict = Service::start_with(&database, &strict).await;
    let lenient = Service::start_with(&database, &lenient).await;
    for service in [&strict, &lenient] {
        service.uses_its_cache().await;
    }
    strict.write("key", "value").await;
    is_hit(&strict, "key").await;
    is_hit(&lenient, "key").await;

    postgres.kill().await.unwrap();
    // As long as the epoch is known, entries of that epoch are answered as usual.
    epoch_is_unknown(&strict).await;
    epoch_is_unknown(&lenient).await;
    let refused = strict.read("key").await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    let old = lenient.read("key").await;
    assert_eq!(source(&old), "cenote; hit; detail=shared/strong/stale");
    assert!(!old.headers.contains_key("age"));
    let old = old.json(200);
    assert_eq!((&old["value"], &old["stale"]), (&json!("value"), &json!(true)));
    let many = lenient.post("/read", &json!({"keys": ["key"]})).await;
    let status = "cenote; hit; detail=\"1 shared, 1 stale/strong\"";
    assert_eq!(source(&many), status);
    assert!(!many.headers.contains_key("age"));
    let many = many.json(200);
    assert_eq!(many["stale"], json!(["key"]));
    assert_eq!(lenient.read("other").await.status, 503);
    let write = lenient.post("/write", &body("no")).await;
    assert_eq!(write.status, 503, "{}", write.text());
    assert!(lenient.cache_stats().await["stale"].as_u64().unwrap() >= 2);

    postgres.restart().await.unwrap();
    for service in [&strict, &lenient] {
        service.uses_its_cache().await;
        let read = service.read("key").await.json(200);
        assert_eq!((&read["value"], &read["stale"]), (&json!("value"), &Value::Null));
    }
    lenient.write("key", "after").await;
    assert_eq!(strict.read("key").await.json(200)["value"], "after");
}

#[tokio::test]
async fn a_statement_of_an_instance_that_hangs_is_ended_by_the_server_before_its_view_expires() {
    let redis = redis().await;
    let service = std::sync::Arc::new(over(&redis, &[("COMMAND_TIMEOUT", "20")]).await);
    let version = service.write("key", "before").await;
    let session = service.database.session().await;
    session.run("BEGIN; UPDATE kv SET value = 'before'").await;
    let writing = tokio::spawn({
        let service = service.clone();
        async move { service.post("/write", &body("late")).await }
    });
    session.sees_blocked(1).await;
    // A stopped process cancels nothing.
    service.signal("STOP");
    session.sees_blocked(0).await;
    session.run("COMMIT").await;
    service.signal("CONT");
    writing.await.unwrap().problem(504, "command-timeout");
    service.uses_its_cache().await;
    let read = service.read("key").await.json(200);
    assert_eq!((&read["value"], &read["version"]), (&json!("before"), &json!(version)));
}

#[tokio::test]
async fn writes_go_on_after_the_row_of_the_epoch_was_set_back_or_deleted() {
    let database = Database::create().await;
    let redis = redis().await;
    for settings in [&[][..], &[("REDIS_URL", &*redis.url())]] {
        let service = Service::start_with(&database, settings).await;
        let session = database.session().await;
        for change in ["UPDATE cache_epoch SET epoch = epoch - 7", "TRUNCATE cache_epoch"] {
            let before = service.write("key", change).await;
            session.run(change).await;
            let body = json!({"key": "key", "value": "after"});
            let written = eventually("a write", async || {
                let written = service.post("/write", &body).await;
                (written.status == 200).then_some(written)
            })
            .await;
            assert!(written.json(200)["version"].as_i64().unwrap() > before);
            assert_eq!(service.read("key").await.json(200)["value"], "after");
        }
        service.stop(SOON).await;
    }
}
