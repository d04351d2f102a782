//! Requests that no handler answers: each path knows its methods, and a path with a slash too many is redirected.

use axum::Router;
use axum::routing::{get, post};
use cenote::http::{HttpConfig, Key};

use crate::support::{Answer, Server, start};

fn server() -> Server {
    let read = async |Key(key): Key| key;
    let router = Router::new()
        .route("/write", post(async || "written"))
        .route("/read", post(async || "many"))
        .route("/read/", get(read).delete(async || ""))
        .route("/read/{*key}", get(read).delete(async || ""))
        .route("/users", get(async || "all").post(async || "new"))
        .route("/users/", get(async || "all").post(async || "new"))
        .route("/users/{id}", get(async || "one"))
        .route("/health/live", get(async || "ok"));
    start(router, HttpConfig::default())
}

async fn ask(server: &Server, method: &str, target: &str) -> Answer {
    server
        .ask(format!("{method} {target} HTTP/1.1\r\nhost: x\r\n\r\n"))
        .await
}

#[tokio::test]
async fn options_is_answered_on_every_path_with_what_is_allowed_there() {
    let server = server();
    for (path, allow) in [
        ("*", "GET,HEAD,POST,DELETE,OPTIONS"),
        ("/", "OPTIONS"),
        ("/nowhere", "OPTIONS"),
        ("/write", "POST,OPTIONS"),
        ("/read", "POST,OPTIONS"),
        ("/read/", "GET,HEAD,DELETE,OPTIONS"),
        ("/read/a/b%2F?x", "GET,HEAD,DELETE,OPTIONS"),
        ("/users", "GET,HEAD,POST,OPTIONS"),
        ("/users/7", "GET,HEAD,OPTIONS"),
        ("http://x/health/live", "GET,HEAD,OPTIONS"),
    ] {
        let answer = ask(&server, "OPTIONS", path).await;
        assert_eq!((answer.status, &*answer.headers["allow"]), (204, allow), "{path}");
        assert!(answer.body.is_empty() && !answer.headers.contains_key("content-type"));
    }
    // The default request of a load balancer.
    assert_eq!(server.ask("OPTIONS / HTTP/1.0\r\n\r\n").await.status, 204);
    // A page of another site gets no permission.
    let preflight =
        "OPTIONS /write HTTP/1.1\r\nhost: x\r\norigin: http://y\r\naccess-control-request-method: POST\r\n\r\n";
    let answer = server.ask(preflight).await;
    assert!(!answer.headers.keys().any(|name| name.starts_with("access-control")));
}

#[tokio::test]
async fn a_method_that_is_not_allowed_is_405_with_those_that_are() {
    let server = server();
    for (method, path, allow) in [
        ("GET", "/write", "POST,OPTIONS"),
        ("PUT", "/users", "GET,HEAD,POST,OPTIONS"),
        ("TRACE", "/write", "POST,OPTIONS"),
        ("TRACE", "/nowhere", "GET,HEAD,POST,DELETE,OPTIONS"),
        ("CONNECT", "x:443", "GET,HEAD,POST,DELETE,OPTIONS"),
        ("get", "/users", "GET,HEAD,POST,OPTIONS"),
    ] {
        let answer = ask(&server, method, path).await;
        assert_eq!(
            (answer.status, &*answer.headers["allow"]),
            (405, allow),
            "{method} {path}"
        );
        answer.problem();
    }
}

#[tokio::test]
async fn a_path_with_a_slash_too_many_is_redirected_to_the_path_without_it() {
    let server = server();
    for (method, path, location) in [
        ("GET", "/health/live/", "../live"),
        ("HEAD", "/health/live/", "../live"),
        ("GET", "/health/live//", "../../live"),
        ("GET", "/health/live/?a=b&c=%20", "../live?a=b&c=%20"),
        ("GET", "/users/1/", "../1"),
        ("POST", "/write/", "../write"),
        ("POST", "/read/", "../read"),
        ("GET", "/users//", "../../users"),
        // With any text in the path, the redirect stays on this host: a reference that begins with `../` is a path.
        ("GET", "/users/x:y/", "../x:y"),
        ("GET", "/users/%2F%2Fevil.example/", "../%2F%2Fevil.example"),
    ] {
        let answer = ask(&server, method, path).await;
        assert_eq!(
            (answer.status, &*answer.headers["location"]),
            (307, location),
            "{method} {path}"
        );
    }
    for (method, path, status) in [
        ("GET", "/users/", 200),
        ("POST", "/users/", 200),
        ("GET", "/read/key/", 200),
        ("PUT", "/read/key/", 405),
        ("GET", "/nowhere/", 404),
        ("GET", "//evil.example/", 404),
        ("GET", "//", 404),
        ("GET", "///", 404),
        ("GET", "/", 404),
        ("GET", "//health/live/", 404),
        ("OPTIONS", "/nowhere/", 204),
    ] {
        let answer = ask(&server, method, path).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(!answer.headers.contains_key("location"), "{method} {path}");
    }
}
