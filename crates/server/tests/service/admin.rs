//! What an administrator does to a running service.

use serde_json::json;

use crate::support::{AT_ONCE, Service, eventually, secs};

#[tokio::test]
async fn a_pause_holds_requests_and_a_resume_serves_them() {
    let service = Service::start(&[("CACHE_MODE", "off")]).await;
    service.write("key", "before").await;
    let state = service.post("/admin/pause", &json!({"seconds": 600})).await.json(200);
    assert_eq!(state["paused"], true);
    assert!(state["resumes_in_s"].as_f64().unwrap() > 590.0, "{state}");
    assert_eq!(state["in_use"], 0);
    let health = service.get("/health").await.json(200);
    assert_eq!(health["status"], "degraded");
    assert_eq!(health["pool"]["problem"], "paused");
    let mut waiting = service.connect().await;
    let write = tokio::spawn(async move {
        let body = json!({"key": "key", "value": "after"});
        waiting.post("/write", &body).await.unwrap().json(200)
    });
    eventually("the write waits", async || {
        let stats = service.get("/pool-stats").await.json(200);
        (stats["waiting"].as_u64() > Some(0)).then_some(())
    })
    .await;
    assert!(!write.is_finished());
    let state = service.post("/admin/resume", &json!({})).await.json(200);
    assert_eq!(state["paused"], false);
    tokio::time::timeout(AT_ONCE, write).await.unwrap().unwrap();
    assert_eq!(service.read("key").await.json(200)["value"], "after");
    // Both are idempotent.
    assert_eq!(
        service.post("/admin/resume", &json!({})).await.json(200)["paused"],
        false
    );
}

#[tokio::test]
async fn a_forgotten_pause_ends_by_itself() {
    let service = Service::start(&[("CACHE_MODE", "off")]).await;
    service.write("key", "value").await;
    service.post("/admin/pause", &json!({"seconds": 3600})).await.json(200);
    // The later deadline holds.
    service.post("/admin/pause", &json!({"seconds": 1})).await.json(200);
    let begun = tokio::time::Instant::now();
    service.write("key", "again").await;
    assert!(begun.elapsed() < AT_ONCE);
    let state = service.get("/admin/state").await.json(200);
    assert_eq!(state["paused"], false);
    assert!(state.get("resumes_in_s").is_none(), "{state}");
}

#[tokio::test]
async fn the_pool_is_resized_while_it_serves() {
    let service = Service::start(&[("DB_POOL_MIN", "1"), ("DB_POOL_MAX", "2")]).await;
    let state = service
        .post("/admin/resize", &json!({"min": 5, "max": 6}))
        .await
        .json(200);
    assert_eq!(
        (&state["min"], &state["max"], &state["overflow"]),
        (&json!(5), &json!(6), &json!(0))
    );
    eventually("the pool has grown", async || {
        let stats = service.get("/pool-stats").await.json(200);
        (stats["pool_size"] == 5).then_some(())
    })
    .await;
    let refused = service.post("/admin/resize", &json!({"min": 7})).await;
    assert_eq!(refused.wrong_fields(), ["max"]);
    assert_eq!(service.get("/admin/state").await.json(200)["min"], 5);
    service.write("key", "value").await;
}

#[tokio::test]
async fn a_host_is_taken_out_of_use_and_back() {
    let service = Service::start(&[("CACHE_MODE", "off"), ("DB_POOL_TIMEOUT", "0.2")]).await;
    let state = service.get("/admin/state").await.json(200);
    let host = state["hosts"][0]["host"].as_str().unwrap().to_owned();
    let is_drained = async || service.get("/admin/state").await.json(200)["hosts"][0]["drained"] == true;
    assert!(!is_drained().await);
    service
        .post("/admin/drain", &json!({"host": "nowhere"}))
        .await
        .problem(404, "not-found");
    service.post("/admin/drain", &json!({"host": host})).await.json(200);
    assert!(is_drained().await);
    eventually("its connections are closed", async || {
        let stats = service.get("/pool-stats").await.json(200);
        (stats["pool_size"] == 0).then_some(())
    })
    .await;
    service
        .post("/admin/drain", &json!({"host": host, "restore": true}))
        .await
        .json(200);
    eventually("it is used again", async || {
        (service.get("/read/none").await.status == 404).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_log_is_changed_at_run_time_and_a_bad_filter_changes_nothing() {
    let service = Service::start(&[("LOG", "info")]).await;
    service.get("/read/quiet").await;
    let state = service
        .post("/admin/log", &json!({"filter": "info,cenote=debug"}))
        .await
        .json(200);
    assert_eq!(state["log"], "info,cenote=debug");
    service.get("/read/loud").await;
    let line = service
        .logged_with("request", |line| line["path"] == "/read/loud")
        .await;
    assert_eq!(line["level"], "DEBUG");
    assert!(!service.log().contains("/read/quiet"));
    for wrong in ["loud", "cenote=", ""] {
        let refused = service.post("/admin/log", &json!({"filter": wrong})).await;
        assert_eq!(refused.wrong_fields(), ["filter"], "{wrong:?}");
    }
    assert_eq!(service.get("/admin/state").await.json(200)["log"], "info,cenote=debug");
}

#[tokio::test]
async fn a_flush_drops_what_was_cached() {
    let service = Service::start(&[]).await;
    service.write("key", "old").await;
    service.read("key").await.json(200);
    assert_eq!(service.read("key").await.json(200)["from_cache"], true);
    // Past the service, which does not see it.
    let session = service.database.session().await;
    session.run("UPDATE kv SET value = 'new' WHERE key = 'key'").await;
    assert_eq!(service.read("key").await.json(200)["value"], "old");
    service.post("/admin/flush", &json!({})).await.json(200);
    assert_eq!(service.read("key").await.json(200)["value"], "new");
}

#[tokio::test]
async fn every_call_leaves_a_line_in_the_audit_log() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.log");
    let service = Service::start(&[("AUDIT_LOG", file.to_str().unwrap())]).await;
    service
        .post("/admin/resize", &json!({"min": 1, "max": 7}))
        .await
        .json(200);
    service.post("/admin/resize", &json!({"max": 0})).await.wrong_fields();
    let foreign = [("x-forwarded-for", "192.0.2.1")];
    service
        .ask("GET", "/admin/state", &foreign, "")
        .await
        .problem(403, "forbidden");
    service.get("/read/x").await;
    let lines = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let results: Vec<_> = lines.iter().map(|line| line["result"].as_u64().unwrap()).collect();
    assert_eq!(results, [200, 422, 403], "{lines:?}");
    assert_eq!(lines[0]["what"], "POST /admin/resize");
    assert_eq!(lines[0]["detail"], "min 1, max 7, overflow 0");
    assert_eq!(
        (&lines[0]["who"], &lines[0]["from"]),
        (&json!("local"), &json!("127.0.0.1"))
    );
    assert!(lines[2].get("who").is_none(), "a stranger is not local: {}", lines[2]);
}

#[tokio::test]
async fn a_wrong_request_names_its_fields_and_changes_nothing() {
    let service = Service::start(&[]).await;
    for (path, body, field) in [
        ("/admin/pause", json!({"seconds": 0}), "seconds"),
        ("/admin/pause", json!({"seconds": 3601}), "seconds"),
        ("/admin/pause", json!({"seconds": "60"}), "seconds"),
        ("/admin/resize", json!({"max": 0}), "max"),
        ("/admin/drain", json!({}), "host"),
        ("/admin/log", json!({"filter": 1}), "filter"),
    ] {
        assert_eq!(service.post(path, &body).await.wrong_fields(), [field], "{path} {body}");
    }
    assert_eq!(service.get("/admin/state").await.json(200)["paused"], false);
    // The pool still serves.
    tokio::time::timeout(secs(10), service.write("key", "value"))
        .await
        .unwrap();
}
