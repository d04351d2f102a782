//! HTTP/2 without TLS, for those who know that it is spoken.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::support::Service;

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
    for (n, read) in futures_util::future::join_all(reads)
        .await
        .iter()
        .enumerate()
    {
        assert_eq!(read["value"], n.to_string());
    }
}
