//! Every error is a problem, which says what callers may know and no more.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use cenote::http::{HttpConfig, Member, Problem};
use serde_json::json;

use crate::support::{get as get_request, start};

#[tokio::test]
async fn an_unknown_path_is_a_404_problem() {
    let server = start(Router::new(), HttpConfig::default());
    let answer = server.ask(get_request("/nowhere")).await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.problem()["type"], "urn:cenote:problem:not-found");
}

#[tokio::test]
async fn a_wrong_method_is_a_405_problem_that_lists_the_right_ones() {
    let router = Router::new().route("/a", get(async || "").delete(async || ""));
    let server = start(router, HttpConfig::default());
    let answer = server.ask("PUT /a HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(answer.status, 405);
    assert_eq!(answer.headers["allow"], "GET,HEAD,DELETE,OPTIONS");
    assert_eq!(answer.problem()["type"], "urn:cenote:problem:method-not-allowed");
}

#[tokio::test]
async fn every_status_of_the_contract_has_its_problem() {
    type Make = fn() -> Problem;
    let all: [(u16, &str, Make); 13] = [
        (400, "bad-request", || Problem::bad_request("d")),
        (400, "malformed-json", || Problem::malformed_json("d")),
        (404, "not-found", || Problem::not_found("d")),
        (405, "method-not-allowed", Problem::method_not_allowed),
        (408, "request-timeout", Problem::request_timeout),
        (409, "conflict", || Problem::conflict("d")),
        (413, "payload-too-large", || Problem::payload_too_large(7)),
        (415, "unsupported-media-type", || Problem::unsupported_media_type("d")),
        (422, "validation", || {
            Problem::unprocessable().field("a.b", "is required")
        }),
        (500, "internal", || Problem::internal("secret")),
        (503, "pool-timeout", || Problem::unavailable("pool-timeout", "d", 2)),
        (504, "command-timeout", || Problem::gateway_timeout("d").cause("secret")),
        (418, "teapot", || {
            Problem::new(StatusCode::IM_A_TEAPOT, "teapot", "Teapot", "d")
        }),
    ];
    let router = all.iter().enumerate().fold(Router::new(), |router, (n, (.., make))| {
        let make = *make;
        router.route(&format!("/{n}"), get(async move || make()))
    });
    let server = start(router, HttpConfig::default());
    for (n, (status, slug, _)) in all.iter().enumerate() {
        let answer = server.ask(get_request(&format!("/{n}"))).await;
        assert_eq!(answer.status, *status);
        assert_eq!(answer.problem()["type"], format!("urn:cenote:problem:{slug}"));
        assert!(!answer.text().contains("secret"));
        match status {
            503 => assert_eq!(answer.headers["retry-after"], "2"),
            413 => assert_eq!(answer.problem()["limit_bytes"], 7),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_problem_has_its_members_in_order() {
    let make = async || {
        Problem::unavailable("pool-timeout", "no connection came free", 1)
            .member("waited_ms", Member::Number(30))
            .member("reason", Member::Text("busy".into()))
            .field("a", "is \"odd\"")
    };
    let server = start(Router::new().route("/", post(make)), HttpConfig::default());
    let answer = server.post("/", "").await;
    let text = r#"{"type":"urn:cenote:problem:pool-timeout","title":"Service unavailable","status":503,"detail":"no connection came free","errors":[{"field":"a","detail":"is \"odd\""}],"waited_ms":30,"reason":"busy"}"#;
    assert_eq!(answer.text(), text);
    assert_eq!(
        answer.problem()["errors"],
        json!([{"field": "a", "detail": "is \"odd\""}])
    );
}
