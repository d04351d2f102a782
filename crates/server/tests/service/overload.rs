//! More requests than the database can serve are refused early, in bounded memory, and health reports it.

use std::sync::Arc;

use serde_json::json;

use crate::support::{Service, eventually};

#[tokio::test]
async fn writes_beyond_the_bytes_that_may_wait_are_503_at_once_and_the_others_are_made() {
    let settings = [
        ("COMMAND_TIMEOUT", "20"),
        ("DB_QUEUE_MAX_BYTES", "10000"),
        // Each core has a queue of its own.
        ("HTTP_CORES", "1"),
        ("CACHE_MODE", "off"),
    ];
    let service = Arc::new(Service::start(&settings).await);
    service.write("key", "zero").await;
    let session = service.database.session().await;
    session
        .run("BEGIN; UPDATE kv SET value = 'held' WHERE key = 'key'")
        .await;
    let write = |value: String| {
        let service = service.clone();
        tokio::spawn(async move { service.write("key", &value).await })
    };
    let mut waiting = vec![write("first".to_owned())];
    session.sees_blocked(1).await;
    for n in 0..3 {
        waiting.push(write(format!("{n}{}", "x".repeat(3000))));
        eventually("it waits", async || {
            let stats = service.get("/pool-stats").await.json(200);
            (stats["queues"]["writes"]["waiting"] == n + 1).then_some(())
        })
        .await;
    }
    let health = service.get("/health").await.json(200);
    assert_eq!(health["status"], "ok", "{health}");
    let body = json!({"key": "key", "value": "x".repeat(3000)});
    let refused = service.post("/write", &body).await;
    assert!(refused.headers["retry-after"].parse::<u32>().unwrap() >= 1);
    let problem = refused.problem(503, "pool-overloaded");
    assert_eq!(problem["waiting"], 3, "{problem}");
    // A write of another key does not wait.
    service.write("other", &"x".repeat(20_000)).await;
    let stats = service.get("/pool-stats").await.json(200);
    let writes = &stats["queues"]["writes"];
    assert_eq!(writes["refused"], 1);
    assert!((9000..=10_000).contains(&writes["waiting_bytes"].as_u64().unwrap()));
    assert_eq!(stats["queues"]["reads"]["refused"], 0);
    let health = service.get("/health").await.json(200);
    assert_eq!(health["status"], "degraded");
    assert_eq!(health["pool"]["state"], "degraded");
    session.run("ROLLBACK").await;
    let mut versions = Vec::new();
    for write in waiting {
        versions.push(write.await.unwrap());
    }
    versions.sort_unstable();
    assert_eq!(versions, [2, 3, 4, 5]);
    let written = service.post("/write", &body).await.json(200);
    assert_eq!(written["version"], 6);
}
