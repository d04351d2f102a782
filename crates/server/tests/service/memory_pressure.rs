//! While memory is short the service gives back what it can and refuses bodies; afterwards everything is as before.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use cenote::{
    memory_watch::{MemoryReader, Reading},
    settings,
    startup::{Stop, build_with_memory},
};
use serde_json::{Value, json};
use tokio::{sync::oneshot, time::Instant};

use crate::support::{
    Answer, Connection, Database, Events, alerts::assert_firing, eventually, exposition::Scrape, secs, shared_server,
};

const MIB: u64 = 1 << 20;
const LIMIT: u64 = 8 * MIB;

/// Says that this much of [`LIMIT`] is used.
struct Injected(Arc<AtomicU64>);

impl MemoryReader for Injected {
    fn read(&mut self) -> io::Result<Reading> {
        Ok(Reading {
            used: self.0.load(Relaxed),
            limit: LIMIT,
            ..Reading::default()
        })
    }

    fn source(&self) -> &'static str {
        "the injected memory"
    }
}

async fn ask(address: SocketAddr, method: &str, path: &str, body: &Value) -> Answer {
    let mut connection = Connection::open(address).await.unwrap();
    let headers = [("content-type", "application/json")];
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    connection.ask(method, path, &headers, body).await.unwrap()
}

async fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, "GET", path, &Value::Null).await
}

async fn write(address: SocketAddr) -> Answer {
    ask(address, "POST", "/write", &json!({"key": "key", "value": "value"})).await
}

/// Reads values of 4 MiB in all, and returns the bytes that the near cache then has.
async fn fill_near(address: SocketAddr) -> u64 {
    for hundred in 0..4 {
        let keys: Vec<String> = (0..100).map(|n| (hundred * 100 + n).to_string()).collect();
        let found = ask(address, "POST", "/read", &json!({ "keys": keys })).await.json(200);
        assert_eq!(found["found"].as_object().unwrap().len(), 100);
    }
    get(address, "/cache-stats").await.json(200)["bytes"].as_u64().unwrap()
}

#[tokio::test]
async fn a_shortage_shrinks_the_cache_and_refuses_bodies_but_never_reads_and_passes_without_a_trace() {
    let database = Database::create_on(shared_server().await).await;
    let command = clap::Command::new("serve").args(settings::args());
    let matches = command.get_matches_from(["serve"]);
    let directory = tempfile::tempdir().unwrap();
    let environment = [
        ("DATABASE_URL", database.url.as_str()),
        ("PORT", "0"),
        ("CACHE_MODE", "local"),
        ("CACHE_NEAR_BYTES", "16m"),
    ];
    let loaded = settings::load(&matches, environment, directory.path()).unwrap();
    let used = Arc::new(AtomicU64::new(MIB));
    let reader = Injected(used.clone());
    let service = build_with_memory(loaded.settings, Some(Box::new(reader)))
        .await
        .unwrap();
    let address = service.addresses()[0];
    let (stop, stopped) = oneshot::channel();
    let running = tokio::spawn(service.run(async { stopped.await.unwrap() }));
    eventually("the service is ready", async || {
        (get(address, "/health/ready").await.status == 200).then_some(())
    })
    .await;
    let session = database.session().await;
    session
        .run("INSERT INTO kv (key, value) SELECT n::text, repeat('x', 10000) FROM generate_series(0, 399) n")
        .await;
    assert!(fill_near(address).await > 3 * MIB);
    assert_eq!(get(address, "/health").await.json(200)["memory"]["state"], "healthy");
    write(address).await.json(200);

    let scrape = async || Scrape::prometheus(get(address, "/metrics").await.text());
    let before = scrape().await;
    used.store(7 * MIB, Relaxed);
    eventually("the near cache is at its floor", async || {
        let bytes = get(address, "/cache-stats").await.json(200)["bytes"].as_u64()?;
        (bytes <= MIB).then_some(())
    })
    .await;
    let refused = write(address).await;
    assert!(refused.headers.contains_key("retry-after"));
    refused.problem(503, "memory-pressure");
    let user = json!({"name": "Ada", "email": "ada@example.org"});
    ask(address, "POST", "/users/", &user)
        .await
        .problem(503, "memory-pressure");
    // What needs little or helps to find the cause passes.
    get(address, "/read/0").await.json(200);
    fill_near(address).await;
    for path in [
        "/health/live",
        "/health/ready",
        "/pool-stats",
        "/users/",
        "/openapi.json",
    ] {
        assert_eq!(get(address, path).await.status, 200, "{path}");
    }
    assert_eq!(ask(address, "DELETE", "/read/nothing", &Value::Null).await.status, 404);
    eventually("/health names the parts as they are now", async || {
        let health = get(address, "/health").await.json(200);
        assert_eq!(
            (&health["status"], &health["memory"]["state"]),
            (&json!("degraded"), &json!("degraded"))
        );
        let problem = health["memory"]["problem"].as_str().unwrap();
        assert!(
            problem.contains("87 % of the injected memory is used: 7 of 8 MiB"),
            "{problem}"
        );
        problem.contains("of which accounted: near cache 1 MiB").then_some(())
    })
    .await;
    let mut events = Events::open(address, "/dashboard/events", &[]).await;
    let verdict = events.verdict("memory-critical").await;
    let text = verdict["text"].as_str().unwrap();
    assert!(text.contains("87 % of the injected memory is used"), "{text}");
    assert_eq!(events.state["memory"]["level"], "critical");
    let short = scrape().await;
    assert_eq!(short.sum("cenote_memory_level", &[]), 2.0);
    assert_eq!(short.sum("cenote_memory_used_bytes", &[]), (7 * MIB) as f64);
    assert_firing(&before, &short, &["CenoteMemoryShort", "CenoteMemoryCritical"]);

    used.store(MIB, Relaxed);
    let over = Instant::now();
    eventually("everything is as before", async || {
        let health = get(address, "/health").await.json(200);
        let is_back = health["status"] == "ok" && write(address).await.status == 200;
        (is_back && fill_near(address).await > 3 * MIB).then_some(())
    })
    .await;
    assert!(over.elapsed() < secs(30), "{:?}", over.elapsed());
    eventually("the dashboard tells of it no longer", async || {
        events.next().await.unwrap();
        let mut verdicts = events.state["verdicts"].as_array().unwrap().iter();
        (!verdicts.any(|verdict| verdict["name"] == "memory-critical")).then_some(())
    })
    .await;

    let how = Stop {
        reason: "test",
        delay: Duration::ZERO,
    };
    stop.send(how).unwrap();
    tokio::time::timeout(secs(20), running).await.unwrap().unwrap().unwrap();
}
