//! The bound on the number of connections, and the requests on one connection.

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use bytes::Bytes;
use cenote::http::{HttpConfig, bind};
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{Client, LONG, SHORT, Server, get as get_request, start};

fn router() -> Router {
    Router::new().route("/", get(async || "hello")).route(
        "/{n}",
        get(async |Path(n): Path<String>| n).post(async |body: String| body),
    )
}

#[tokio::test]
async fn a_connection_beyond_the_bound_is_told_503_and_others_go_on() {
    let server = start(
        router(),
        HttpConfig {
            max_connections: 2,
            ..HttpConfig::default()
        },
    );
    let (mut one, mut two) = (server.client().await, server.client().await);
    for client in [&mut one, &mut two] {
        client.send(get_request("/")).await;
        assert_eq!(client.answer().await.status, 200);
    }

    let mut third = server.client().await;
    third.send(get_request("/")).await;
    let answer = third.answer().await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(answer.headers["connection"], "close");
    assert_eq!(answer.problem()["type"], "urn:cenote:problem:too-many-connections");
    third.ended().await;

    one.send(get_request("/")).await;
    assert_eq!(one.answer().await.status, 200);
}

#[tokio::test]
async fn a_connection_that_has_ended_makes_room_for_another() {
    let server = start(
        router(),
        HttpConfig {
            max_connections: 1,
            ..HttpConfig::default()
        },
    );
    let mut client = server.client().await;
    client
        .send("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.status, 200);
    client.ended().await;
    timeout(LONG, async {
        while server.ask(get_request("/")).await.status != 200 {}
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_refused_peer_that_sends_nothing_is_closed_too() {
    let server = start(
        router(),
        HttpConfig {
            max_connections: 0,
            ..HttpConfig::default()
        },
    );
    let silent: Vec<Client> = futures_util::future::join_all((0..100).map(|_| server.client())).await;
    for client in silent {
        client.ended().await;
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = start(router(), HttpConfig::default());
    let mut client = server.client().await;
    let all: String = (0..50).map(|n| get_request(&format!("/{n}"))).collect();
    client.send(all).await;
    for n in 0..50 {
        assert_eq!(client.answer().await.text(), n.to_string());
    }
}

#[tokio::test]
async fn a_head_request_gets_the_head_of_the_get() {
    let server = start(router(), HttpConfig::default());
    let mut client = server.client().await;
    client
        .send("HEAD / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await;
    let all = String::from_utf8(client.ended().await).unwrap();
    assert!(
        all.starts_with("HTTP/1.1 200 OK\r\n") && all.ends_with("\r\n\r\n"),
        "{all}"
    );
    assert!(all.contains("content-length: 5\r\n") && all.contains("date: "), "{all}");
}

#[tokio::test]
async fn a_head_beyond_the_bound_is_answered_431() {
    let server = start(router(), HttpConfig::default());
    let long = format!("GET / HTTP/1.1\r\nhost: x\r\nlong: {}\r\n\r\n", "x".repeat(100_000));
    assert_eq!(server.ask(long).await.status, 431);
}

#[tokio::test]
async fn garbage_is_answered_400() {
    let server = start(router(), HttpConfig::default());
    assert_eq!(server.ask("\x16\x03\x01 what is this\r\n\r\n").await.status, 400);
}

pub(crate) async fn http2(server: &Server) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = handshake.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn http2_is_spoken_with_clients_that_begin_with_it() {
    let server = start(router(), HttpConfig::default());
    let sender = http2(&server).await;
    let requests = (0..200).map(|n| {
        let mut sender = sender.clone();
        async move {
            let request = axum::http::Request::post(format!("http://x/{n}"));
            let body = Full::from(format!("body {n}"));
            sender.ready().await.unwrap();
            let response = sender.send_request(request.body(body).unwrap()).await.unwrap();
            assert_eq!(response.status(), 200);
            response.into_body().collect().await.unwrap().to_bytes()
        }
    });
    let bodies = timeout(LONG, futures_util::future::join_all(requests)).await.unwrap();
    for (n, body) in bodies.iter().enumerate() {
        assert_eq!(*body, format!("body {n}"));
    }
}

#[tokio::test]
async fn an_idle_http2_connection_is_ended_with_goaway() {
    let config = HttpConfig {
        idle_timeout: SHORT,
        ..HttpConfig::default()
    };
    let server = start(router(), config);
    let stream = TcpStream::connect(server.address).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.unwrap();
    let connection = tokio::spawn(connection);
    let request = axum::http::Request::get("http://x/")
        .body(Empty::<Bytes>::new())
        .unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    // Without an error: the server said so.
    timeout(LONG, connection).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_port_that_is_served_already_is_an_error() {
    let first = bind(([127, 0, 0, 1], 0).into()).unwrap();
    assert!(bind(first.local_addr().unwrap()).is_err());
}
