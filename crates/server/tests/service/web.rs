//! What browsers need, through the settings and the routes of the whole service.

use std::io::Read;

use flate2::read::GzDecoder;
use serde_json::json;

use crate::support::{
    Answer, Service,
    tokens::{SECRET, token_with},
};

const PAGE: &str = "https://app.example.org";

#[track_caller]
fn has_security_headers(answer: &Answer) {
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    assert_eq!(answer.headers["referrer-policy"], "no-referrer");
    assert!(answer.headers["content-security-policy"].starts_with("default-src 'none'"));
    assert!(!answer.headers.contains_key("server"));
}

#[tokio::test]
async fn every_kind_of_route_has_the_security_headers_and_none_is_open_to_other_origins() {
    let service = Service::start(&[]).await;
    for (method, path) in [
        ("GET", "/read/absent"),
        ("HEAD", "/read/absent"),
        ("DELETE", "/read/absent"),
        ("GET", "/users/1"),
        ("GET", "/users/"),
        ("POST", "/write"),
        ("POST", "/read"),
        ("GET", "/health"),
        ("GET", "/openapi.json"),
        ("GET", "/docs"),
        ("GET", "/docs/"),
        ("GET", "/docs/swagger-ui.css"),
        ("GET", "/admin/state"),
        ("GET", "/nowhere"),
        ("PUT", "/write"),
        ("OPTIONS", "/write"),
    ] {
        let answer = service.ask(method, path, &[("origin", PAGE)], "").await;
        has_security_headers(&answer);
        let mut names = answer.headers.keys();
        assert!(!names.any(|name| name.starts_with("access-control")), "{path}");
    }
}

#[tokio::test]
async fn the_documentation_needs_nothing_from_elsewhere_and_its_policy_allows_what_it_needs() {
    let service = Service::start(&[]).await;
    let page = service.get("/docs/").await;
    let policy = &page.headers["content-security-policy"];
    for part in [
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe-eval") && !policy.contains("http"), "{policy}");
    // Scripts in the page itself would be blocked.
    for script in page.text().split("<script").skip(1) {
        let (tag, code) = script.split_once('>').unwrap();
        let code = code.split("</script>").next().unwrap();
        assert!(tag.contains("src=\"./") && code.trim().is_empty(), "{script}");
    }
    let initializer = service.get("/docs/swagger-initializer.js").await;
    let text = initializer.text();
    assert!(text.contains("../openapi.json"), "{text}");
    assert!(text.contains(r#""validatorUrl": "none""#), "{text}");
}

#[tokio::test]
async fn a_page_of_a_listed_origin_may_use_the_service() {
    let service = Service::start(&[("CORS_ORIGINS", PAGE), ("CORS_MAX_AGE", "1h")]).await;
    service.write("key", "value").await;
    let preflight = [("origin", PAGE), ("access-control-request-method", "POST")];
    for path in ["/write", "/read/key", "/users/", "/admin/state"] {
        let answer = service.ask("OPTIONS", path, &preflight, "").await;
        assert_eq!(answer.status, 204);
        assert_eq!(answer.headers["access-control-allow-origin"], PAGE);
        assert_eq!(answer.headers["access-control-max-age"], "3600");
    }
    let headers = [("origin", PAGE), ("content-type", "application/json")];
    let body = json!({"key": "key", "value": "of a page"}).to_string();
    for answer in [
        service.ask("GET", "/read/key", &headers[..1], "").await,
        service.ask("POST", "/write", &headers, body).await,
    ] {
        answer.json(200);
        assert_eq!(answer.headers["access-control-allow-origin"], PAGE);
        assert_eq!(answer.headers["vary"], "Origin");
    }
    let elsewhere = service
        .ask("GET", "/read/key", &[("origin", "https://evil.org")], "")
        .await;
    assert!(!elsewhere.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn documentation_and_lists_are_compressed_and_nothing_that_holds_a_secret() {
    let service = Service::start(&[("COMPRESSION", "true")]).await;
    let session = service.database.session().await;
    session
        .run("INSERT INTO users (name, email) SELECT 'Ada', n || '@example.org' FROM generate_series(1, 100) n")
        .await;
    service.write("key", &"value ".repeat(1000)).await;
    // On HTTP/1.0 the body ends with the connection, so the bytes are those of the gzip stream.
    let ask = async |path: &str| {
        let request = format!("GET {path} HTTP/1.0\r\nhost: x\r\naccept-encoding: gzip\r\n\r\n");
        let mut all = service.connect().await.exchange_to_the_end(&request).await;
        let head = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let body = all.split_off(head);
        (String::from_utf8(all).unwrap(), body)
    };
    for path in ["/openapi.json", "/docs/swagger-ui-bundle.js", "/users/"] {
        let (head, packed) = ask(path).await;
        assert!(head.contains("content-encoding: gzip\r\n"), "{head}");
        assert!(head.contains("vary: Accept-Encoding\r\n"), "{head}");
        let mut unpacked = Vec::new();
        GzDecoder::new(&*packed).read_to_end(&mut unpacked).unwrap();
        let plain = service.get(path).await;
        assert!(unpacked == plain.body, "{path}");
        assert!(
            packed.len() * 2 < plain.body.len(),
            "{path}: {} of {}",
            packed.len(),
            plain.body.len()
        );
    }
    for path in ["/read/key", "/admin/state", "/pool-stats"] {
        let (head, _) = ask(path).await;
        assert!(
            !head.contains("content-encoding") && !head.contains("vary"),
            "{path}: {head}"
        );
    }
    let keys = json!({"keys": ["key"]}).to_string();
    let headers = [("content-type", "application/json"), ("accept-encoding", "gzip")];
    let many = service.ask("POST", "/read", &headers, keys).await;
    assert!(!many.headers.contains_key("content-encoding"));
}

#[tokio::test]
async fn server_timing_tells_whether_cache_or_database_took_the_time() {
    let service = Service::start(&[("SERVER_TIMING", "true")]).await;
    let names = |answer: &Answer| -> Vec<String> {
        let header = answer.headers["server-timing"].split(", ");
        header
            .map(|entry| entry.split(';').next().unwrap().to_owned())
            .collect()
    };
    let body = json!({"key": "key", "value": "value"});
    assert_eq!(names(&service.post("/write", &body).await), ["db", "total"]);
    assert_eq!(names(&service.get("/read/key").await), ["db", "total"]);
    assert_eq!(names(&service.get("/read/key").await), ["cache", "total"]);
    let head = service.ask("HEAD", "/read/key", &[], "").await;
    assert_eq!(names(&head), ["cache", "total"], "by the router");
    assert_eq!(names(&service.get("/users/1").await), ["db", "total"]);
    let large = "x".repeat(100_000);
    service.write("large", &large).await;
    assert_eq!(names(&service.get("/read/large").await), ["wait", "db", "total"]);
    assert_eq!(names(&service.get("/nowhere").await), ["total"]);
    let limited = Service::start(&[("SERVER_TIMING", "true"), ("RATE_LIMIT_READ", "1000/min")]).await;
    assert_eq!(names(&limited.get("/users/1").await), ["auth", "limit", "db", "total"]);
}

#[tokio::test]
async fn a_caller_with_the_scope_admin_is_told_where_the_time_went() {
    let service = Service::start(&[
        ("AUTH", "jwt"),
        ("JWT_SECRET", SECRET),
        ("JWT_ISSUER", "https://issuer.example"),
        ("JWT_AUDIENCE", "cenote"),
        ("RATE_LIMIT_READ", "1000/min"),
    ])
    .await;
    let timing = async |scopes: &str, path: &str| {
        let bearer = format!("Bearer {}", token_with(scopes, |_| {}));
        let answer = service.ask("GET", path, &[("authorization", &bearer)], "").await;
        answer.headers.get("server-timing").cloned()
    };
    let told = timing("read admin", "/users/1").await.unwrap();
    let names: Vec<_> = told.split(", ").map(|entry| entry.split(';').next().unwrap()).collect();
    assert_eq!(names, ["limit", "db", "total"]);
    assert!(timing("admin", "/read/x").await.is_some(), "a refusal takes time too");
    assert_eq!(timing("read", "/users/1").await, None);
    assert!(!service.get("/users/1").await.headers.contains_key("server-timing"));
}
