//! Every error is a problem of RFC 9457 that says what to do and reveals nothing internal.

use serde_json::json;

use crate::support::Service;

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

#[tokio::test]
async fn a_body_that_is_not_json_is_400_with_line_and_column() {
    let service = Service::start(&[]).await;
    for path in ["/write", "/read", "/users/"] {
        for body in ["{", "{\"key\": }", "nonsense", "{'key': 1}", "\u{feff}{}", "  "] {
            let answer = service.ask("POST", path, &JSON, body).await;
            answer.problem(400, "malformed-json");
        }
        let answer = service.ask("POST", path, &[], "").await;
        answer.problem(400, "malformed-json");
    }
    let invalid = b"{\"key\":\"\xff\",\"value\":\"\"}";
    let answer = service.ask("POST", "/write", &JSON, invalid).await;
    answer.problem(400, "malformed-json");
    let answer = service.ask("POST", "/write", &JSON, "{\n  \"key\": tru").await;
    let detail = answer.problem(400, "malformed-json")["detail"].to_string();
    assert!(detail.contains("line 2"), "{detail}");
}

#[tokio::test]
async fn a_body_that_does_not_fit_is_422_and_names_the_field() {
    let service = Service::start(&[]).await;
    for (path, body, field) in [
        ("/write", json!({"value": "v"}), "key"),
        ("/write", json!({"key": "k"}), "value"),
        ("/write", json!({"key": 1, "value": "v"}), "key"),
        ("/write", json!({"key": "k", "value": {"a": 1}}), "value"),
        ("/write", json!({"key": null, "value": "v"}), "key"),
        ("/write", json!([]), ""),
        ("/write", json!("text"), ""),
        ("/write", json!(["k", "v"]), ""),
        ("/read", json!({}), "keys"),
        ("/read", json!({"keys": "k"}), "keys"),
        ("/read", json!({"keys": ["k", 2]}), "keys[1]"),
        ("/users/", json!({"name": [], "email": "a@b.org"}), "name"),
    ] {
        let wrong = service.post(path, &body).await.wrong_fields();
        assert_eq!(wrong, [field], "{path} {body}");
    }
}

#[tokio::test]
async fn an_unknown_path_is_404_and_an_unknown_method_405_with_those_that_work() {
    let service = Service::start(&[]).await;
    for path in ["/nothing", "/writes", "/users/1/posts", "/health/x", "/read.txt", "//"] {
        service.get(path).await.problem(404, "not-found");
    }
    for (method, path, allowed) in [
        ("GET", "/write", &["OPTIONS", "POST"][..]),
        ("PUT", "/write", &["OPTIONS", "POST"]),
        ("GET", "/read", &["OPTIONS", "POST"]),
        ("PUT", "/read/key", &["DELETE", "GET", "HEAD", "OPTIONS"]),
        ("POST", "/read/key", &["DELETE", "GET", "HEAD", "OPTIONS"]),
        ("DELETE", "/users/", &["GET", "HEAD", "OPTIONS", "POST"]),
        ("PATCH", "/users", &["GET", "HEAD", "OPTIONS", "POST"]),
        ("DELETE", "/users/1", &["GET", "HEAD", "OPTIONS"]),
        ("POST", "/health", &["GET", "HEAD", "OPTIONS"]),
        ("POST", "/health/live", &["GET", "HEAD", "OPTIONS"]),
        ("DELETE", "/pool-stats", &["GET", "HEAD", "OPTIONS"]),
        ("POST", "/cache-stats", &["GET", "HEAD", "OPTIONS"]),
    ] {
        let answer = service.ask(method, path, &[], "").await;
        answer.problem(405, "method-not-allowed");
        let mut allow: Vec<_> = answer.headers["allow"].split(',').map(str::trim).collect();
        allow.sort_unstable();
        assert_eq!(allow, allowed, "{method} {path}");
    }
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_413_and_one_at_the_limit_is_not() {
    let service = Service::start(&[("HTTP_MAX_BODY", "4k")]).await;
    let body = |length: usize| {
        let frame = json!({"key": "k", "value": ""}).to_string().len();
        json!({"key": "k", "value": "x".repeat(length - frame)}).to_string()
    };
    let fits = service.ask("POST", "/write", &JSON, body(4096)).await;
    fits.json(200);
    let long = service.ask("POST", "/write", &JSON, body(4097)).await;
    let problem = long.problem(413, "payload-too-large");
    assert_eq!(problem["limit_bytes"], 4096);
}

#[tokio::test]
async fn a_body_of_another_media_type_is_415() {
    let service = Service::start(&[]).await;
    let body = json!({"key": "k", "value": "v"}).to_string();
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"] {
        let headers = [("content-type", kind)];
        let answer = service.ask("POST", "/write", &headers, &body).await;
        answer.problem(415, "unsupported-media-type");
    }
    for kind in [
        "",
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/x+json",
    ] {
        let headers = [("content-type", kind)];
        service.ask("POST", "/write", &headers, &body).await.json(200);
    }
}

#[tokio::test]
async fn an_error_has_a_request_id_and_every_answer_keeps_that_of_the_caller() {
    let service = Service::start(&[]).await;
    let own = service.get("/read/nothing").await;
    assert!(!own.headers["x-request-id"].is_empty());
    let headers = [("x-request-id", "trace-1.2_3")];
    for path in ["/users/x", "/users/1", "/users/", "/read/nothing"] {
        let answer = service.ask("GET", path, &headers, "").await;
        assert_eq!(answer.headers["x-request-id"], "trace-1.2_3", "{path}");
    }
}

/// The tables are renamed while the service runs, so PostgreSQL refuses every statement.
#[tokio::test]
async fn a_refused_statement_tells_the_caller_nothing_and_the_log_the_reason() {
    let service = Service::start(&[("CACHE_MODE", "off")]).await;
    let session = service.database.session().await;
    session
        .run("ALTER TABLE kv RENAME TO kv_away; ALTER TABLE users RENAME TO users_away")
        .await;
    let user = json!({"name": "Ada", "email": "ada@example.org"});
    for answer in [
        service.get("/read/key").await,
        service.delete("/read/key").await,
        service.post("/write", &json!({"key": "key", "value": "v"})).await,
        service.post("/read", &json!({"keys": ["key"]})).await,
        service.get("/users/").await,
        service.get("/users/1").await,
        service.post("/users/", &user).await,
    ] {
        answer.problem(503, "schema-not-ready");
    }
    let failed = service.logged_with("request failed", |event| event["path"] == "/read/key");
    let failed = failed.await;
    let cause = failed["cause"].as_str().unwrap();
    assert!(cause.contains("does not exist"), "{cause}");

    session
        .run("ALTER TABLE kv_away RENAME TO kv; ALTER TABLE users_away RENAME TO users")
        .await;
    service.write("key", "value").await;
}

#[tokio::test]
async fn a_value_that_a_rule_of_the_database_refuses_is_422_without_the_text_of_the_rule() {
    let service = Service::start(&[]).await;
    let session = service.database.session().await;
    session
        .run("ALTER TABLE kv ADD CONSTRAINT odd CHECK (value <> 'forbidden')")
        .await;
    let forbidden = json!({"key": "key", "value": "forbidden"});
    let answer = service.post("/write", &forbidden).await;
    answer.problem(422, "validation");
    assert!(!answer.text().contains("odd") && !answer.text().contains("forbidden"));
    service.write("key", "allowed").await;
}

#[tokio::test]
async fn a_pool_timeout_says_how_long_it_waited_and_what_the_pool_was_doing() {
    let settings = [
        ("DB_POOL_MIN", "1"),
        ("DB_POOL_MAX", "1"),
        ("DB_POOL_TIMEOUT", "0.3"),
        ("COMMAND_TIMEOUT", "10"),
    ];
    let service = std::sync::Arc::new(Service::start(&settings).await);
    service.write("key", "one").await;
    let session = service.database.session().await;
    session
        .run("BEGIN; UPDATE kv SET value = 'two' WHERE key = 'key'")
        .await;
    let blocked = tokio::spawn({
        let service = service.clone();
        async move { service.write("key", "three").await }
    });
    session.sees_blocked(1).await;
    let refused = service.get("/read/other").await;
    let problem = refused.problem(503, "pool-timeout");
    let detail = problem["detail"].as_str().unwrap();
    let waited = problem["waited_ms"].as_f64().unwrap() / 1000.0;
    assert!((0.3..10.0).contains(&waited), "{problem}");
    let told = detail.strip_prefix("waited ").and_then(|rest| rest.split(' ').next());
    let told: f64 = told.unwrap().parse().unwrap();
    assert!((told - waited).abs() < 0.01, "{problem}");
    for part in ["1 of 1 in use", "0 idle", "0 connecting"] {
        assert!(detail.contains(part), "{part:?} in {detail}");
    }
    assert_eq!(problem["in_use"], 1);
    assert_eq!(problem["idle"], 0);
    session.run("COMMIT").await;
    assert!(blocked.await.unwrap() > 1);
    service.read("key").await.json(200);
}

#[tokio::test]
async fn more_waiters_than_allowed_are_503_at_once() {
    let settings = [
        ("DB_POOL_MIN", "1"),
        ("DB_POOL_MAX", "1"),
        ("DB_POOL_MAX_WAITERS", "0"),
        ("COMMAND_TIMEOUT", "10"),
    ];
    let service = std::sync::Arc::new(Service::start(&settings).await);
    service.write("key", "one").await;
    let session = service.database.session().await;
    session
        .run("BEGIN; UPDATE kv SET value = 'two' WHERE key = 'key'")
        .await;
    let blocked = tokio::spawn({
        let service = service.clone();
        async move { service.write("key", "three").await }
    });
    session.sees_blocked(1).await;
    let asked = tokio::time::Instant::now();
    let refused = service.get("/read/other").await;
    refused.problem(503, "pool-overloaded");
    // The pool waits for 30 s otherwise.
    assert!(asked.elapsed() < crate::support::AT_ONCE);
    session.run("COMMIT").await;
    blocked.await.unwrap();
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_504_and_is_ended_on_the_server_too() {
    let settings = [("COMMAND_TIMEOUT", "1.5"), ("CACHE_MODE", "off")];
    let service = Service::start(&settings).await;
    service.write("key", "one").await;
    let session = service.database.session().await;
    session.run("BEGIN; LOCK TABLE kv IN ACCESS EXCLUSIVE MODE").await;
    let read = service.get("/read/key").await;
    let detail = read.problem(504, "command-timeout")["detail"].to_string();
    assert!(detail.contains("1.5 s") && !detail.contains("not known"), "{detail}");
    let write = service.post("/write", &json!({"key": "key", "value": "two"})).await;
    let detail = write.problem(504, "command-timeout")["detail"].to_string();
    assert!(detail.contains("not known"), "{detail}");
    session.sees_blocked(0).await;
    session.run("COMMIT").await;
    assert_eq!(service.read("key").await.json(200)["value"], "one");
}
