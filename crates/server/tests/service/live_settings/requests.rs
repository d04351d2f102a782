//! What requests may be, how long they may take, and the thresholds of memory.

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{MEMORY, REQUESTS, Reloading, TIMEOUTS};
use crate::support::{Answer, SOON, Service, eventually, secs};

#[tokio::test]
async fn what_a_request_may_be_and_what_browsers_are_told_also_on_open_connections() {
    let it = Reloading::start("MEMORY_WARN=0\nMEMORY_CRITICAL=0\n", "").await;
    let mut open = it.service.connect().await;
    let page = ("origin", "https://app.example.org");
    let preflight = [page, ("access-control-request-method", "POST")];
    let many: Vec<(&str, &str)> = (0..20).map(|_| ("x-many", "1")).collect();
    let body = json!({"key": "key", "value": "v".repeat(2000)});
    let mut look = async || {
        let plain = open.ask("GET", "/health/live", &[page], "").await.unwrap();
        let preflight = open.ask("OPTIONS", "/write", &preflight, "").await.unwrap();
        let of = |answer: &Answer, name: &str| answer.headers.get(name).cloned().unwrap_or_default();
        let request =
            "GET /openapi.json HTTP/1.1\r\nhost: localhost\r\naccept-encoding: gzip\r\nconnection: close\r\n\r\n";
        let compressed = it.service.connect().await.exchange_to_the_end(request).await;
        let encoding = String::from_utf8_lossy(&compressed)
            .contains("content-encoding: gzip")
            .to_string();
        let seen = [
            encoding,
            of(&plain, "access-control-allow-origin"),
            of(&plain, "access-control-allow-credentials"),
            of(&preflight, "access-control-max-age"),
            of(&plain, "strict-transport-security"),
            of(&plain, "server-timing")
                .split(';')
                .next()
                .unwrap_or_default()
                .to_owned(),
        ];
        // On connections of their own, because a refusal may end them.
        let many = it.service.ask("GET", "/health/live", &many, "").await.status;
        let large = it.service.post("/write", &body).await.status;
        (seen, many, large)
    };
    let (seen, many, large) = look().await;
    assert_eq!(seen, ["false", "", "", "", "", ""]);
    assert_eq!((many, large), (200, 200));
    it.set(
        "HTTP_MAX_BODY=1000\nHTTP_MAX_HEADERS=10\nCORS_ORIGINS=https://app.example.org\nCORS_CREDENTIALS=true\n\
         CORS_MAX_AGE=7\nHSTS=8\nCOMPRESSION=true\nSERVER_TIMING=true\n",
        &REQUESTS,
    )
    .await;
    let (seen, many, large) = look().await;
    let [encoding, origin, credentials, max_age, hsts, timing] = seen;
    assert_eq!(
        (encoding.as_str(), origin.as_str(), credentials.as_str()),
        ("true", page.1, "true")
    );
    assert_eq!((max_age.as_str(), hsts.as_str()), ("7", "max-age=8"));
    assert!(!timing.is_empty());
    assert_eq!((many, large), (431, 413));
}

/// Sends these bytes on a new connection, and waits for the service to close it.
async fn closed_after(service: &Service, bytes: &str) -> String {
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // By default the service would wait for a minute or more.
    timeout(secs(40), stream.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn the_timeouts_of_new_connections_and_of_the_shutdown() {
    let long = "HTTP_HEADER_TIMEOUT=600\nHTTP_BODY_TIMEOUT=600\nHTTP_IDLE_TIMEOUT=600\nSHUTDOWN_TIMEOUT=600\n";
    let base = "MEMORY_WARN=0\nMEMORY_CRITICAL=0\nSHUTDOWN_DELAY=0\nCOMMAND_TIMEOUT=300\n";
    let it = Reloading::start(base, long).await;
    let short = "HTTP_HEADER_TIMEOUT=0.2\nHTTP_BODY_TIMEOUT=0.2\nHTTP_IDLE_TIMEOUT=0.2\nSHUTDOWN_TIMEOUT=0.2\n";
    it.set(short, &TIMEOUTS).await;
    let service = it.service;
    assert_eq!(closed_after(&service, "").await, "");
    let head = closed_after(&service, "GET / HTTP/1.1\r\nhost: ").await;
    assert!(head.is_empty() || head.starts_with("HTTP/1.1 408 "), "{head}");
    let head =
        "POST /write HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    let body = closed_after(&service, head).await;
    assert!(body.starts_with("HTTP/1.1 408 "), "{body}");
    let idle = closed_after(&service, "GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(idle.starts_with("HTTP/1.1 200 "), "{idle}");

    service.write("slow", "one").await;
    let session = service.database.session().await;
    session
        .run("BEGIN; UPDATE kv SET value = 'held' WHERE key = 'slow'")
        .await;
    let mut connection = service.connect().await;
    let writing = tokio::spawn(async move { connection.post("/write", &json!({"key": "slow", "value": "two"})).await });
    session.sees_blocked(1).await;
    let ended = service.stop(SOON).await;
    assert!(ended.log.contains(r#""cut":1"#), "{}", ended.log);
    assert!(writing.await.unwrap().is_err());
}

#[tokio::test]
async fn the_thresholds_of_memory() {
    let it = Reloading::start("", "MEMORY_WARN=0\nMEMORY_CRITICAL=0\n").await;
    let state = async || it.service.get("/health").await.json(200)["memory"]["state"].clone();
    assert_eq!(state().await, "off");
    it.set("MEMORY_WARN=1\nMEMORY_CRITICAL=0\n", &["MEMORY_WARN"]).await;
    it.service.logged("memory gets short").await;
    assert_eq!(state().await, "degraded");
    it.set("MEMORY_WARN=0\nMEMORY_CRITICAL=1\n", &MEMORY).await;
    it.service.logged("memory is short").await;
    it.set("MEMORY_WARN=0\nMEMORY_CRITICAL=0\n", &["MEMORY_CRITICAL"]).await;
    eventually("memory is no longer short", async || {
        (state().await == "healthy").then_some(())
    })
    .await;
}
