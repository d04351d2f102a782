//! Peers that take their time are let go within the bounds.

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
use tokio::time::{Instant, timeout};

use crate::support::{LONG, SHORT, get as get_request, start};

#[derive(serde::Deserialize, garde::Validate)]
struct Entry {
    #[garde(skip)]
    key: String,
}

fn patient() -> HttpConfig {
    HttpConfig {
        first_byte_timeout: LONG * 6,
        head_timeout: LONG * 6,
        body_timeout: LONG * 6,
        idle_timeout: LONG * 6,
        write_stall_timeout: LONG * 6,
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

/// Sends `head`, then a byte every so often until the peer is gone.
fn trickle(mut write: OwnedWriteHalf, head: &'static str) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut sent = write.write_all(head.as_bytes()).await;
        while sent.is_ok() {
            tokio::time::sleep(SHORT / 15).await;
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
    // Closed or, with a byte on its way, reset.
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
    client.send("GET / HT").await;
    assert_eq!(client.ended().await, b"");
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
    client
        .send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await;
    client.ended().await;
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
    client
        .send("POST /write HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{\"k")
        .await;
    let answer = client.answer().await;
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
async fn a_kept_connection_is_closed_after_the_idle_timeout() {
    let server = start(
        router(),
        HttpConfig {
            idle_timeout: SHORT * 10,
            ..patient()
        },
    );
    let mut client = server.client().await;
    for _ in 0..3 {
        client.send(get_request("/")).await;
        assert_eq!(client.answer().await.text(), "hello");
        tokio::time::sleep(SHORT / 3).await;
    }
    let begun = Instant::now();
    assert_eq!(client.ended().await, b"");
    assert!(begun.elapsed() >= SHORT * 5);
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
        tokio::time::sleep(SHORT * 2).await;
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
                    tokio::time::sleep(SHORT * 2).await;
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
    // The first bytes, to know that the handler runs and the sender below is not the only one.
    client.stream.readable().await.unwrap();
    let drained = server.stop();
    assert!(timeout(LONG, drained).await.unwrap().unwrap().cut == 0);
    assert_eq!(timeout(LONG, is_gone.recv()).await.unwrap(), None);
}

#[tokio::test]
async fn a_peer_that_reads_slowly_but_steadily_is_served_to_the_end() {
    const SIZE: usize = 24 * 1024 * 1024;
    let server = start(
        Router::new().route("/", get(async || vec![b'x'; SIZE])),
        HttpConfig {
            write_stall_timeout: LONG / 5,
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
        tokio::time::sleep(Duration::from_millis(10)).await;
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
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    // Ended, in whatever way the client calls it.
    let _ = timeout(LONG, connection).await.unwrap().unwrap();
    drop(response);
}

#[tokio::test]
async fn limits_longer_than_any_clock_shows_are_none() {
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
