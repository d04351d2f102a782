//! Connections are spread over the cores; each limit and the shutdown are for all cores together.

use std::collections::BTreeMap;
use std::thread;

use axum::Router;
use axum::routing::get;
use cenote::http::{Drained, HttpConfig};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::support::{Client, LONG, Server, get as get_request, start_on};

/// A runtime on each of these threads; a thread ends when its sender is dropped.
fn threads(names: &[&str]) -> (Vec<Handle>, Vec<oneshot::Sender<()>>) {
    let start = |name: &&str| {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name((*name).to_owned());
        thread.spawn(move || drop(runtime.block_on(ended))).unwrap();
        (handle, end)
    };
    names.iter().map(start).unzip()
}

/// `/` answers with the name of the thread that serves it.
fn router() -> Router {
    let name = async || thread::current().name().unwrap().to_owned();
    Router::new().route("/", get(name))
}

async fn core_of(client: &mut Client) -> String {
    client.send(get_request("/")).await;
    client.answer().await.text().to_owned()
}

async fn clients(server: &Server, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(server.client().await);
    }
    clients
}

#[tokio::test]
async fn each_core_serves_equally_many_connections_and_each_connection_stays_where_it_is() {
    let (runtimes, _ends) = threads(&["a", "b", "c"]);
    let server = start_on(runtimes, router(), HttpConfig::default());
    let mut count = BTreeMap::new();
    for client in &mut clients(&server, 9).await {
        let core = core_of(client).await;
        assert_eq!(core_of(client).await, core);
        *count.entry(core).or_insert(0) += 1;
    }
    assert_eq!(Vec::from_iter(count), ["a", "b", "c"].map(|core| (core.to_owned(), 3)));
}

#[tokio::test]
async fn a_core_whose_connections_have_ended_gets_the_next_ones() {
    let (runtimes, _ends) = threads(&["a", "b"]);
    let server = start_on(runtimes, router(), HttpConfig::default());
    let mut all = clients(&server, 8).await;
    let mut left = Vec::new();
    for mut client in all.drain(..) {
        match core_of(&mut client).await.as_str() {
            "a" => left.push(client),
            _ => {
                client
                    .send("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                    .await;
                client.ended().await;
            }
        }
    }
    // The server may not have noticed the last end yet.
    let mut next = clients(&server, 4).await;
    let mut there = 0;
    for client in &mut next {
        there += usize::from(core_of(client).await == "b");
    }
    assert!(there >= 3, "{there} of 4");
}

#[tokio::test]
async fn the_bound_on_connections_is_for_all_cores() {
    let (runtimes, _ends) = threads(&["a", "b"]);
    let config = HttpConfig {
        max_connections: 3,
        ..HttpConfig::default()
    };
    let server = start_on(runtimes, router(), config);
    let mut taken = clients(&server, 3).await;
    for client in &mut taken {
        core_of(client).await;
    }
    assert_eq!(server.ask(get_request("/")).await.status, 503);
}

#[tokio::test]
async fn a_shutdown_drains_every_core() {
    let (runtimes, _ends) = threads(&["a", "b", "c"]);
    let server = start_on(runtimes, router(), HttpConfig::default());
    let mut idle = clients(&server, 7).await;
    for client in &mut idle {
        core_of(client).await;
    }
    let drained = timeout(LONG, server.stop()).await.unwrap().unwrap();
    assert_eq!(drained, Drained { finished: 7, cut: 0 });
    for client in idle {
        client.ended().await;
    }
}
