//! Requests have ids, and a failure is logged with the id of its request.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use cenote::http::{HttpConfig, Problem};
use tracing_subscriber::fmt::MakeWriter;

use crate::support::{Server, get as get_request, start};

async fn panics() -> &'static str {
    panic!("at the disco")
}

/// A server on which no request counts as slow.
fn server() -> Server {
    server_where_slow_is(Duration::MAX)
}

/// A server on which `/slow`, and most likely nothing else, counts as slow.
fn slow_server() -> Server {
    server_where_slow_is(Duration::from_millis(100))
}

fn server_where_slow_is(slow_request: Duration) -> Server {
    let router = Router::new()
        .route("/", get(async || "hello"))
        .route("/panics", get(panics))
        .route("/fails", get(async || Problem::internal("the disk is full")))
        .route(
            "/slow",
            get(async || {
                // What makes the request slow.
                tokio::time::sleep(Duration::from_millis(150)).await;
                "late"
            }),
        );
    start(
        router,
        HttpConfig {
            slow_request,
            ..HttpConfig::default()
        },
    )
}

async fn id_for(server: &Server, sent: &str) -> String {
    let request = format!("GET / HTTP/1.1\r\nhost: x\r\nx-request-id: {sent}\r\n\r\n");
    server.ask(request).await.headers["x-request-id"].clone()
}

#[tokio::test]
async fn an_acceptable_request_id_is_kept() {
    let server = server();
    for id in ["a", "A-1_b.2", &"x".repeat(128)] {
        assert_eq!(id_for(&server, id).await, id);
    }
}

#[tokio::test]
async fn an_unacceptable_request_id_is_replaced() {
    let server = server();
    for id in ["", "a b", "a\"b", "é", "a\tb", "${x}", &"x".repeat(129)] {
        let new = id_for(&server, id).await;
        assert!(
            new.len() == 16 && new.bytes().all(|b| b.is_ascii_hexdigit()),
            "{id}: {new}"
        );
    }
}

#[tokio::test]
async fn every_failure_has_a_request_id_of_its_own() {
    let server = server();
    let mut client = server.client().await;
    let mut ids = std::collections::HashSet::new();
    for path in ["/nowhere", "/panics", "/fails", "/nowhere"] {
        client.send(get_request(path)).await;
        assert!(
            ids.insert(client.answer().await.headers["x-request-id"].clone()),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_good_answer_has_a_request_id_only_if_it_is_asked_for_or_logged() {
    let server = server();
    let has_one = async |server: &Server, path| {
        let answer = server.ask(get_request(path)).await;
        assert_eq!(answer.status, 200);
        answer.headers.contains_key("x-request-id")
    };
    assert!(!has_one(&server, "/").await);
    assert!(has_one(&slow_server(), "/slow").await);
    assert_eq!(id_for(&server, "mine").await, "mine");
    let _guard = Log::default().install(tracing::Level::DEBUG);
    assert!(has_one(&server, "/").await);
}

#[tokio::test]
async fn a_handler_that_panics_is_a_500_and_the_connection_goes_on() {
    let server = server();
    let mut client = server.client().await;
    client.send(get_request("/panics")).await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 500);
    assert_eq!(answer.problem()["type"], "urn:cenote:problem:internal");
    assert!(!answer.text().contains("disco"));
    client.send(get_request("/")).await;
    assert_eq!(client.answer().await.text(), "hello");
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    fn install(&self, level: tracing::Level) -> tracing::subscriber::DefaultGuard {
        let builder = tracing_subscriber::fmt().with_ansi(false).with_max_level(level);
        tracing::subscriber::set_default(builder.with_writer(self.clone()).finish())
    }

    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

#[tokio::test]
async fn the_log_names_the_client_behind_a_trusted_proxy() {
    let log = Log::default();
    let _guard = log.install(tracing::Level::INFO);
    let request = "GET /fails HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 10.9.9.9, 192.0.2.7\r\n\r\n";
    for (proxies, client) in [("", "client=127.0.0.1"), ("127.0.0.0/8", "client=192.0.2.7")] {
        let router = Router::new().route("/fails", get(async || Problem::internal("the disk is full")));
        let config = HttpConfig {
            trusted_proxies: proxies.parse().unwrap(),
            ..HttpConfig::default()
        };
        let server = start(router, config);
        assert_eq!(server.ask(request).await.status, 500);
        let lines = log.take();
        assert!(lines.contains(client), "{lines}");
    }
}

#[tokio::test]
async fn a_failure_and_a_slow_request_are_logged_and_a_good_one_is_not() {
    let log = Log::default();
    let _guard = log.install(tracing::Level::INFO);
    let server = server();

    assert_eq!(server.ask(get_request("/?token=hush")).await.status, 200);
    assert_eq!(server.ask(get_request("/nowhere")).await.status, 404);
    assert_eq!(log.take(), "");

    server.ask(get_request("/fails?token=hush")).await;
    let line = log.take();
    for part in [
        "WARN",
        "method=GET",
        "path=\"/fails\"",
        "status=500",
        "cause=\"the disk is full\"",
    ] {
        assert!(line.contains(part), "{part} not in {line}");
    }
    assert!(!line.contains("hush") && line.lines().count() == 1, "{line}");

    server.ask(get_request("/panics")).await;
    assert!(log.take().contains("at the disco"));
    slow_server().ask(get_request("/slow")).await;
    assert!(log.take().contains("slow request"));
}

#[tokio::test]
async fn at_debug_every_request_is_logged() {
    let log = Log::default();
    let _guard = log.install(tracing::Level::DEBUG);
    let server = server();
    server.ask(get_request("/")).await;
    assert!(log.take().contains("status=200"));
}
