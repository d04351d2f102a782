//! Which request a line of the log is about, and the trace that a request belongs to.

use serde_json::{Value, json};

use crate::support::{Service, eventually};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The tables are renamed, so PostgreSQL refuses every statement.
async fn broken_service() -> Service {
    let service = Service::start(&[("CACHE_MODE", "off")]).await;
    let session = service.database.session().await;
    session.run("ALTER TABLE kv RENAME TO kv_away").await;
    service
}

#[tokio::test]
async fn a_line_about_a_request_has_its_id_its_route_and_the_trace_of_its_caller() {
    let service = broken_service().await;
    let headers = [("x-request-id", "one"), ("traceparent", TRACEPARENT)];
    let answer = service.ask("GET", "/read/some-key", &headers, "").await;
    assert_eq!(answer.headers["x-request-id"], "one");
    answer.problem(503, "schema-not-ready");
    let line = service
        .logged_with("request failed", |line| line["request_id"] == "one")
        .await;
    assert_eq!(line["route"], "/read/{key}");
    assert_eq!(line["trace_id"], TRACE);
    assert_eq!(line["path"], "/read/some-key");
}

#[tokio::test]
async fn a_malformed_traceparent_is_ignored() {
    let service = broken_service().await;
    let twice = [
        ("x-request-id", "two"),
        ("traceparent", TRACEPARENT),
        ("traceparent", TRACEPARENT),
    ];
    service
        .ask("GET", "/read/key", &twice, "")
        .await
        .problem(503, "schema-not-ready");
    let capitals = TRACEPARENT.to_uppercase();
    let capitals = [("x-request-id", "three"), ("traceparent", &*capitals)];
    service
        .ask("GET", "/read/key", &capitals, "")
        .await
        .problem(503, "schema-not-ready");
    for id in ["two", "three"] {
        let line = service
            .logged_with("request failed", |line| line["request_id"] == id)
            .await;
        assert_eq!(line["trace_id"], Value::Null, "{line}");
    }
}

#[tokio::test]
async fn a_line_that_another_crate_writes_during_a_request_names_the_request() {
    let service = Service::start(&[("DB_ECHO", "true")]).await;
    let headers = [("x-request-id", "echoed")];
    service.ask("GET", "/users/", &headers, "").await.json(200);
    let line = service
        .logged_with("statement", |line| line["request_id"] == "echoed")
        .await;
    assert_eq!(line["target"], "cenote::sql");
    assert_eq!(line["route"], "/users");
    assert!(line["sql"].as_str().unwrap().contains("users"), "{line}");
}

/// A trigger makes every write take 300 ms.
async fn slow_service(settings: &[(&str, &str)]) -> Service {
    let service = Service::start(&[&[("DB_SLOW_QUERY", "0.05")], settings].concat()).await;
    service.database.session().await.slow_writes_down(0.3).await;
    service
}

async fn write(service: &Service, id: &str, value: &str) {
    let body = json!({"key": id, "value": value}).to_string();
    let headers = [("x-request-id", id), ("content-type", "application/json")];
    service.ask("POST", "/write", &headers, &body).await.json(200);
}

#[tokio::test]
async fn a_slow_statement_is_told_with_its_times_and_its_request_and_without_parameters() {
    let service = slow_service(&[]).await;
    write(&service, "slow-one", "top secret").await;
    let line = service
        .logged_with("slow statement", |line| line["statement"] == "key.write")
        .await;
    assert_eq!(line["request_id"], "slow-one");
    assert_eq!(line["route"], "/write");
    assert!(line["execute_us"].as_u64().unwrap() >= 300_000, "{line}");
    for time in ["queue_us", "wait_us"] {
        assert!(line[time].as_u64().unwrap() < 300_000, "{time}: {line}");
    }
    assert_eq!((&line["rows"], &line["requests"]), (&json!(1), &json!(1)));
    assert!(line["holder"].as_str().unwrap().contains(".rs:"), "{line}");
    assert_eq!(line.get("sql"), None, "a statement with a name needs no text");

    let recent = service.get("/admin/recent").await.json(200);
    let kept = &recent["slow_statements"][0];
    assert_eq!(
        (&kept["name"], &kept["request_id"]),
        (&json!("key.write"), &json!("slow-one"))
    );
    assert_eq!(kept["execute_us"], line["execute_us"]);
    assert!(kept["at_ms"].as_u64().unwrap() > 1_700_000_000_000);
    assert!(!service.log().contains("top secret") && !recent.to_string().contains("top secret"));
}

/// The second and the third write come while the first one holds the only connection, so they share a statement.
#[tokio::test]
async fn a_slow_statement_of_several_requests_tells_their_number_and_how_long_they_waited() {
    let service = slow_service(&[("DB_POOL_MIN", "1"), ("DB_POOL_MAX", "1"), ("HTTP_CORES", "1")]).await;
    let later = async |id: &'static str| {
        eventually("the first write holds the connection", async || {
            let stats = service.get("/pool-stats").await.json(200);
            (stats["checked_out"] == 1).then_some(())
        })
        .await;
        write(&service, id, "value").await;
    };
    tokio::join!(write(&service, "first", "value"), later("second"), later("third"));
    let line = service
        .logged_with("slow statement", |line| line["requests"] == 2)
        .await;
    assert_eq!(line["statement"], "key.change");
    assert_eq!(line.get("request_id"), None, "{line}");
    assert!(
        line["queue_us"].as_u64().unwrap() + line["wait_us"].as_u64().unwrap() > 1_000,
        "{line}"
    );
}

#[tokio::test]
async fn the_last_failures_are_kept_with_their_ids_and_reasons() {
    let service = broken_service().await;
    let headers = [("x-request-id", "failed-one"), ("traceparent", TRACEPARENT)];
    service
        .ask("GET", "/read/key", &headers, "")
        .await
        .problem(503, "schema-not-ready");
    let recent = service.get("/admin/recent").await.json(200);
    let kept = &recent["failed_requests"][0];
    for (name, value) in [
        ("request_id", json!("failed-one")),
        ("trace_id", json!(TRACE)),
        ("route", json!("/read/{key}")),
        ("status", json!(503)),
        ("code", json!("schema-not-ready")),
    ] {
        assert_eq!(kept[name], value, "{kept}");
    }
    assert!(kept["text"].as_str().unwrap().contains("does not exist"), "{kept}");
    for number in 0..100 {
        service.get(&format!("/read/other-{number}")).await;
    }
    let recent = service.get("/admin/recent").await.json(200);
    assert!(recent["failed_requests"].as_array().unwrap().len() <= 50);
}
