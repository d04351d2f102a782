//! An operator's drill: something breaks, and the dashboard says what, in words; a metric shows it, and its alert fires. It is
//! mended, and nothing is wrong again.
//!
//! That memory is short is in `memory_pressure`, which injects it.

mod credentials;
mod database;
mod limits;
mod pool;
mod redis;
mod statements;

use crate::support::{Events, Service, eventually};

const ALONE: [(&str, &str); 4] = [
    ("CACHE_MODE", "off"),
    ("DB_POOL_MIN", "1"),
    ("DB_POOL_MAX", "1"),
    ("COMMAND_TIMEOUT", "60"),
];

/// A service that has written and read a key, and the viewer of its dashboard.
async fn watched(settings: &[(&str, &str)]) -> (Service, Events) {
    let service = Service::start(settings).await;
    let mut events = service.watch().await;
    let first = events.verdict("no-requests").await;
    assert_eq!(first["level"], "info");
    service.write("key", "value").await;
    // Afterwards the statement is prepared.
    assert_eq!(service.read("key").await.status, 200);
    events.verdict("healthy").await;
    (service, events)
}

/// Waits until the dashboard no longer has this verdict.
async fn is_over(events: &mut Events, name: &str) {
    eventually("the verdict is over", async || {
        events.next().await.unwrap();
        (!events.has_verdict(name)).then_some(())
    })
    .await;
}

/// A read that may wait for a lock.
fn read_later(service: &Service) -> tokio::task::JoinHandle<u16> {
    let address = service.address;
    tokio::spawn(async move {
        let mut connection = crate::support::Connection::open(address).await.unwrap();
        let answer = connection.ask("GET", "/read/key", &[], "").await;
        answer.unwrap().status
    })
}
