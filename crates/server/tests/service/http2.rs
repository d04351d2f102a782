//! HTTP/2 without TLS, for clients that begin with it.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Service, secs};

#[tokio::test]
async fn requests_may_come_over_http2_many_at_once() {
    let service = Service::start(&[]).await;
    let stream = TcpStream::connect(service.address).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let ask = async |method: &str, path: String, body: String| {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", service.address))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let response = sender.clone().send_request(request).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), response.version()),
            (200, hyper::Version::HTTP_2)
        );
        let body = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice::<Value>(&body).unwrap()
    };
    let writes = (0..50).map(|n| {
        let body = json!({"key": format!("key {n}"), "value": n.to_string()});
        ask("POST", "/write".into(), body.to_string())
    });
    futures_util::future::join_all(writes).await;
    let reads = (0..50).map(|n| ask("GET", format!("/read/key%20{n}"), String::new()));
    for (n, read) in futures_util::future::join_all(reads).await.iter().enumerate() {
        assert_eq!(read["value"], n.to_string());
    }
}

/// A frame of RFC 9113.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;

#[tokio::test]
async fn a_peer_that_floods_the_service_with_wrong_frames_does_not_fill_the_log() {
    let service = Service::start(&[("LOG", "info")]).await;
    let before = service.log().len();
    for flood in [
        // Answers to pings that were never sent.
        frame(PING, ACK, 0, b"whatever"),
        // Resets of streams that were never opened.
        frame(RST_STREAM, 0, 1, &[0; 4]),
        frame(SETTINGS, 0, 0, &[]),
    ] {
        let mut stream = TcpStream::connect(service.address).await.unwrap();
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, &[]));
        bytes.extend(flood.repeat(20_000));
        // The service may end the connection before everything is sent.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        // Whether and when the service ends the connection is not the promise here.
        let _ = tokio::time::timeout(secs(10), stream.read_to_end(&mut answer)).await;
    }
    service.get("/health/live").await.json(200);
    let log = service.log()[before..].to_owned();
    assert!(
        log.lines().count() <= 10,
        "{} lines: {}",
        log.lines().count(),
        &log[..log.len().min(2000)]
    );
}
