//! The PROXY protocol: a trusted proxy names its client before HTTP or TLS; nobody else can.

use std::time::Duration;

use axum::http::{Request, Response};
use bytes::Bytes;
use cenote::http::{HttpConfig, RequestBody, ResponseBody, Service};
use http_body_util::{Either, Full};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use crate::support::{Client, LONG, Server, get as get_request, serve_with};
use crate::tls::support::{Files, HOST};

const HEADER: &str = "PROXY TCP4 192.0.2.7 198.51.100.1 8080 443\r\n";

/// A header of version 2 for the same client, with an addition that is not read.
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11\xc0\0\x02\x07\xc6\x33\x64\x01\x1f\x90\x01\xbb\x04\0\x02xx";

/// Answers with the address of the peer.
#[derive(Clone)]
struct From;

impl Service for From {
    async fn call(&self, request: Request<RequestBody>) -> Response<ResponseBody> {
        let address = request.body().peer().address.to_string();
        Response::new(Either::Left(Full::new(Bytes::from(address))))
    }
}

/// A server that expects a header of these proxies.
fn start(proxies: &str) -> Server {
    let proxies = proxies.parse().unwrap();
    serve_with(
        |listeners| listeners.with_proxies(proxies),
        vec![Handle::current()],
        From,
        HttpConfig::default(),
    )
}

#[tokio::test]
async fn a_trusted_proxy_names_its_client() {
    let server = start("127.0.0.0/8");
    for header in [HEADER.as_bytes(), BINARY] {
        let mut client = server.client().await;
        client.send([header, get_request("/").as_bytes()].concat()).await;
        assert_eq!(client.answer().await.text(), "192.0.2.7");
        client.send(get_request("/")).await;
        assert_eq!(client.answer().await.text(), "192.0.2.7", "for the whole connection");
    }
}

#[tokio::test]
async fn a_header_may_come_in_pieces() {
    let server = start("127.0.0.1");
    for header in [HEADER.as_bytes(), BINARY] {
        let mut client = server.client().await;
        client.stream.set_nodelay(true).unwrap();
        for byte in header {
            client.send([*byte]).await;
            // So that most bytes arrive alone; the server does not show that.
            tokio::task::yield_now().await;
        }
        client.send(get_request("/")).await;
        assert_eq!(client.answer().await.text(), "192.0.2.7");
    }
}

#[tokio::test]
async fn a_proxy_may_speak_for_itself() {
    let server = start("127.0.0.1");
    for header in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
        let mut client = server.client().await;
        client.send([header, get_request("/").as_bytes()].concat()).await;
        assert_eq!(client.answer().await.text(), "127.0.0.1");
    }
}

#[tokio::test]
async fn the_header_of_a_stranger_is_a_malformed_request() {
    for server in [start("192.0.2.1"), start("")] {
        let answer = server.ask(get_request("/")).await;
        assert_eq!(answer.text(), "127.0.0.1");
        let mut client = server.client().await;
        client.send(format!("{HEADER}{}", get_request("/"))).await;
        let all = String::from_utf8(client.ended().await).unwrap();
        assert!(all.starts_with("HTTP/1.1 400 "), "{all}");
    }
}

#[tokio::test]
async fn a_trusted_proxy_that_sends_something_else_is_closed_without_an_answer() {
    let server = start("127.0.0.1");
    for other in [
        get_request("/"),
        "PROXY TCP4 nonsense\r\n".to_owned(),
        "PROXY ".repeat(40),
    ] {
        let mut client = server.client().await;
        client.send(other).await;
        assert_eq!(client.ended().await, b"");
    }
}

#[tokio::test(start_paused = true)]
async fn a_header_that_does_not_come_within_a_second_ends_the_connection() {
    let server = start("127.0.0.1");
    for begun in ["", "PROXY TCP4 192.0.2.7 "] {
        let mut client = server.client().await;
        let connected = Instant::now();
        client.send(begun).await;
        assert_eq!(client.ended().await, b"");
        let took = connected.elapsed();
        assert!(
            took >= Duration::from_secs(1) && took < Duration::from_secs(2),
            "{took:?}"
        );
    }
}

#[tokio::test]
async fn the_header_precedes_the_handshake() {
    let files = Files::new();
    let tls = files.tls();
    let server = serve_with(
        |listeners| listeners.with_tls(Some(tls)).with_proxies("127.0.0.1".parse().unwrap()),
        vec![Handle::current()],
        From,
        HttpConfig::default(),
    );
    let mut client = server.client().await;
    client.send(HEADER).await;
    let name = tokio_rustls::rustls::pki_types::ServerName::try_from(HOST).unwrap();
    let connecting = files.client().connector().connect(name, client.stream);
    let mut client = Client::over(timeout(LONG, connecting).await.unwrap().unwrap());
    client.send(get_request("/")).await;
    assert_eq!(client.answer().await.text(), "192.0.2.7");
}
