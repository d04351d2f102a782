//! A client that has closed its sending side is still answered; a client that has gone is noticed, and its work given
//! up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use cenote::http::{HttpConfig, Json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, timeout};

use crate::connections::http2;
use crate::support::{Client, LONG, Server, get as get_request, start};

/// More than it takes until the server asks a client whether it is still there.
const ASKED: Duration = LONG;

/// A handler, as the test sees it and controls it.
struct Handler {
    begun: mpsc::UnboundedReceiver<()>,
    /// One permit for each request that may be answered.
    go: Arc<Semaphore>,
    /// Ends when the first request's handler has ended, answered or not.
    ended: mpsc::Receiver<()>,
}

impl Handler {
    async fn has_begun(&mut self) {
        timeout(LONG, self.begun.recv()).await.unwrap().unwrap();
    }

    async fn has_been_dropped(&mut self, within: Duration) {
        assert_eq!(timeout(within, self.ended.recv()).await.unwrap(), None);
    }
}

/// A server whose `/held` waits for a permit.
fn held(config: HttpConfig) -> (Server, Handler) {
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
    let big = async || vec![b'x'; 8 * 1024 * 1024];
    let router = Router::new()
        .route("/held", get(handler))
        .route("/big", get(big))
        .route("/", get(async || "hello"));
    (start(router, config), Handler { begun, go, ended })
}

#[tokio::test]
async fn a_client_that_closes_its_sending_side_after_its_request_is_answered() {
    let (server, mut handler) = held(HttpConfig::default());
    for n in 0..30 {
        let mut client = server.client().await;
        client.send(get_request("/held")).await;
        if n % 2 == 0 {
            handler.has_begun().await;
        }
        client.stream.shutdown().await.unwrap();
        if n % 2 == 1 {
            handler.has_begun().await;
        }
        if n % 3 == 0 {
            // Most likely the server has seen the end of the client's side by now; it does not show that.
            sleep(Duration::from_millis(5)).await;
        }
        handler.go.add_permits(1);
        assert_eq!(client.answer().await.text(), "finished");
        assert_eq!(client.ended().await, b"", "and nothing after it");
    }
}

#[tokio::test]
async fn a_client_that_speaks_http_1_0_may_close_its_sending_side_too() {
    let (server, mut handler) = held(HttpConfig::default());
    let mut client = server.client().await;
    client.send("GET /held HTTP/1.0\r\n\r\n").await;
    client.stream.shutdown().await.unwrap();
    handler.has_begun().await;
    handler.go.add_permits(1);
    let all = String::from_utf8(client.ended().await).unwrap();
    assert!(all.starts_with("HTTP/1.0 200 OK\r\n"), "{all}");
    assert!(all.ends_with("finished"), "{all}");
}

#[tokio::test]
async fn all_requests_sent_before_the_end_are_answered() {
    let (server, mut handler) = held(HttpConfig::default());
    let mut client = server.client().await;
    client.send(get_request("/held").repeat(5)).await;
    client.stream.shutdown().await.unwrap();
    for _ in 0..5 {
        handler.has_begun().await;
        handler.go.add_permits(1);
        assert_eq!(client.answer().await.text(), "finished");
    }
    assert_eq!(client.ended().await, b"");
}

#[tokio::test]
async fn a_large_answer_is_sent_to_its_end() {
    let (server, _handler) = held(HttpConfig::default());
    let mut client = server.client().await;
    client.send(get_request("/big")).await;
    client.stream.shutdown().await.unwrap();
    // Most likely the buffers of both sockets are full by now; the server does not show that.
    sleep(Duration::from_millis(100)).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.body.len()), (200, 8 * 1024 * 1024));
    assert_eq!(client.ended().await, b"");
}

#[tokio::test]
async fn a_client_that_closes_its_sending_side_is_answered_during_the_drain() {
    let (server, mut handler) = held(HttpConfig::default());
    let mut client = server.client().await;
    client.send(get_request("/held")).await;
    handler.has_begun().await;
    let drained = server.stop();
    client.stream.shutdown().await.unwrap();
    // Most likely the server has seen the end of the client's side by now; it does not show that.
    sleep(Duration::from_millis(20)).await;
    handler.go.add_permits(1);
    assert_eq!(client.answer().await.text(), "finished");
    assert_eq!(timeout(LONG, drained).await.unwrap().unwrap().cut, 0);
}

#[tokio::test]
async fn half_a_head_or_half_a_body_before_the_end_has_no_effect() {
    #[derive(serde::Deserialize, garde::Validate)]
    struct Anything {}
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let write = async move |Json(Anything {}): Json<Anything>| {
        count.fetch_add(1, SeqCst);
    };
    let server = start(Router::new().route("/", post(write)), HttpConfig::default());
    let head = "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    for (half, answered) in [
        ("POST / HTTP/1.1\r\nho".to_owned(), false),
        (format!("{head}content-length: 2\r\n\r\n{{"), true),
        (format!("{head}content-length: 2\r\n\r\n"), true),
        (format!("{head}transfer-encoding: chunked\r\n\r\n1\r\n{{"), true),
        (format!("{head}transfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n"), true),
    ] {
        let mut client = server.client().await;
        client.send(&half).await;
        client.stream.shutdown().await.unwrap();
        let all = String::from_utf8(client.ended().await).unwrap();
        match answered {
            true => assert!(all.starts_with("HTTP/1.1 400 "), "{half}: {all}"),
            false => assert_eq!(all, "", "{half}"),
        }
    }
    assert_eq!(taken.load(SeqCst), 0);
}

/// Closes the connection by a reset, of which the kernel tells the server at once.
fn reset(client: Client) {
    client.stream.set_zero_linger().unwrap();
}

#[tokio::test]
async fn work_for_a_client_that_reset_its_connection_is_given_up_at_once() {
    for half_closed in [false, true] {
        let one = HttpConfig {
            max_connections: 1,
            ..HttpConfig::default()
        };
        let (server, mut handler) = held(one);
        let mut client = server.client().await;
        client.send(get_request("/held")).await;
        handler.has_begun().await;
        if half_closed {
            client.stream.shutdown().await.unwrap();
            // Most likely the server has seen the end of the client's side by now; it does not show that.
            sleep(Duration::from_millis(20)).await;
        }
        reset(client);
        handler.has_been_dropped(LONG).await;
        // The only connection that is allowed is free again.
        timeout(LONG, async {
            while server.ask(get_request("/")).await.status != 200 {}
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn work_for_a_client_that_closed_its_connection_is_given_up_when_the_client_is_asked() {
    for patience in [Duration::ZERO, Duration::from_millis(1200)] {
        let (server, mut handler) = held(HttpConfig::default());
        let mut client = server.client().await;
        client.send(get_request("/held")).await;
        handler.has_begun().await;
        // The handler takes time, so the next question to the client comes at another moment.
        sleep(patience).await;
        drop(client);
        let closed = Instant::now();
        handler.has_been_dropped(ASKED).await;
        if patience.is_zero() {
            assert!(
                closed.elapsed() > Duration::from_secs(3),
                "a client that may still wait is not asked so soon"
            );
        }
    }
}

#[tokio::test]
async fn a_client_that_waits_long_is_asked_by_an_interim_answer_and_still_gets_its_final_one() {
    let (server, mut handler) = held(HttpConfig::default());
    let mut client = server.client().await;
    client.send(get_request("/held")).await;
    handler.has_begun().await;
    client.stream.shutdown().await.unwrap();
    let interim = timeout(ASKED, client.answer()).await.unwrap();
    assert_eq!(interim.status, 100);
    handler.go.add_permits(1);
    let mut answer = client.answer().await;
    while answer.status == 100 {
        answer = client.answer().await;
    }
    assert_eq!(answer.text(), "finished");
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_no_interim_answer() {
    let (server, mut handler) = held(HttpConfig::default());
    let mut client = server.client().await;
    client.send("GET /held HTTP/1.0\r\n\r\n").await;
    handler.has_begun().await;
    client.stream.shutdown().await.unwrap();
    let mut byte = [0];
    // Longer than it takes until a client of HTTP/1.1 is asked: nothing but time shows that no answer comes.
    let early = timeout(Duration::from_secs(7), client.stream.read(&mut byte)).await;
    assert!(early.is_err(), "{early:?}");
    handler.go.add_permits(1);
    assert!(client.ended().await.starts_with(b"HTTP/1.0 200 OK\r\n"));
}

#[tokio::test]
async fn an_http2_client_that_ends_the_connection_has_gone() {
    let (server, mut handler) = held(HttpConfig::default());
    let mut client = http2(&server).await;
    let request = axum::http::Request::get("http://x/held").body("".into()).unwrap();
    let answer = tokio::spawn(client.send_request(request));
    handler.has_begun().await;
    answer.abort();
    drop(client);
    handler.has_been_dropped(LONG).await;
}
