//! An operator's drill: something breaks, and the dashboard says what, in words; it is mended, and nothing is wrong again.

use serde_json::json;

use crate::support::{Events, Service, eventually, redis, server};

const ALONE: [(&str, &str); 4] = [
    ("CACHE_MODE", "off"),
    ("DB_POOL_MIN", "1"),
    ("DB_POOL_MAX", "1"),
    ("COMMAND_TIMEOUT", "60"),
];

/// A service whose tables are locked by a session, and the viewer of its dashboard.
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

/// A read that waits for a lock.
fn read_later(service: &Service) -> tokio::task::JoinHandle<u16> {
    let address = service.address;
    tokio::spawn(async move {
        let mut connection = crate::support::Connection::open(address).await.unwrap();
        let answer = connection.ask("GET", "/read/key", &[], "").await;
        answer.unwrap().status
    })
}

#[tokio::test]
async fn an_exhausted_pool_is_told_within_two_seconds_with_the_line_that_holds_the_connection() {
    let (service, mut events) = watched(&ALONE).await;
    let session = service.database.session().await;
    session.run("BEGIN; LOCK TABLE kv").await;
    let first = read_later(&service);
    session.sees_blocked(1).await;
    let second = read_later(&service);
    // Until the verdict, no row shows a request that has waited for two seconds.
    let mut longest = 0;
    let verdict = loop {
        let verdicts = events.state["verdicts"].as_array().unwrap();
        if let Some(verdict) = verdicts.iter().find(|verdict| verdict["name"] == "pool-exhausted") {
            break verdict.clone();
        }
        let (name, data) = events.next().await.unwrap();
        if name == "row" {
            longest = data[12].as_u64().unwrap();
        }
    };
    assert!(longest < 2_000_000, "{longest} µs");
    let text = verdict["text"].as_str().unwrap();
    assert!(
        text.starts_with("All 1 connections are in use and 1 request waits, the first for "),
        "{text}"
    );
    assert!(text.contains("Held longest: ") && text.contains(".rs:"), "{text}");
    let [slot] = &events.state["slots"].as_array().unwrap()[..] else {
        panic!("{}", events.state["slots"]);
    };
    assert_eq!(slot["state"], "in-use");
    assert!(
        slot["age_ms"].as_u64() >= Some(100) && slot["holder"].as_str().unwrap().contains(".rs:"),
        "{slot}"
    );
    session.run("ROLLBACK").await;
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (200, 200));
    // The wait is over, though it was long.
    eventually("nobody waits any more", async || {
        events.next().await.unwrap();
        let verdicts = events.state["verdicts"].as_array().unwrap();
        (!verdicts.iter().any(|verdict| verdict["name"] == "pool-exhausted")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_slow_statement_is_told_while_it_runs() {
    let mut settings = ALONE.to_vec();
    settings.push(("DB_SLOW_QUERY", "0.3"));
    let (service, mut events) = watched(&settings).await;
    let session = service.database.session().await;
    session.run("BEGIN; LOCK TABLE kv").await;
    let read = read_later(&service);
    let running = events.verdict("slow-statements").await;
    let text = running["text"].as_str().unwrap();
    assert!(text.contains("or one that waits for a lock"), "{text}");
    session.run("ROLLBACK").await;
    assert_eq!(read.await.unwrap(), 200);
    eventually("the statement is told after its end", async || {
        events.next().await.unwrap();
        let text = events.state["verdicts"][0]["text"].as_str()?;
        text.starts_with("1 statement of the last minute took longer than DB_SLOW_QUERY, 300 ms")
            .then_some(())
    })
    .await;
    let statement = eventually("the list has it", async || {
        let statement = events.state["statements"][0].clone();
        if statement.is_null() {
            events.next().await.unwrap();
        }
        (!statement.is_null()).then_some(statement)
    })
    .await;
    assert!(statement["execute_us"].as_u64() >= Some(300_000), "{statement}");
    assert!(statement["holder"].as_str().unwrap().contains(".rs:"), "{statement}");
}

#[tokio::test]
async fn a_lock_that_writes_give_up_on_is_told() {
    let (service, mut events) = watched(&[("CACHE_MODE", "off")]).await;
    let session = service.database.session().await;
    session
        .run("BEGIN; UPDATE kv SET value = 'held' WHERE key = 'key'")
        .await;
    let writing = tokio::spawn({
        let mut connection = service.connect().await;
        async move { connection.post("/write", &json!({"key": "key", "value": "two"})).await }
    });
    let verdict = events.verdict("lock-wait").await;
    assert_eq!(verdict["level"], "warning");
    session.run("ROLLBACK").await;
    assert!(writing.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_pause_is_told_until_it_ends() {
    let (service, mut events) = watched(&[("CACHE_MODE", "off")]).await;
    service.post("/admin/pause", &json!({"seconds": 600})).await.json(200);
    events.verdict("paused").await;
    let until = events.state["pool"]["paused"]["until"].as_u64().unwrap();
    assert!(until > 1_700_000_000_000, "{until}");
    service.post("/admin/resume", &json!({})).await.json(200);
    events.verdict("healthy").await;
    assert!(events.state["pool"]["paused"].is_null());
}

#[tokio::test]
async fn a_server_without_connections_left_is_told() {
    let server = server("5").await;
    let service = Service::start_on(
        &server,
        &[("DB_POOL_MIN", "6"), ("DB_POOL_MAX", "6"), ("CACHE_MODE", "off")],
    )
    .await;
    let verdict = service.watch().await.verdict("max-connections").await;
    assert_eq!(verdict["level"], "critical");
    assert!(
        verdict["text"].as_str().unwrap().contains("max_connections"),
        "{verdict}"
    );
}

#[tokio::test]
async fn a_database_that_is_away_is_told_until_it_is_back() {
    let server = server("50").await;
    let service = Service::start_on(&server, &[("CACHE_MODE", "off"), ("DB_POOL_TIMEOUT", "0.2")]).await;
    service.write("key", "value").await;
    let mut events = service.watch().await;
    events.verdict("healthy").await;
    server.kill().await.unwrap();
    // Until connects have failed for five seconds, callers still wait.
    let verdict = events.verdict("database-away").await;
    assert_eq!(verdict["level"], "critical");
    assert_eq!(events.state["database"]["up"], false);
    server.restart().await.unwrap();
    eventually("the database is back", async || {
        events.next().await.unwrap();
        let is_up = events.state["database"]["up"] == true;
        let mut verdicts = events.state["verdicts"].as_array().unwrap().iter();
        (is_up && !verdicts.any(|verdict| verdict["name"] == "database-away")).then_some(())
    })
    .await;
    assert_eq!(service.read("key").await.status, 200);
}

#[tokio::test]
async fn a_redis_that_is_gone_is_told_until_it_is_back() {
    let redis = redis().await;
    let (service, mut events) = watched(&[("REDIS_URL", &redis.url()), ("CACHE_MODE", "ttl")]).await;
    assert_eq!(events.state["redis"], json!({"up": true, "problem": null}));
    redis.kill().await.unwrap();
    let verdict = events.verdict("redis-down").await;
    assert!(!verdict["text"].as_str().unwrap().contains("127.0.0.1"), "{verdict}");
    assert_eq!(events.state["redis"]["up"], false);
    redis.restart().await.unwrap();
    events.verdict("healthy").await;
    service.write("key", "value").await;
}

#[tokio::test]
async fn memory_and_descriptors_are_back_after_the_last_viewer() {
    let service = Service::start(&[("CACHE_MODE", "off")]).await;
    let open = || std::fs::read_dir(format!("/proc/{}/fd", service.id())).unwrap().count();
    let idle = open();
    let crowd = async || {
        let mut viewers = Vec::new();
        for _ in 0..100 {
            viewers.push(service.watch().await);
        }
        for viewer in &mut viewers {
            viewer.next_of("row").await;
        }
        // A few connections to the database, and the client that asked whether the service is ready, may have come
        // or gone since `idle` was counted.
        assert!(open() >= idle + 80, "{} open, {idle} before", open());
        drop(viewers);
        eventually("the connections of the viewers are closed", async || {
            (open() < idle + 20).then_some(())
        })
        .await;
    };
    // The first crowd lets the allocator take what it keeps.
    crowd().await;
    let before = service.memory();
    for _ in 0..3 {
        crowd().await;
    }
    let grown = service.memory().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes");
}
