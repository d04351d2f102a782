//! The connection of a slow peer ends at the timeout for what the peer is slow at: not before, and by no other timeout.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::{get, post};
use cenote::http::{HttpConfig, Json};
use futures_util::stream;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{LONG, SHORT, get as get_request, start};

#[derive(serde::Deserialize, garde::Validate)]
struct Entry {
    #[garde(skip)]
    key: String,
}

/// No timeout ends a connection while a test runs. A test shortens one of them: if a connection ends, it was that one.
fn patient() -> HttpConfig {
    const NEVER: Duration = Duration::from_secs(3600);
    HttpConfig {
        first_byte_timeout: NEVER,
        head_timeout: NEVER,
        body_timeout: NEVER,
        idle_timeout: NEVER,
        write_stall_timeout: NEVER,
        ..HttpConfig::default()
    }
}

fn router() -> Router {
    Router::new()
        .route("/", get(async || "hello"))
        .route("/write", post(async |Json(entry): Json<Entry>| entry.key))
}

#[tokio::test]
async fn a_peer_that_sends_nothing_is_closed_after_the_first_byte_timeout() {
    let server = start(
        router(),
        HttpConfig {
            first_byte_timeout: SHORT,
            ..patient()
        },
    );
    let begun = Instant::now();
    assert_eq!(server.client().await.ended().await, b"");
    assert!(begun.elapsed() >= SHORT);
}

/// Sends `head`, then a byte many times within [`SHORT`], until the connection ends.
fn trickle(mut write: OwnedWriteHalf, head: &'static str) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut sent = write.write_all(head.as_bytes()).await;
        while sent.is_ok() {
            // The pace of a slow peer.
            sleep(SHORT / 15).await;
            sent = write.write_all(b"x").await;
        }
    })
}

#[tokio::test]
async fn a_head_sent_a_byte_at_a_time_is_closed_after_the_head_timeout() {
    let server = start(
        router(),
        HttpConfig {
            head_timeout: SHORT,
            ..patient()
        },
    );
    let begun = Instant::now();
    let (mut read, write) = server.client().await.stream.into_split();
    let trickle = trickle(write, "GET / HTTP/1.1\r\nlong: ");
    // Closed, or reset if a byte arrives after the close.
    let nothing = timeout(LONG, read.read(&mut [0])).await.unwrap();
    assert!(nothing.is_err() || nothing.unwrap() == 0);
    assert!(begun.elapsed() >= SHORT);
    timeout(LONG, trickle).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_slow_head_on_a_kept_connection_does_not_get_the_idle_timeout() {
    let server = start(
        router(),
        HttpConfig {
            head_timeout: SHORT,
            ..patient()
        },
    );
    let mut client = server.client().await;
    client.send(get_request("/")).await;
    assert_eq!(client.answer().await.text(), "hello");
    let begun = Instant::now();
    client.send("GET / HT").await;
    assert_eq!(client.ended().await, b"");
    assert!(begun.elapsed() >= SHORT);
}

#[tokio::test]
async fn a_preface_with_no_request_is_closed_after_the_head_timeout() {
    let server = start(
        router(),
        HttpConfig {
            head_timeout: SHORT,
            ..patient()
        },
    );
    let mut client = server.client().await;
    let begun = Instant::now();
    client
        .send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await;
    client.ended().await;
    assert!(begun.elapsed() >= SHORT);
}

#[tokio::test]
async fn a_body_that_stalls_is_answered_408_and_the_connection_closed() {
    let server = start(
        router(),
        HttpConfig {
            body_timeout: SHORT,
            ..patient()
        },
    );
    let mut client = server.client().await;
    let begun = Instant::now();
    client
        .send("POST /write HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{\"k")
        .await;
    let answer = client.answer().await;
    assert!(begun.elapsed() >= SHORT);
    assert_eq!(answer.status, 408);
    assert_eq!(answer.headers["connection"], "close");
    answer.problem();
    client.ended().await;
}

#[tokio::test]
async fn a_body_that_trickles_does_not_extend_its_timeout() {
    let server = start(
        router(),
        HttpConfig {
            body_timeout: SHORT,
            ..patient()
        },
    );
    let begun = Instant::now();
    let (mut read, write) = server.client().await.stream.into_split();
    let trickle = trickle(
        write,
        "POST /write HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n\r\n",
    );
    let mut answer = [0; 12];
    timeout(LONG, read.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    assert!(begun.elapsed() >= SHORT);
    timeout(LONG, trickle).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_kept_connection_is_closed_when_the_idle_timeout_has_passed_since_its_last_request() {
    // Long enough that a slow machine does not make one of the pauses too long.
    let idle_timeout = Duration::from_secs(2);
    let server = start(
        router(),
        HttpConfig {
            idle_timeout,
            ..patient()
        },
    );
    let mut client = server.client().await;
    let mut last_request = Instant::now();
    for _ in 0..4 {
        // Pauses that are longer than the timeout only together.
        sleep(idle_timeout / 3).await;
        last_request = Instant::now();
        client.send(get_request("/")).await;
        assert_eq!(client.answer().await.text(), "hello");
    }
    assert_eq!(client.ended().await, b"");
    assert!(last_request.elapsed() >= idle_timeout);
}

#[tokio::test]
async fn a_handler_may_take_longer_than_every_timeout_of_the_transport() {
    let all = HttpConfig {
        first_byte_timeout: SHORT,
        head_timeout: SHORT,
        body_timeout: SHORT,
        idle_timeout: SHORT,
        write_stall_timeout: SHORT,
        ..HttpConfig::default()
    };
    let slow = async || {
        // What this test is about: a handler slower than every timeout.
        sleep(SHORT * 2).await;
        "late"
    };
    let server = start(Router::new().route("/", get(slow)), all);
    assert_eq!(server.ask(get_request("/")).await.text(), "late");
}

#[tokio::test]
async fn a_stream_with_pauses_longer_than_every_timeout_is_not_cut() {
    let server = start(
        Router::new().route(
            "/",
            get(async || {
                Body::from_stream(stream::unfold(0, async |n| {
                    // What this test is about: a pause longer than every timeout.
                    sleep(SHORT * 2).await;
                    (n < 3).then_some((Ok::<_, std::io::Error>("x"), n + 1))
                }))
            }),
        ),
        HttpConfig {
            idle_timeout: SHORT,
            write_stall_timeout: SHORT,
            ..patient()
        },
    );
    let mut client = server.client().await;
    client.send(get_request("/")).await;
    let all = client.ended().await;
    assert!(
        all.ends_with(b"1\r\nx\r\n0\r\n\r\n"),
        "{}",
        String::from_utf8_lossy(&all)
    );
}

#[tokio::test]
async fn a_peer_that_never_reads_loses_its_connection_and_its_memory_is_freed() {
    let (gone, mut is_gone) = mpsc::channel::<()>(1);
    let endless = async move || {
        let chunk = Bytes::from_static(&[b'x'; 65536]);
        let gone = gone.clone();
        Body::from_stream(stream::repeat_with(move || {
            let _held = &gone;
            Ok::<_, std::io::Error>(chunk.clone())
        }))
    };
    let server = start(
        Router::new().route("/", get(endless)),
        HttpConfig {
            write_stall_timeout: SHORT,
            ..patient()
        },
    );
    let mut client = server.client().await;
    client.send(get_request("/")).await;
    // With the first bytes the handler runs, and has a sender of its own.
    client.stream.readable().await.unwrap();
    let begun = Instant::now();
    let drained = server.stop();
    assert!(timeout(LONG, drained).await.unwrap().unwrap().cut == 0);
    assert_eq!(timeout(LONG, is_gone.recv()).await.unwrap(), None);
    assert!(begun.elapsed() >= SHORT);
}

#[tokio::test]
async fn a_peer_that_reads_slowly_but_steadily_is_served_to_the_end() {
    const SIZE: usize = 24 * 1024 * 1024;
    let server = start(
        Router::new().route("/", get(async || vec![b'x'; SIZE])),
        HttpConfig {
            // Much longer than the pauses of the reader.
            write_stall_timeout: Duration::from_secs(2),
            idle_timeout: SHORT,
            ..patient()
        },
    );
    let mut client = server.client().await;
    client.send(get_request("/")).await;
    let mut got = 0;
    let mut chunk = vec![0; 1024 * 1024];
    while got < SIZE {
        let n = timeout(LONG, client.stream.read(&mut chunk)).await.unwrap().unwrap();
        assert!(n > 0, "cut after {got}");
        got += n;
        // The pace of a slow reader.
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_http2_peer_that_opens_no_window_loses_its_connection() {
    let server = start(
        Router::new().route("/", get(async || "hello")),
        HttpConfig {
            write_stall_timeout: SHORT,
            ..patient()
        },
    );
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(0)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let request = axum::http::Request::get("http://x/").body(Body::empty()).unwrap();
    let begun = Instant::now();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    // The connection ends; the client may call that an error or not.
    let _ = timeout(LONG, connection).await.unwrap().unwrap();
    assert!(begun.elapsed() >= SHORT);
    drop(response);
}

#[tokio::test]
async fn a_timeout_longer_than_any_clock_shows_is_no_timeout() {
    let config = HttpConfig {
        first_byte_timeout: Duration::MAX,
        head_timeout: Duration::MAX,
        body_timeout: Duration::MAX,
        idle_timeout: Duration::MAX,
        write_stall_timeout: Duration::MAX,
        ping_interval: Duration::MAX,
        drain_timeout: Duration::MAX,
        slow_request: Duration::MAX,
        ..HttpConfig::default()
    };
    let server = start(router(), config);
    assert_eq!(server.ask(get_request("/")).await.status, 200);
    let stream = TcpStream::connect(server.address).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.unwrap();
    let connection = tokio::spawn(connection);
    for _ in 0..2 {
        let request = axum::http::Request::get("http://x/").body(Body::empty());
        let response = sender.send_request(request.unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
    }
    drop(sender);
    let _ended = timeout(LONG, connection).await.unwrap();
    let drained = timeout(LONG, server.stop()).await.unwrap().unwrap();
    assert_eq!(drained.cut, 0);
}
