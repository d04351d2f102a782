//! PostgreSQL dies, hangs, refuses and comes back: break, error, restore, success.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::{task::JoinHandle, time::Instant};

use crate::support::{Database, Load, SLACK, Service, eventually, millis, nothing_is_lost, secs, server};

/// Until the service works again after the server is back: it tries every half second, then checks its schema and its
/// cache.
const RECOVERY: Duration = secs(5);

#[tokio::test]
async fn a_crash_under_load_loses_no_acknowledged_write_and_is_over_when_the_server_is_back() {
    let server = server("100").await;
    let settings = [("DB_RETRY_DELAY", "0.1")];
    let service = Service::start_on(&server, &settings).await;
    // Each write takes a moment and one waits for a lock, so that some are under way when the server dies.
    let session = service.database.session().await;
    session
        .run(
            "CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS \
                 'BEGIN PERFORM pg_sleep(0.005); RETURN NEW; END'; \
             CREATE TRIGGER pause BEFORE INSERT OR UPDATE ON kv FOR EACH ROW EXECUTE FUNCTION pause()",
        )
        .await;
    service.write("held", "one").await;
    session.run("BEGIN; SELECT FROM kv WHERE key = 'held' FOR UPDATE").await;
    let mut connection = service.connect().await;
    let held = tokio::spawn(async move {
        let body = json!({"key": "held", "value": "two"});
        connection.post("/write", &body).await.unwrap()
    });
    session.sees_blocked(1).await;
    let load = Load::start(&service, 16);
    load.each_succeeds(5).await;
    let before = load.rate().await;
    server.kill().await.unwrap();
    let answer = held.await.unwrap();
    answer.problem(503, "outcome-unknown");
    eventually("the service tries to connect and cannot", async || {
        let stats = service.get("/pool-stats").await.json(200);
        stats["last_connect_error"].is_string().then_some(())
    })
    .await;
    server.restart().await.unwrap();
    let back = Instant::now();
    load.each_succeeds(5).await;
    let took = back.elapsed();
    assert!(took < RECOVERY + SLACK, "somebody was not served for {took:?}");
    eventually("it is about as fast as before", async || {
        let after = load.rate().await;
        println!("{before:.0}/s before, {after:.0}/s after");
        (after > before / 3.0).then_some(())
    })
    .await;
    let all = load.stop().await;

    for error in all.iter().flat_map(|seen| &seen.errors) {
        let kind = ["outcome-unknown", "database-unavailable", "pool-timeout"];
        let found = kind.iter().find(|kind| error.text().contains(*kind));
        error.problem(503, found.unwrap_or(&"?"));
    }
    nothing_is_lost(&service, &all).await;
    assert_eq!(service.read("held").await.json(200)["value"], "one");
    assert_eq!(service.get("/health").await.json(200)["status"], "ok");
}

/// What a health check promises.
const HEALTH: Duration = millis(1500);

/// Resident memory in KiB, on systems that tell.
fn memory(service: &Service) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.id())).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[tokio::test]
async fn while_the_server_hangs_every_request_is_answered_in_time_and_memory_stays() {
    let server = server("100").await;
    let settings = [
        ("COMMAND_TIMEOUT", "1"),
        ("DB_POOL_TIMEOUT", "2"),
        ("DB_RETRY_ATTEMPTS", "1"),
    ];
    let service = Service::start_on(&server, &settings).await;
    let load = Load::start(&service, 64);
    load.each_succeeds(5).await;
    let before = memory(&service);
    server.freeze().await.unwrap();
    eventually("each client has been told of two errors", async || {
        // What does not need the database answers all the while.
        let asked = Instant::now();
        service.get("/health/live").await.json(200);
        assert!(asked.elapsed() < SLACK, "{:?}", asked.elapsed());
        let health = service.get("/health").await;
        assert!(matches!(health.status, 200 | 503));
        assert!(asked.elapsed() < HEALTH + SLACK, "{:?}", asked.elapsed());
        load.errors().iter().all(|errors| *errors >= 2).then_some(())
    })
    .await;
    let unhealthy = service.get("/health").await.json(503);
    assert_eq!(unhealthy["status"], "unhealthy");
    let refused = service.get("/health/ready").await;
    refused.problem(503, "not-ready");
    let after = memory(&service);
    server.thaw().await.unwrap();
    let thawed = Instant::now();
    service.is_ready().await;
    let took = thawed.elapsed();
    assert!(took < RECOVERY + SLACK, "ready after {took:?}");
    load.each_succeeds(1).await;
    let all = load.stop().await;

    for error in all.iter().flat_map(|seen| &seen.errors) {
        match error.status {
            504 => error.problem(504, "command-timeout"),
            _ => error.problem(
                503,
                if error.text().contains("pool-timeout") {
                    "pool-timeout"
                } else if error.text().contains("outcome-unknown") {
                    "outcome-unknown"
                } else {
                    "database-unavailable"
                },
            ),
        };
    }
    let slowest = all.iter().map(|seen| seen.slowest).max().unwrap();
    // A wait for a connection, then one for the command.
    assert!(slowest < secs(2 + 1) + SLACK, "{slowest:?}");
    if let (Some(before), Some(after)) = (before, after) {
        assert!(after < before + 32 * 1024, "from {before} to {after} KiB");
    }
    nothing_is_lost(&service, &all).await;
}

#[tokio::test]
async fn a_write_whose_connection_is_ended_is_reported_as_unknown_and_never_as_done() {
    let settings = [("COMMAND_TIMEOUT", "20"), ("CACHE_MODE", "off")];
    let service = Arc::new(Service::start(&settings).await);
    for key in ["key", "other"] {
        service.write(key, "one").await;
    }
    let session = service.database.session().await;
    session.run("BEGIN; UPDATE kv SET value = 'held'").await;
    let (post, delete) = (service.clone(), service.clone());
    let writes = [
        tokio::spawn(async move { post.post("/write", &json!({"key": "key", "value": "two"})).await }),
        tokio::spawn(async move { delete.delete("/read/other").await }),
    ];
    session.sees_blocked(2).await;
    session.terminate("wait_event_type = 'Lock'").await;
    for write in writes {
        let answer = write.await.unwrap();
        let detail = answer.problem(503, "outcome-unknown")["detail"].to_string();
        assert!(detail.contains("not known"), "{detail}");
    }
    session.run("ROLLBACK").await;
    for key in ["key", "other"] {
        let read = service.read(key).await.json(200);
        assert_eq!((&read["value"], &read["version"]), (&json!("one"), &json!(1)));
        assert_eq!(service.write(key, "three").await, 2);
    }
}

#[tokio::test]
async fn a_read_whose_connection_is_ended_is_tried_again() {
    let settings = [
        ("COMMAND_TIMEOUT", "20"),
        ("DB_RETRY_DELAY", "0.05"),
        ("CACHE_MODE", "off"),
    ];
    let service = Arc::new(Service::start(&settings).await);
    service.write("key", "one").await;
    let session = service.database.session().await;
    session.run("BEGIN; LOCK TABLE kv IN ACCESS EXCLUSIVE MODE").await;
    let reading = tokio::spawn({
        let service = service.clone();
        async move { service.read("key").await }
    });
    session.sees_blocked(1).await;
    session.terminate("wait_event_type = 'Lock'").await;
    session.sees_blocked(1).await;
    session.run("COMMIT").await;
    assert_eq!(reading.await.unwrap().json(200)["value"], "one");
}

#[tokio::test]
async fn callers_who_hang_up_leave_nothing_running_and_no_connection_taken() {
    let settings = [
        ("DB_POOL_MIN", "2"),
        ("DB_POOL_MAX", "2"),
        ("COMMAND_TIMEOUT", "20"),
        ("DB_POOL_TIMEOUT", "5"),
    ];
    let service = Arc::new(Service::start(&settings).await);
    let session = service.database.session().await;
    session.run("BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE").await;
    // A closed connection is noticed only when the service asks the client, a reset one at once.
    for (round, resets) in [false, true, true, true, true].into_iter().enumerate() {
        // Two that hold a connection each, and four in the queue.
        let mut callers = Vec::new();
        for n in 0..6 {
            let email = format!("{round}.{n}@example.org");
            let body = json!({"name": "Ada", "email": email});
            let mut connection = service.connect().await;
            if resets {
                connection.reset_on_drop();
            }
            callers.push(tokio::spawn(async move { connection.post("/users", &body).await }));
        }
        session.sees_blocked(2).await;
        eventually("the others wait in the queue", async || {
            let stats = service.get("/pool-stats").await.json(200);
            (stats["waiting"] == 4).then_some(())
        })
        .await;
        callers.iter().for_each(JoinHandle::abort);
        session.sees_blocked(0).await;
        eventually("nothing is taken", async || {
            let stats = service.get("/pool-stats").await.json(200);
            (stats["checked_out"] == 0 && stats["waiting"] == 0).then_some(())
        })
        .await;
    }
    session.run("ROLLBACK").await;
    let users = service.get("/users").await.json(200);
    assert_eq!(users, json!([]), "a write went on");
}

#[tokio::test]
async fn sessions_ended_while_idle_cost_no_request() {
    let service = Service::start(&[]).await;
    service.write("key", "0").await;
    let session = service.database.session().await;
    let mut ended = 0;
    for n in 1..6 {
        ended += session.terminate("true").await;
        // The service sees the end of its sessions only when its runtime gets to it.
        eventually("the end is seen", async || {
            let stats = service.get("/pool-stats").await.json(200);
            (stats["invalid"] == ended).then_some(())
        })
        .await;
        let written = service.write("key", &n.to_string()).await;
        assert_eq!(written, n + 1);
        assert_eq!(service.read("key").await.json(200)["value"], n.to_string());
    }
}

#[tokio::test]
async fn a_crash_in_the_middle_of_a_write_is_reported_as_unknown() {
    let server = server("100").await;
    let settings = [("COMMAND_TIMEOUT", "20")];
    let service = Arc::new(Service::start_on(&server, &settings).await);
    service.write("key", "one").await;
    let session = service.database.session().await;
    session
        .run("BEGIN; UPDATE kv SET value = 'held' WHERE key = 'key'")
        .await;
    let writing = tokio::spawn({
        let service = service.clone();
        async move { service.post("/write", &json!({"key": "key", "value": "two"})).await }
    });
    session.sees_blocked(1).await;
    server.kill().await.unwrap();
    let answer = writing.await.unwrap();
    answer.problem(503, "outcome-unknown");
    server.restart().await.unwrap();
    let read = eventually("reads work again", async || {
        let answer = service.read("key").await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert_eq!(read.json(200)["value"], "one");
}

#[tokio::test]
async fn a_server_without_free_connections_is_503_and_named_as_the_reason() {
    let server = server("12").await;
    let settings = [
        ("DB_POOL_MIN", "0"),
        ("DB_POOL_MAX", "2"),
        ("DB_POOL_TIMEOUT", "1"),
        ("CACHE_MODE", "off"),
    ];
    let service = Service::start_on(&server, &settings).await;
    service.write("key", "one").await;
    let session = service.database.session().await;
    session.terminate("true").await;
    let mut others = Vec::new();
    while let Ok((client, connection)) = tokio_postgres::connect(&service.database.url, tokio_postgres::NoTls).await {
        tokio::spawn(connection);
        others.push(client);
    }
    assert!(others.len() >= 8);
    for answer in [
        service.post("/write", &json!({"key": "key", "value": "two"})).await,
        service.read("key").await,
    ] {
        let problem = answer.problem(503, "pool-timeout");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("too many connections"), "{detail}");
        assert_eq!(problem["last_connect_error"], "the server has too many connections");
    }
    let stats = service.get("/pool-stats").await.json(200);
    assert_eq!(stats["last_connect_error"], "the server has too many connections");
    let health = service.get("/health").await.json(503);
    assert_eq!(health["database"]["state"], "unhealthy");
    drop(others);
    eventually("writes work again", async || {
        let again = json!({"key": "key", "value": "three"});
        (service.post("/write", &again).await.status == 200).then_some(())
    })
    .await;
    service.is_ready().await;
}

#[tokio::test]
async fn a_service_started_before_its_database_waits_for_it() {
    let server = server("100").await;
    let database = Database::create_on(&server).await;
    server.kill().await.unwrap();
    let settings = [("DB_POOL_TIMEOUT", "1")];
    let service = Service::launch_with(&database, &settings).await;
    for _ in 0..3 {
        service.get("/health/live").await.json(200);
        service.get("/health/ready").await.problem(503, "not-ready");
        assert_eq!(service.get("/health").await.status, 503);
        let write = service.post("/write", &json!({"key": "key", "value": "v"})).await;
        // After five seconds without any connection, nobody waits for one.
        let kind = match write.text().contains("out of reach") {
            true => "database-unavailable",
            false => "pool-timeout",
        };
        let detail = write.problem(503, kind)["detail"].to_string();
        assert!(detail.contains("connection refused"), "{detail}");
    }
    server.restart().await.unwrap();
    let back = Instant::now();
    service.is_ready().await;
    let took = back.elapsed();
    assert!(took < RECOVERY + SLACK, "ready after {took:?}");
    service.write("key", "value").await;
}

#[tokio::test]
async fn health_turns_unhealthy_with_the_database_and_healthy_again() {
    let server = server("100").await;
    let service = Service::start_on(&server, &[]).await;
    for _ in 0..2 {
        assert_eq!(service.get("/health").await.json(200)["status"], "ok");
        server.kill().await.unwrap();
        let unhealthy = eventually("health turns 503", async || {
            let answer = service.get("/health").await;
            (answer.status == 503).then_some(answer)
        })
        .await;
        let unhealthy = unhealthy.json(503);
        assert_eq!(unhealthy["status"], "unhealthy");
        assert_eq!(unhealthy["database"]["state"], "unhealthy");
        let text = unhealthy.to_string();
        assert!(!text.contains("127.0.0.1") && !text.contains(&service.database.name));
        service.get("/health/ready").await.problem(503, "not-ready");
        service.get("/health/live").await.json(200);
        server.restart().await.unwrap();
        let back = Instant::now();
        eventually("health turns ok", async || {
            let answer = service.get("/health").await;
            (answer.status == 200 && answer.json(200)["status"] == "ok").then_some(())
        })
        .await;
        let took = back.elapsed();
        assert!(took < RECOVERY + SLACK, "healthy after {took:?}");
    }
}
