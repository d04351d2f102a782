//! A certificate is replaced while clients connect: no handshake fails, and open connections live on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use axum::Router;
use axum::routing::get;
use cenote::http::{ClientCertificates, HttpConfig, Tls, with_fallbacks};
use cenote_testing::Authority;
use tokio::time::timeout;

use super::support::{Files, der, half, shown, start};
use crate::support::{LONG, get as get_request};

fn router() -> Router {
    with_fallbacks(Router::new().route("/", get(async || "hello")))
}

/// Requests in all, over connections for one request each and connections for many.
const REQUESTS: usize = 10_000;
const MANY: usize = 9;
const RELOADS: usize = 20;

#[tokio::test]
async fn no_handshake_and_no_request_fails_while_the_files_are_replaced_and_half_of_them_are_half_written() {
    let files = Files::new();
    let tls = files.tls();
    let server = start(tls.clone(), router(), HttpConfig::default());
    let before = files.renew();
    files.reload(&tls).await.unwrap();
    let mut old = files.client().connect(&server).await;
    old.send(get_request("/")).await;
    assert_eq!(old.answer().await.text(), "hello");

    let (answered, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (client, address) = (files.client(), server.address);
            let (answered, ended) = (Arc::clone(&answered), Arc::clone(&ended));
            tokio::spawn(async move {
                // Until all reloads are done, and all requests.
                for requests in [1, MANY].into_iter().cycle() {
                    let stream = timeout(LONG, client.try_connect(address)).await.unwrap();
                    let mut client = crate::support::Client::over(stream.unwrap());
                    for _ in 0..requests {
                        client.send(get_request("/")).await;
                        assert_eq!(client.answer().await.text(), "hello");
                    }
                    if answered.fetch_add(requests, SeqCst) >= REQUESTS && ended.load(SeqCst) {
                        break;
                    }
                }
            })
        })
        .collect();
    for reload in 0..RELOADS {
        // Spread over the requests.
        let due = REQUESTS * reload / RELOADS;
        timeout(LONG, async {
            while answered.load(SeqCst) < due {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        if reload % 2 == 0 {
            let file = ["certificate.pem", "key.pem"][reload / 2 % 2];
            files.write(file, &half(&files.path(file)));
            let error = files.reload(&tls).await.unwrap_err().to_string();
            assert!(error.contains(file), "{error}");
        } else {
            let renewed = files.renew();
            files.reload(&tls).await.unwrap();
            assert_eq!(shown(&files.client().connect(&server).await), der(&renewed));
        }
    }
    ended.store(true, SeqCst);
    for client in clients {
        timeout(LONG, client).await.unwrap().unwrap();
    }
    let stats = tls.stats();
    assert_eq!((stats.reloads, stats.failed_reloads), (11, 10));

    // The connection that was opened first, with its certificate.
    old.send(get_request("/")).await;
    assert_eq!(old.answer().await.text(), "hello");
    assert_eq!(shown(&old), der(&before));
}

#[tokio::test]
async fn a_key_that_does_not_belong_to_the_certificate_changes_nothing() {
    let files = Files::new();
    let tls = files.tls();
    let server = start(tls.clone(), router(), HttpConfig::default());
    let before = shown(&files.client().connect(&server).await);
    let (_, key) = files.authority.issue("cenote.test");
    files.write("key.pem", &key);
    let error = files.reload(&tls).await.unwrap_err().to_string();
    assert!(error.contains("key.pem: the key does not belong to"), "{error}");
    assert_eq!(shown(&files.client().connect(&server).await), before);
}

#[tokio::test]
async fn files_that_did_not_change_are_not_a_reload_and_refused_ones_are_tried_again_on_request() {
    let files = Files::new();
    let tls = files.tls();
    files.reload(&tls).await.unwrap();
    assert_eq!(tls.stats().reloads, 0);
    files.write("key.pem", "");
    files.reload(&tls).await.unwrap_err();
    files.reload(&tls).await.unwrap_err();
    assert_eq!(tls.stats().failed_reloads, 2);
}

#[tokio::test]
async fn the_authorities_of_clients_are_replaced_too_and_no_old_session_is_resumed() {
    let files = Files::new();
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    files.write("clients.pem", &first.pem());
    let mut config = files.config();
    config.clients = Some(ClientCertificates {
        authorities: files.path("clients.pem"),
        required: true,
    });
    let tls = Tls::load(config.clone()).unwrap();
    let server = start(tls.clone(), router(), HttpConfig::default());
    let connector = files.client().version_1_2().identity(first.issue("a")).connector();
    let mut client = super::support::TlsClient::connect_by(&connector, &server).await;
    client.send(get_request("/")).await;
    client.answer().await;

    files.write("clients.pem", &second.pem());
    assert!(tls.prepare(config).await.unwrap().adopt());
    let refused = super::support::TlsClient::try_connect_by(&connector, server.address).await;
    assert!(refused.unwrap_err().to_string().contains("UnknownCA"));
    let known = files.client().version_1_2().identity(second.issue("a"));
    known.connect(&server).await;
}
