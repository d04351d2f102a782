//! A shutdown answers the requests in flight, and ends within its bound.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use cenote::http::{Drained, HttpConfig};
use tokio::net::TcpStream;
use tokio::sync::{Barrier, Notify};
use tokio::time::{Instant, timeout};

use crate::connections::http2;
use crate::support::{Client, LONG, SHORT, get as get_request, start};

/// `/` answers at once; `/held` signals that it has begun, and waits for the other signal.
fn router() -> (Router, Arc<Barrier>, Arc<Notify>) {
    let (begun, go) = (Arc::new(Barrier::new(2)), Arc::new(Notify::new()));
    let (handler_begun, handler_go) = (Arc::clone(&begun), Arc::clone(&go));
    let held = async move || {
        handler_begun.wait().await;
        handler_go.notified().await;
        "finished"
    };
    (
        Router::new()
            .route("/", get(async || "hello"))
            .route("/held", get(held)),
        begun,
        go,
    )
}

#[tokio::test]
async fn a_request_in_flight_is_answered_and_its_connection_closed() {
    let (router, begun, go) = router();
    let server = start(router, HttpConfig::default());
    let address = server.address;
    let mut client = server.client().await;
    client.send(get_request("/held")).await;
    begun.wait().await;

    let drained = server.stop();
    // The listener is closed before the handler goes on.
    timeout(LONG, async { while TcpStream::connect(address).await.is_ok() {} })
        .await
        .unwrap();
    go.notify_one();
    let answer = client.answer().await;
    assert_eq!(answer.text(), "finished");
    assert_eq!(answer.headers["connection"], "close");
    client.ended().await;
    assert_eq!(drained.await.unwrap(), Drained { finished: 1, cut: 0 });
}

#[tokio::test]
async fn idle_and_silent_connections_are_closed_at_once() {
    let (router, ..) = router();
    let server = start(router, HttpConfig::default());
    let (mut idle, silent) = (server.client().await, server.client().await);
    idle.send(get_request("/")).await;
    assert_eq!(idle.answer().await.status, 200);
    let mut two = http2(&server).await;
    let request = axum::http::Request::get("http://x/").body("".into()).unwrap();
    assert_eq!(two.send_request(request).await.unwrap().status(), 200);

    let drained = timeout(LONG, server.stop()).await.unwrap().unwrap();
    assert_eq!(drained, Drained { finished: 3, cut: 0 });
    idle.ended().await;
    silent.ended().await;
}

#[tokio::test]
async fn while_leaving_each_answer_closes_its_connection_and_new_and_idle_connections_are_still_served() {
    let (router, ..) = router();
    let server = start(router, HttpConfig::default());
    let address = server.address;
    let (mut idle, mut busy) = (server.client().await, server.client().await);
    for client in [&mut idle, &mut busy] {
        client.send(get_request("/")).await;
        let answer = client.answer().await;
        assert_eq!(answer.headers.get("connection"), None);
    }
    let mut two = http2(&server).await;
    let request = || {
        let request = axum::http::Request::get("http://x/");
        request.body("".into()).unwrap()
    };
    assert_eq!(two.send_request(request()).await.unwrap().status(), 200);

    let (stop, done) = server.leave();
    // Until the server has noticed, answers keep the connection.
    timeout(LONG, async {
        loop {
            busy.send(get_request("/")).await;
            let answer = busy.answer().await;
            assert_eq!(answer.text(), "hello");
            if answer.headers.contains_key("connection") {
                assert_eq!(answer.headers["connection"], "close");
                break;
            }
        }
    })
    .await
    .unwrap();
    busy.ended().await;
    idle.send(get_request("/")).await;
    let answer = idle.answer().await;
    assert_eq!((answer.text(), &*answer.headers["connection"]), ("hello", "close"));
    idle.ended().await;
    let mut newcomer = Client::connect(address).await;
    newcomer.send(get_request("/")).await;
    assert_eq!(newcomer.answer().await.headers["connection"], "close");
    newcomer.ended().await;
    // On HTTP/2 the request in flight is answered, and the connection then takes no new one.
    assert_eq!(two.send_request(request()).await.unwrap().status(), 200);
    timeout(LONG, async { while two.ready().await.is_ok() {} })
        .await
        .unwrap();

    stop.send(()).unwrap();
    timeout(LONG, done).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_http2_request_in_flight_is_answered() {
    let (router, begun, go) = router();
    let server = start(router, HttpConfig::default());
    let address = server.address;
    let mut client = http2(&server).await;
    let request = axum::http::Request::get("http://x/held").body("".into()).unwrap();
    let answer = tokio::spawn(client.send_request(request));
    begun.wait().await;
    let drained = server.stop();
    timeout(LONG, async { while TcpStream::connect(address).await.is_ok() {} })
        .await
        .unwrap();
    go.notify_one();
    assert_eq!(timeout(LONG, answer).await.unwrap().unwrap().unwrap().status(), 200);
    drop(client);
    assert_eq!(
        timeout(LONG, drained).await.unwrap().unwrap(),
        Drained { finished: 1, cut: 0 }
    );
}

#[tokio::test]
async fn a_request_that_outlasts_the_drain_timeout_is_cut_and_counted() {
    let (router, begun, _go) = router();
    let server = start(
        router,
        HttpConfig {
            drain_timeout: SHORT,
            ..HttpConfig::default()
        },
    );
    let (mut held, idle) = (server.client().await, server.client().await);
    held.send(get_request("/held")).await;
    begun.wait().await;
    let begun = Instant::now();
    let drained = timeout(LONG, server.stop()).await.unwrap().unwrap();
    assert_eq!(drained, Drained { finished: 1, cut: 1 });
    assert!(begun.elapsed() >= SHORT);
    assert_eq!(held.ended().await, b"");
    idle.ended().await;
}
