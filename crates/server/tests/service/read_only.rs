//! Over a database that accepts no writes the service serves reads, and everything again once it accepts them.

use cenote_local::PostgresServer;
use cenote_testing::Replication;
use serde_json::json;

use crate::support::{Database, Launch, Service, eventually, redis, server};

/// From now on the sessions of the server may only read, or may write again.
async fn fence(database: &Database, is_fenced: bool) {
    let session = database.session().await;
    let value = if is_fenced { "on" } else { "off" };
    // ALTER SYSTEM cannot be part of a transaction.
    session
        .run(&format!("ALTER SYSTEM SET default_transaction_read_only = {value}"))
        .await;
    session.run("SELECT pg_reload_conf()").await;
    eventually("the setting holds", async || {
        let holds = format!(
            "SELECT count(*) FROM pg_settings WHERE name = 'default_transaction_read_only' AND setting = '{value}'"
        );
        (session.number(&holds).await == 1).then_some(())
    })
    .await;
}

/// Checks that reads are served, and writes are refused with the reason.
async fn is_read_only(service: &Service) {
    eventually("writes are refused", async || {
        let body = json!({"key": "new", "value": "value"});
        let written = service.post("/write", &body).await;
        (written.status != 200).then_some(written)
    })
    .await
    .problem(503, "read-only");
    assert_eq!(service.read("key").await.json(200)["value"], "value");
    service.delete("/read/key").await.problem(503, "read-only");
    let body = json!({"name": "New", "email": "new@example.org"});
    service.post("/users/", &body).await.problem(503, "read-only");
    assert_eq!(service.get("/users/").await.json(200).as_array().unwrap().len(), 1);
    eventually("health says so", async || {
        let health = service.get("/health").await.json(200);
        let said = health["database"]["problem"]
            .as_str()
            .unwrap_or_default()
            .contains("read-only");
        (health["status"] == "degraded" && said).then_some(())
    })
    .await;
    assert_eq!(service.get("/health/ready").await.status, 200);
}

async fn is_writable(service: &Service) {
    eventually("writes are served", async || {
        let body = json!({"key": "again", "value": "value"});
        (service.post("/write", &body).await.status == 200).then_some(())
    })
    .await;
    eventually("health is well", async || {
        let health = service.get("/health").await.json(200);
        health["database"]["problem"].is_null().then_some(())
    })
    .await;
}

/// A database with a key and a user.
async fn fill(server: &PostgresServer, settings: &[(&str, &str)]) -> Database {
    let service = Service::start_on(server, settings).await;
    service.write("key", "value").await;
    let body = json!({"name": "Ada", "email": "ada@example.org"});
    service.post("/users/", &body).await.json(201);
    service.database.clone()
}

#[tokio::test]
async fn a_database_that_is_made_read_only_serves_reads_and_everything_once_it_is_not() {
    let (server, redis) = tokio::join!(server("100"), redis());
    let url = redis.url();
    for settings in [&[][..], &[("CACHE_MODE", "off")], &[("REDIS_URL", &*url)]] {
        let database = fill(&server, settings).await;
        let running = Service::start_with(&database, settings).await;
        fence(&database, true).await;
        is_read_only(&running).await;
        // A service that starts now needs nothing that would have to be written.
        let started = Service::start_with(&database, settings).await;
        is_read_only(&started).await;
        let ended = Launch::new(&["migrate"]).env("DATABASE_URL", &database.url).run().await;
        assert_eq!(ended.output.trim(), "the schema is up to date", "{ended:?}");
        fence(&database, false).await;
        for service in [running, started] {
            is_writable(&service).await;
        }
    }
}

#[tokio::test]
async fn a_standby_serves_reads_also_with_redis_and_everything_once_it_is_promoted() {
    let (primary, redis) = tokio::join!(server("100"), redis());
    let url = redis.url();
    let settings = [("REDIS_URL", &*url)];
    let database = fill(&primary, &settings).await;
    let standby = primary.replica().start().await.unwrap();
    let replica = Database {
        name: database.name.clone(),
        url: standby.url_for(&database.name),
    };
    let service = Service::launch_with(&replica, &settings).await;
    service.is_ready().await;
    is_read_only(&service).await;
    // A value read from a standby may be old, so it is not cached.
    for _ in 0..2 {
        let read = service.read("key").await.json(200);
        assert_eq!(read["from_cache"], false, "{read}");
    }
    primary.stop().await.unwrap();
    standby.promote().await.unwrap();
    is_writable(&service).await;
}

#[tokio::test]
async fn a_standby_whose_primary_has_no_schema_yet_is_waited_for() {
    let primary = server("100").await;
    let standby = primary.replica().start().await.unwrap();
    let database = Database::create_on(&primary).await;
    let replica = Database {
        name: database.name.clone(),
        url: standby.url_for(&database.name),
    };
    eventually("the database is there", async || {
        let connected = tokio_postgres::connect(&replica.url, tokio_postgres::NoTls).await;
        connected.ok().map(drop)
    })
    .await;
    let service = Service::launch_with(&replica, &[]).await;
    let waiting = service.logged("the database cannot be used yet").await;
    let error = waiting["error"].as_str().unwrap();
    assert!(error.contains("is a standby"), "{error}");
    let migrated = Launch::new(&["migrate"]).env("DATABASE_URL", &database.url).run().await;
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
    service.is_ready().await;
}
