//! A request whose head does not have one target, one host and one framing is refused; one that is only unusual is
//! served.

use axum::Router;
use axum::http::Request;
use axum::routing::{get, post};
use cenote::http::{HttpConfig, Json, Key};

use crate::connections::http2;
use crate::support::{Server, get as get_request, start};

#[derive(serde::Deserialize, garde::Validate)]
struct Anything {}

fn server() -> Server {
    let router = Router::new()
        .route("/", get(async || "hello"))
        .route("/", post(async |Json(Anything {}): Json<Anything>| "taken"))
        .route("/read/", get(async |Key(key): Key| key))
        .route("/read/{*key}", get(async |Key(key): Key| key));
    start(router, HttpConfig::default())
}

async fn status(server: &Server, request: &str) -> u16 {
    let answer = server.ask(request).await;
    if answer.status >= 400 && !answer.body.is_empty() {
        answer.problem();
    }
    answer.status
}

#[tokio::test]
async fn http_1_1_needs_exactly_one_valid_host() {
    let server = server();
    for hosts in [
        "",
        "host: x\r\nhost: x\r\n",
        "host: x\r\nHOST: y\r\n",
        "host: a b\r\n",
        "host: a/b\r\n",
        "host: user@x\r\n",
        "host: x:port\r\n",
        "host: [::1\r\n",
        "host: \u{e9}\r\n",
        "host: x, y\r\n",
    ] {
        for line in [
            "GET / HTTP/1.1",
            "GET http://x/ HTTP/1.1",
            "GET /nowhere HTTP/1.1",
            "OPTIONS * HTTP/1.1",
        ] {
            let answer = server.ask(format!("{line}\r\n{hosts}\r\n")).await;
            assert_eq!(answer.status, 400, "{line} {hosts}");
            let detail = answer.problem()["detail"].as_str().unwrap().to_owned();
            assert!(detail.contains("Host"), "{detail}");
        }
    }
    for host in ["x", "x:", "x:80", "127.0.0.1:8000", "[::1]:8000", "", "EXAMPLE.org"] {
        let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
        assert_eq!(status(&server, &request).await, 200, "{host}");
    }
}

#[tokio::test]
async fn http_1_0_needs_no_host_and_an_absolute_target_has_its_own() {
    let server = server();
    for request in [
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.0\r\nhost: x\r\n\r\n",
        "GET http://x/ HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET http://x/ HTTP/1.1\r\nhost: other\r\n\r\n",
        "GET http://x HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET http://[::1]:80/ HTTP/1.1\r\nhost: x\r\n\r\n",
    ] {
        assert_eq!(status(&server, request).await, 200, "{request}");
    }
    for request in [
        "GET / HTTP/1.0\r\nhost: x\r\nhost: x\r\n\r\n",
        "GET http://user@x/ HTTP/1.1\r\nhost: x\r\n\r\n",
    ] {
        assert_eq!(status(&server, request).await, 400, "{request}");
    }
}

#[tokio::test]
async fn an_http2_request_has_an_authority_and_a_host_that_differs_is_refused() {
    let server = server();
    for (host, expected) in [
        (None, 200),
        (Some("x:80"), 200),
        (Some("X:80"), 200),
        (Some("y"), 400),
        (Some("a b"), 400),
    ] {
        let mut client = http2(&server).await;
        let request = Request::get("http://x:80/");
        let request = match host {
            Some(host) => request.header("host", host),
            None => request,
        };
        let answer = client.send_request(request.body("".into()).unwrap()).await;
        assert_eq!(answer.unwrap().status(), expected, "{host:?}");
    }
}

#[tokio::test]
async fn a_body_is_framed_in_one_way() {
    let server = server();
    let post = |framing: &str, body: &str| {
        format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{framing}\r\n{body}")
    };
    let chunked = "2\r\n{}\r\n0\r\n\r\n";
    for (framing, body, expected) in [
        ("transfer-encoding: chunked\r\n", chunked, 200),
        ("transfer-encoding: Chunked\r\n", chunked, 200),
        // Extensions and trailers are ignored.
        (
            "transfer-encoding: chunked\r\n",
            "2;a=\"b;c\"\r\n{}\r\n0;x\r\nx: y\r\n\r\n",
            200,
        ),
        (
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            chunked,
            400,
        ),
        (
            "transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n",
            chunked,
            400,
        ),
        ("transfer-encoding: gzip, chunked\r\n", chunked, 501),
        ("transfer-encoding: chunked, chunked\r\n", chunked, 501),
        ("content-length: 2\r\ncontent-length: 2\r\n", "{}", 200),
    ] {
        let answer = server.ask(post(framing, body)).await;
        assert_eq!(answer.status, expected, "{framing}: {}", answer.text());
        let closes = answer.headers.get("connection").is_some_and(|value| value == "close");
        assert_eq!(closes, expected != 200, "{framing}");
    }
    // With both, the transfer coding counts, and the connection ends (RFC 9112, section 6.1).
    for framing in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
    ] {
        let mut client = server.client().await;
        client.send(post(framing, chunked) + &get_request("/")).await;
        let answer = client.answer().await;
        assert_eq!(
            (answer.status, &*answer.headers["connection"]),
            (200, "close"),
            "{framing}"
        );
        assert_eq!(client.ended().await, b"");
    }
    // These are refused before the request reaches a handler, with an empty answer.
    for framing in [
        "transfer-encoding: identity\r\n",
        "transfer-encoding: chunked, gzip\r\n",
        "transfer-encoding: xchunked\r\n",
        "content-length: 2\r\ncontent-length: 3\r\n",
        "content-length: +2\r\n",
        "content-length: -2\r\n",
        "content-length: 2, 2\r\n",
        "content-length: 0x2\r\n",
        "content-length: 99999999999999999999\r\n",
        "content-length : 2\r\n",
        "x: a\r\n b\r\n",
        "x: a\rb\r\n",
        "x: a\0b\r\n",
        ": x\r\n",
        "x y: z\r\n",
    ] {
        let mut client = server.client().await;
        client.send(post(framing, "{}")).await;
        let all = String::from_utf8(client.ended().await).unwrap();
        assert!(all.is_empty() || all.starts_with("HTTP/1.1 4"), "{framing}: {all}");
        assert!(!all.contains("taken"), "{framing}");
    }
}

#[tokio::test]
async fn a_target_too_long_is_414_and_a_head_too_large_431() {
    let server = server();
    let of = |length: usize| format!("GET /read/{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(length));
    assert_eq!(status(&server, &of(8000)).await, 200);
    assert_eq!(status(&server, &of(20_000)).await, 414);
    assert_eq!(status(&server, &of(60_000)).await, 414);
    assert_eq!(status(&server, &of(100_000)).await, 431);
    let query = format!("GET /?{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(20_000));
    assert_eq!(status(&server, &query).await, 414);
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(200));
    assert_eq!(status(&server, &many).await, 431);
}

#[tokio::test]
async fn a_request_that_is_only_unusual_is_served() {
    let server = server();
    for (request, expected) in [
        // Lines may end without a carriage return (RFC 9112, section 2.2), and begin after empty ones.
        ("GET / HTTP/1.1\nhost: x\n\n", 200),
        ("\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n", 200),
        // The client offers another protocol, which the service does not take.
        (
            "GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\r\n",
            200,
        ),
        (
            "GET / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
            200,
        ),
        ("GET / HTTP/1.1\r\nhost: x\r\nrange: bytes=0-1\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\nhost: x\r\nexpect: whatever\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n\r\n", 200),
        ("GET //read/x HTTP/1.1\r\nhost: x\r\n\r\n", 404),
        ("GET /./read/x HTTP/1.1\r\nhost: x\r\n\r\n", 404),
        ("get / HTTP/1.1\r\nhost: x\r\n\r\n", 405),
        ("BREW / HTTP/1.1\r\nhost: x\r\n\r\n", 405),
        ("GET / HTTP/1.2\r\nhost: x\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nhost: x\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        ("GET /a b HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        ("GET nowhere HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        ("GE(T / HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        ("GET /\r\n\r\n", 400),
    ] {
        assert_eq!(status(&server, request).await, expected, "{request}");
    }
    let keys = server.ask(get_request("/read/../health")).await;
    assert_eq!(keys.text(), "../health", "nothing in a key is normalised");
}

#[tokio::test]
async fn a_body_is_asked_for_when_the_handler_reads_it() {
    let server = server();
    let mut client = server.client().await;
    client
        .send("POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-Continue\r\ncontent-length: 2\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.status, 100);
    client.send("{}").await;
    assert_eq!(client.answer().await.text(), "taken");
    // Refused because of its head, before the body is sent.
    let mut client = server.client().await;
    client
        .send("POST / HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.status, 415);
}

#[tokio::test]
async fn every_answer_says_when_it_was_made() {
    let server = server();
    let now = std::time::SystemTime::now();
    for request in [
        get_request("/"),
        get_request("/nowhere"),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
    ] {
        let date = server.ask(request).await.headers["date"].clone();
        let date = httpdate::parse_http_date(&date).unwrap();
        let apart = date.duration_since(now).unwrap_or_else(|error| error.duration());
        assert!(apart.as_secs() < 60, "{apart:?}");
    }
}
