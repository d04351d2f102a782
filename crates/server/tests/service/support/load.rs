//! Clients that write and read until they are told to stop, and note what they were told.
//!
//! Invariant: each client has a key of its own, so it reads what it wrote, or something is wrong.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::json;
use tokio::{task::JoinHandle, time::Instant};

use super::{Answer, Connection, Service, eventually};

/// What one client saw.
#[derive(Default)]
pub(crate) struct Seen {
    /// Acknowledged writes: version and value.
    acknowledged: BTreeMap<i64, String>,
    pub(crate) errors: Vec<Answer>,
    /// The longest that a request took.
    pub(crate) slowest: Duration,
}

/// What one client has seen so far, as counts that the test can look at while it runs.
#[derive(Default)]
struct Progress {
    successes: AtomicUsize,
    errors: AtomicUsize,
}

/// Clients that write and read, each its own key, until they are told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<(Arc<Progress>, JoinHandle<Seen>)>,
}

impl Load {
    pub(crate) fn start(service: &Service, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |n| {
            let progress = Arc::new(Progress::default());
            let key = format!("client/{n}");
            let client = client(service.address, key, stop.clone(), progress.clone());
            (progress, tokio::spawn(client))
        };
        let clients = (0..clients).map(client).collect();
        Self { stop, clients }
    }

    /// Of each client, the count that `of` reads.
    fn counts(&self, of: impl Fn(&Progress) -> &AtomicUsize) -> Vec<usize> {
        self.clients
            .iter()
            .map(|(progress, _)| of(progress).load(Relaxed))
            .collect()
    }

    /// How many errors each client has been told of.
    pub(crate) fn errors(&self) -> Vec<usize> {
        self.counts(|progress| &progress.errors)
    }

    /// Waits until each client has succeeded this often from now on.
    pub(crate) async fn each_succeeds(&self, times: usize) {
        let successes = || self.counts(|progress| &progress.successes);
        let before = successes();
        eventually("each client succeeds", async || {
            let enough = successes()
                .iter()
                .zip(&before)
                .all(|(now, before)| *now >= before + times);
            enough.then_some(())
        })
        .await;
    }

    /// How many requests a second succeed now.
    pub(crate) async fn rate(&self) -> f64 {
        /// Enough that a look every few milliseconds does not distort it.
        const COUNTED: usize = 200;
        let successes = || self.counts(|progress| &progress.successes).into_iter().sum::<usize>();
        let (started, before) = (Instant::now(), successes());
        eventually("clients succeed", async || {
            (successes() >= before + COUNTED).then_some(())
        })
        .await;
        COUNTED as f64 / started.elapsed().as_secs_f64()
    }

    /// Stops the clients and returns what they saw.
    pub(crate) async fn stop(self) -> Vec<Seen> {
        self.stop.store(true, Relaxed);
        let mut all = Vec::new();
        for (_, client) in self.clients {
            all.push(client.await.unwrap());
        }
        all
    }
}

async fn client(address: SocketAddr, key: String, stop: Arc<AtomicBool>, progress: Arc<Progress>) -> Seen {
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
            progress.successes.fetch_add(1, Relaxed);
        } else {
            progress.errors.fetch_add(1, Relaxed);
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
                progress.successes.fetch_add(1, Relaxed);
            }
            404 => assert!(newest.is_none(), "an acknowledged write is lost"),
            _ => {
                progress.errors.fetch_add(1, Relaxed);
                seen.errors.push(read);
            }
        }
    }
    seen
}

/// Each acknowledged write is still there, or a newer one is.
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
