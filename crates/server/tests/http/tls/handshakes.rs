//! Handshakes that succeed, and peers that do not finish one.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use cenote::http::{HttpConfig, TlsVersion, with_fallbacks};
use http_body_util::BodyExt;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout};

use super::support::{Files, Nothing, start};
use crate::support::{LONG, SHORT, get as get_request};

fn router() -> Router {
    with_fallbacks(Router::new().route("/", get(async || "hello")))
}

/// The first bytes of a handshake: a record whose end never comes.
const HALF_A_HANDSHAKE: &[u8] = &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00];

#[tokio::test]
async fn requests_are_answered_over_tls_1_2_and_1_3() {
    let files = Files::new();
    let server = start(files.tls(), router(), HttpConfig::default());
    for client in [files.client(), files.client().version_1_2()] {
        let mut client = client.connect(&server).await;
        for _ in 0..3 {
            client.send(get_request("/")).await;
            assert_eq!(client.answer().await.text(), "hello");
        }
    }
}

#[tokio::test]
async fn tls_1_2_is_refused_where_1_3_is_the_oldest() {
    let files = Files::new();
    let mut config = files.config();
    config.min_version = TlsVersion::Tls13;
    let tls = cenote::http::Tls::load(config).unwrap();
    let server = start(tls, router(), HttpConfig::default());
    files
        .client()
        .version_1_2()
        .try_connect(server.address)
        .await
        .unwrap_err();
    files.client().connect(&server).await;
}

#[tokio::test]
async fn the_two_sides_agree_on_http_2_by_alpn() {
    let files = Files::new();
    let server = start(files.tls(), router(), HttpConfig::default());
    for (offered, agreed) in [
        (&["h2", "http/1.1"][..], Some(&b"h2"[..])),
        (&["http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let client = files.client().protocols(offered).connect(&server).await;
        assert_eq!(client.stream.get_ref().1.alpn_protocol(), agreed, "{offered:?}");
    }
    let refused = files.client().protocols(&["spdy/3"]).try_connect(server.address).await;
    assert!(refused.unwrap_err().to_string().contains("NoApplicationProtocol"));
}

#[tokio::test]
async fn http_2_is_spoken_over_tls() {
    let files = Files::new();
    let server = start(files.tls(), router(), HttpConfig::default());
    let client = files.client().protocols(&["h2"]).connect(&server).await;
    let io = TokioIo::new(client.stream);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    for _ in 0..3 {
        let request = hyper::Request::get("https://cenote.test/").body(Nothing::new());
        let response = sender.send_request(request.unwrap()).await.unwrap();
        assert_eq!(response.version(), hyper::Version::HTTP_2);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
    }
    drop(sender);
    timeout(LONG, connection).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn plain_http_on_the_port_of_https_gets_a_readable_400() {
    let files = Files::new();
    let server = start(files.tls(), router(), HttpConfig::default());
    let mut client = server.client().await;
    client.send(get_request("/")).await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.headers["connection"], "close");
    let problem = answer.problem();
    assert_eq!(problem["type"], "urn:cenote:problem:bad-request");
    assert!(problem["detail"].as_str().unwrap().contains("https://"));
    assert_eq!(client.ended().await, b"");
}

#[tokio::test]
async fn a_peer_that_speaks_plain_http_and_stays_is_closed() {
    let files = Files::new();
    let server = start(files.tls(), router(), HttpConfig::default());
    let mut client = server.client().await;
    client.send(get_request("/")).await;
    client.answer().await;
    // It keeps its side open.
    assert_eq!(client.ended().await, b"");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_never_ends_is_cut_at_its_deadline() {
    let files = Files::new();
    let server = start(files.tls(), router(), HttpConfig::default());
    for begun in [&b""[..], &HALF_A_HANDSHAKE[..1], HALF_A_HANDSHAKE] {
        let mut client = server.client().await;
        let connected = Instant::now();
        client.send(begun).await;
        client.ended().await;
        let took = connected.elapsed();
        let deadline = Duration::from_secs(10);
        assert!(took >= deadline && took < 2 * deadline, "{begun:?}: {took:?}");
    }
}

#[tokio::test]
async fn a_handshake_counts_as_a_connection() {
    let files = Files::new();
    let one = HttpConfig {
        max_connections: 1,
        ..HttpConfig::default()
    };
    let server = start(files.tls(), router(), one);
    let mut first = server.client().await;
    first.send(HALF_A_HANDSHAKE).await;
    let refused = files.client().try_connect(server.address).await.unwrap_err();
    assert!(refused.to_string().contains("InternalError"), "{refused}");
    drop(first);
    timeout(LONG, async {
        while files.client().try_connect(server.address).await.is_err() {}
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_handshake_under_way_does_not_hold_up_the_shutdown() {
    let files = Files::new();
    let server = start(files.tls(), router(), HttpConfig::default());
    let mut client = server.client().await;
    client.send(HALF_A_HANDSHAKE).await;
    // Without an answer to wait for, the server may not have read the bytes; both moments must end the connection.
    let drained = timeout(LONG, server.stop()).await.unwrap().unwrap();
    assert_eq!(drained.cut, 0);
    client.ended().await;
}

#[tokio::test]
async fn garbage_ends_the_connection_and_nothing_else() {
    let files = Files::new();
    let server = start(files.tls(), router(), HttpConfig::default());
    for garbage in [&[0x16, 0x03, 0x01, 0xff, 0xff, 0xff][..], &[0x16; 4096], &[0x00; 4096]] {
        let mut client = server.client().await;
        client.send(garbage).await;
        client.ended().await;
    }
    let mut client = files.client().connect(&server).await;
    client.send(get_request("/")).await;
    assert_eq!(client.answer().await.text(), "hello");
}

#[tokio::test]
async fn the_first_request_has_its_whole_time_after_the_handshake() {
    let files = Files::new();
    let config = HttpConfig {
        first_byte_timeout: SHORT,
        ..HttpConfig::default()
    };
    let server = start(files.tls(), router(), config);
    let mut client = files.client().connect(&server).await;
    let connected = Instant::now();
    // An orderly end, so that the client does not suspect an attacker.
    let end = timeout(LONG, client.stream.read(&mut [0; 16])).await.unwrap();
    assert_eq!(end.unwrap(), 0);
    // The server counts from its end of the handshake, which comes a moment before or after the client's.
    assert!(connected.elapsed() >= SHORT / 2);
}
