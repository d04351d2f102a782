//! Clients that note what they were told. Invariant: each has a key of its own, so what it reads is what it wrote, or
//! something is wrong.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::json;
use tokio::{task::JoinHandle, time::Instant};

use super::{Answer, Connection, Service};

/// What one client saw.
#[derive(Default)]
pub(crate) struct Seen {
    /// Acknowledged writes: version and value.
    acknowledged: BTreeMap<i64, String>,
    /// When something succeeded.
    pub(crate) successes: Vec<Instant>,
    pub(crate) errors: Vec<Answer>,
    pub(crate) slowest: Duration,
}

/// Clients that write and read, each a key of its own, until told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Seen>>,
}

impl Load {
    pub(crate) fn start(service: &Service, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |n| tokio::spawn(client(service.address, format!("client/{n}"), stop.clone()));
        let clients = (0..clients).map(client).collect();
        Self { stop, clients }
    }

    pub(crate) async fn stop(self) -> Vec<Seen> {
        self.stop.store(true, Relaxed);
        let mut all = Vec::new();
        for client in self.clients {
            all.push(client.await.unwrap());
        }
        all
    }
}

async fn client(address: SocketAddr, key: String, stop: Arc<AtomicBool>) -> Seen {
    let mut connection = Connection::open(address).await.unwrap();
    let mut seen = Seen::default();
    let mut n = 0;
    while !stop.load(Relaxed) {
        n += 1;
        let value = format!("{key} {n}");
        let asked = Instant::now();
        let body = json!({"key": key, "value": value});
        let written = connection.post("/write", &body).await.unwrap();
        seen.slowest = seen.slowest.max(asked.elapsed());
        if written.status == 200 {
            let version = written.json(200)["version"].as_i64().unwrap();
            if let Some((last, _)) = seen.acknowledged.last_key_value() {
                assert!(version > *last, "{version} after {last}");
            }
            seen.acknowledged.insert(version, value);
            seen.successes.push(Instant::now());
        } else {
            seen.errors.push(written);
        }

        let asked = Instant::now();
        let path = format!("/read/{key}");
        let read = connection.ask("GET", &path, &[], "").await.unwrap();
        seen.slowest = seen.slowest.max(asked.elapsed());
        let newest = seen.acknowledged.last_key_value();
        match read.status {
            200 => {
                let read = read.json(200);
                let version = read["version"].as_i64().unwrap();
                if let Some((acknowledged, value)) = newest {
                    assert!(version >= *acknowledged, "{read} after {acknowledged}");
                    assert!(version > *acknowledged || read["value"] == *value, "{read}");
                }
                seen.successes.push(Instant::now());
            }
            404 => assert!(newest.is_none(), "an acknowledged write is lost"),
            _ => seen.errors.push(read),
        }
    }
    seen
}

/// Reads back what was acknowledged.
pub(crate) async fn nothing_is_lost(service: &Service, all: &[Seen]) {
    for (n, seen) in all.iter().enumerate() {
        let Some((version, value)) = seen.acknowledged.last_key_value() else {
            continue;
        };
        let read = service.read(&format!("client/{n}")).await.json(200);
        let found = read["version"].as_i64().unwrap();
        assert!(found >= *version, "{read}, acknowledged {version}");
        if found == *version {
            assert_eq!(read["value"], *value);
        }
    }
}

/// Successes a second, in so long from then.
pub(crate) fn rate(all: &[Seen], from: Instant, during: Duration) -> f64 {
    let successes = all.iter().flat_map(|seen| &seen.successes);
    let within = successes.filter(|at| (from..from + during).contains(at));
    within.count() as f64 / during.as_secs_f64()
}
