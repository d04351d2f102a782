//! Peers that close half of a connection, go away, or do not read: over TLS they are treated as without it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use cenote::http::{HttpConfig, Json, with_fallbacks};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};

use super::support::{Files, start};
use crate::support::{LONG, SHORT, Server, get as get_request};

#[derive(serde::Deserialize, garde::Validate)]
struct Anything {}

/// A handler, as the test sees it and controls it.
struct Handler {
    begun: mpsc::UnboundedReceiver<()>,
    /// One permit for each request that may be answered.
    go: Arc<Semaphore>,
    /// Ends when the first request's handler has ended, answered or not.
    ended: mpsc::Receiver<()>,
}

const BIG: usize = 32 * 1024 * 1024;

/// A server whose `/held` waits for a permit.
fn held(files: &Files, config: HttpConfig) -> (Server, Handler) {
    let (begin, begun) = mpsc::unbounded_channel();
    let go = Arc::new(Semaphore::new(0));
    let (end, ended) = mpsc::channel::<()>(1);
    let end = Arc::new(std::sync::Mutex::new(Some(end)));
    let handler_go = Arc::clone(&go);
    let handler = async move || {
        let _ended = end.lock().unwrap().take();
        begin.send(()).unwrap();
        handler_go.acquire().await.unwrap().forget();
        "finished"
    };
    let router = Router::new()
        .route("/held", get(handler))
        .route("/big", get(async || vec![b'x'; BIG]))
        .route("/write", post(async |Json(Anything {}): Json<Anything>| "taken"));
    let server = start(files.tls(), with_fallbacks(router), config);
    (server, Handler { begun, go, ended })
}

impl Handler {
    async fn has_begun(&mut self) {
        timeout(LONG, self.begun.recv()).await.unwrap().unwrap();
    }

    async fn has_been_dropped(&mut self) {
        assert_eq!(timeout(LONG, self.ended.recv()).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_client_that_closes_its_sending_side_after_its_request_is_answered() {
    let files = Files::new();
    let (server, mut handler) = held(&files, HttpConfig::default());
    for n in 0..20 {
        let mut client = files.client().connect(&server).await;
        client.send(get_request("/held").repeat(n % 2 + 1)).await;
        client.stream.shutdown().await.unwrap();
        for _ in 0..=n % 2 {
            handler.has_begun().await;
            handler.go.add_permits(1);
            assert_eq!(client.answer().await.text(), "finished");
        }
        assert_eq!(client.ended().await, b"", "and nothing after it");
    }
}

#[tokio::test]
async fn a_client_that_keeps_its_receiving_side_gets_its_answer_after_it_was_probed() {
    let files = Files::new();
    let (server, mut handler) = held(&files, HttpConfig::default());
    let mut client = files.client().connect(&server).await;
    client.send(get_request("/held")).await;
    handler.has_begun().await;
    client.stream.shutdown().await.unwrap();
    let probe = client.answer().await;
    assert_eq!(probe.status, 100);
    handler.go.add_permits(1);
    assert_eq!(client.answer().await.text(), "finished");
    assert_eq!(client.ended().await, b"");
}

#[tokio::test]
async fn work_for_a_client_that_has_gone_is_given_up() {
    let files = Files::new();
    for farewell in [true, false] {
        let (server, mut handler) = held(&files, HttpConfig::default());
        let mut client = files.client().connect(&server).await;
        client.send(get_request("/held")).await;
        handler.has_begun().await;
        if farewell {
            client.stream.shutdown().await.unwrap();
        }
        drop(client);
        handler.has_been_dropped().await;
    }
}

#[tokio::test]
async fn a_peer_that_reads_nothing_is_cut_and_its_connection_reset() {
    let files = Files::new();
    let config = HttpConfig {
        write_stall_timeout: SHORT,
        ..HttpConfig::default()
    };
    let (server, _handler) = held(&files, config);
    let mut client = files.client().connect(&server).await;
    let begun = Instant::now();
    client.send(get_request("/big")).await;
    // The first bytes, so that the shutdown meets a request in flight.
    client.stream.read_exact(&mut [0; 16]).await.unwrap();
    let drained = server.stop();
    // The drain ends when the connection does.
    let drained = timeout(LONG, drained).await.unwrap().unwrap();
    assert_eq!(drained.cut, 0);
    assert!(begun.elapsed() >= SHORT);
    let mut all = Vec::new();
    let end = timeout(LONG, client.stream.read_to_end(&mut all)).await.unwrap();
    assert!(end.is_err() && all.len() < BIG, "{end:?}");
}

#[tokio::test]
async fn a_peer_that_reads_slowly_is_not_cut() {
    let files = Files::new();
    let config = HttpConfig {
        write_stall_timeout: Duration::from_secs(2),
        ..HttpConfig::default()
    };
    let (server, _handler) = held(&files, config);
    let mut client = files.client().connect(&server).await;
    let begun = Instant::now();
    client.send(get_request("/big")).await;
    let mut read = 0;
    let mut chunk = vec![0; BIG / 32];
    while read < BIG {
        // The pace of a slow peer: all of it takes longer than the timeout.
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.stream.read_exact(&mut chunk).await.unwrap();
        read += chunk.len();
    }
    assert!(begun.elapsed() > Duration::from_secs(3));
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_order() {
    let files = Files::new();
    let config = HttpConfig {
        idle_timeout: SHORT,
        ..HttpConfig::default()
    };
    let (server, _handler) = held(&files, config);
    let mut client = files.client().connect(&server).await;
    client.send(get_request("/nothing")).await;
    client.answer().await;
    // Without the message of TLS that ends a stream this would be an error.
    assert_eq!(
        timeout(LONG, client.stream.read(&mut [0; 16])).await.unwrap().unwrap(),
        0
    );
}

#[tokio::test]
async fn the_refusal_of_a_body_that_is_too_long_arrives_although_the_peer_goes_on_sending() {
    let files = Files::new();
    let config = HttpConfig {
        max_body: 10,
        ..HttpConfig::default()
    };
    let (server, _handler) = held(&files, config);
    let client = files.client().connect(&server).await;
    let (read, mut write) = tokio::io::split(client.stream);
    let head = "POST /write HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 4000000\r\n\r\n";
    let sending = tokio::spawn(async move {
        write.write_all(head.as_bytes()).await.unwrap();
        // It fails once the server has closed.
        let _ = write.write_all(&[b'x'; 4_000_000]).await;
    });
    let mut client = crate::support::Client::over(tokio::io::join(read, tokio::io::sink()));
    assert_eq!(client.answer().await.status, 413);
    timeout(LONG, sending).await.unwrap().unwrap();
}
