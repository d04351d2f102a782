//! Clients that close their sending side, or leave, while a statement runs for them.

use std::sync::Arc;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Service, Session, eventually};

const SETTINGS: [(&str, &str); 3] = [("COMMAND_TIMEOUT", "60"), ("CACHE_MODE", "off"), ("DB_POOL_MAX", "2")];

/// A service, and a session that has locked the row `slow` and has run the statement `more`.
async fn locked(more: &str) -> (Arc<Service>, Session) {
    let service = Arc::new(Service::start(&SETTINGS).await);
    service.write("slow", "one").await;
    let session = service.database.session().await;
    let lock = "BEGIN; UPDATE kv SET value = 'held' WHERE key = 'slow'";
    session.run(&format!("{lock}; {more}")).await;
    (service, session)
}

/// Writes to the locked row, on a new connection.
async fn write(service: &Service) -> TcpStream {
    let body = json!({"key": "slow", "value": "two"}).to_string();
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    let head = "POST /write HTTP/1.1\r\nhost: x\r\ncontent-type: application/json";
    let request = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn whole(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn a_client_that_closes_its_sending_side_is_answered_when_the_row_is_unlocked() {
    let (service, session) = locked("").await;
    let mut stream = write(&service).await;
    stream.shutdown().await.unwrap();
    session.sees_blocked(1).await;
    session.run("COMMIT").await;
    let answer = whole(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with(r#""version":2}"#), "{answer}");
}

#[tokio::test]
async fn a_client_that_closes_its_sending_side_is_answered_when_a_connection_is_free() {
    let (service, session) = locked("LOCK TABLE users IN ACCESS EXCLUSIVE MODE").await;
    let lists: Vec<_> = (0..2)
        .map(|_| {
            let service = service.clone();
            tokio::spawn(async move { service.get("/users").await.status })
        })
        .collect();
    session.sees_blocked(2).await;
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    stream
        .write_all(b"GET /read/slow HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    eventually("it waits for a connection", async || {
        let stats = service.get("/pool-stats").await.json(200);
        (stats["waiting"].as_u64().unwrap() > 0).then_some(())
    })
    .await;
    session.run("COMMIT").await;
    let answer = whole(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("held"), "{answer}");
    for list in lists {
        assert_eq!(list.await.unwrap(), 200);
    }
}

#[tokio::test]
async fn the_statement_of_a_client_that_has_gone_is_cancelled_and_has_no_effect() {
    for resets in [true, false] {
        let (service, session) = locked("").await;
        let stream = write(&service).await;
        session.sees_blocked(1).await;
        if resets {
            stream.set_zero_linger().unwrap();
        }
        drop(stream);
        session.sees_blocked(0).await;
        session.run("COMMIT").await;
        let read = service.read("slow").await.json(200);
        assert_eq!((&read["value"], &read["version"]), (&"held".into(), &1.into()));
    }
}
