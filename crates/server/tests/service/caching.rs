//! The cache of one process: what a read finds, how the answer reports it, and that no write is missed.

use std::sync::Arc;

use serde_json::json;

use crate::support::{Service, Session, source};

const NEAR: &str = "cenote; hit; detail=near/local";
const DATABASE: &str = "cenote; fwd=miss; detail=database/local";

impl Session {
    /// Changes a value without the service.
    async fn update(&self, key: &str, value: &str) {
        let sql = format!("UPDATE kv SET value = '{value}' WHERE key = '{key}'");
        self.run(&sql).await;
    }
}

#[tokio::test]
async fn a_value_is_loaded_once_and_then_served_from_this_process() {
    let service = Service::start(&[]).await;
    let version = service.write("key", "value").await;
    let first = service.read("key").await;
    assert_eq!(source(&first), DATABASE);
    assert_eq!(first.json(200)["from_cache"], false);
    let queries = service.queries().await;
    for _ in 0..5 {
        let again = service.read("key").await;
        assert_eq!(source(&again), NEAR);
        assert!(again.headers["age"].parse::<u32>().unwrap() < 60);
        let tag = format!("\"{version}\"");
        assert_eq!(again.headers["etag"], tag);
        let expected = json!({"key": "key", "value": "value", "version": version, "from_cache": true});
        assert_eq!(again.json(200), expected);
    }
    assert_eq!(service.queries().await, queries);
    let stats = service.cache_stats().await;
    assert_eq!((&stats["mode"], &stats["state"]), (&json!("local"), &json!("ok")));
    assert_eq!((&stats["hits"], &stats["near_hits"]), (&json!(5), &json!(5)));
    assert_eq!((&stats["misses"], &stats["fills"]), (&json!(1), &json!(1)));
    assert_eq!((&stats["keys"], &stats["fences"]), (&json!(1), &json!(1)));
    assert!(stats["bytes"].as_u64().unwrap() > 8);
    assert!((stats["hit_rate"].as_f64().unwrap() - 5.0 / 6.0).abs() < 1e-9);
}

#[tokio::test]
async fn an_entity_tag_is_compared_without_the_database_too() {
    let service = Service::start(&[]).await;
    let version = service.write("key", "value").await;
    service.read("key").await.json(200);
    let queries = service.queries().await;
    let tag = format!("\"{version}\"");
    let known = service.ask("GET", "/read/key", &[("if-none-match", &tag)], "").await;
    assert_eq!((known.status, source(&known)), (304, NEAR));
    assert_eq!(known.headers["etag"], tag);
    assert_eq!(service.queries().await, queries);
}

#[tokio::test]
async fn an_absent_key_is_cached_until_it_is_written() {
    let service = Service::start(&[]).await;
    for expected in [DATABASE, NEAR, NEAR] {
        let absent = service.read("key").await;
        absent.problem(404, "not-found");
        assert_eq!(source(&absent), expected);
    }
    service.write("key", "value").await;
    assert_eq!(service.read("key").await.json(200)["value"], "value");
    assert_eq!(service.read("key").await.json(200)["from_cache"], true);
    assert_eq!(service.delete("/read/key").await.status, 204);
    service.read("key").await.problem(404, "not-found");
    let again = service.read("key").await;
    again.problem(404, "not-found");
    assert_eq!(source(&again), NEAR);
}

#[tokio::test]
async fn reading_many_keys_queries_only_those_that_are_not_cached() {
    let service = Service::start(&[]).await;
    for key in ["a", "b", "c"] {
        service.write(key, "value").await;
    }
    service.read("a").await.json(200);
    let keys = json!({"keys": ["a", "b", "c", "nope"]});
    let first = "cenote; fwd=miss; detail=\"1 near, 3 database/local\"";
    let second = "cenote; hit; detail=\"4 near/local\"";
    for (cached, cost, status) in [("false", 1, first), ("true", 0, second)] {
        let queries = service.queries().await;
        let many = service.post("/read", &keys).await;
        assert_eq!(source(&many), status);
        assert_eq!(many.headers["age"], "0");
        let many = many.json(200);
        assert_eq!(many["missing"], json!(["nope"]));
        assert_eq!(many["found"]["a"]["from_cache"], true);
        assert_eq!(many["found"]["b"]["from_cache"].to_string(), cached);
        assert_eq!(service.queries().await - queries, cost);
    }
}

#[tokio::test]
async fn a_change_that_bypasses_the_service_is_seen_once_the_lifetime_of_the_entry_ends() {
    let service = Service::start(&[("CACHE_TTL", "1s")]).await;
    let session = service.database.session().await;
    service.write("key", "old").await;
    service.read("key").await.json(200);
    session.update("key", "new").await;
    // A read that finds the new value was not answered from the cache.
    let seen = crate::support::eventually("the lifetime ends", async || {
        let read = service.read("key").await.json(200);
        (read["value"] == "new").then_some(read)
    })
    .await;
    assert_eq!(seen["from_cache"], false);
}

#[tokio::test]
async fn with_the_cache_off_answers_say_nothing_of_a_cache() {
    let service = Service::start(&[("CACHE_MODE", "off")]).await;
    service.write("key", "value").await;
    let session = service.database.session().await;
    for value in ["one", "two"] {
        session.update("key", value).await;
        let read = service.read("key").await;
        assert_eq!(source(&read), "");
        assert!(!read.headers.contains_key("age"));
        let read = read.json(200);
        assert_eq!((&read["value"], &read["from_cache"]), (&json!(value), &json!(false)));
    }
    let stats = service.cache_stats().await;
    assert_eq!((&stats["mode"], &stats["state"]), (&json!("off"), &json!("off")));
    assert_eq!(stats["hits"], 0);
    let health = service.get("/health").await.json(200);
    assert_eq!(health["cache"]["state"], "off");
}

#[tokio::test]
async fn no_reader_of_a_cached_key_misses_an_acknowledged_write_or_delete() {
    let service = Arc::new(Service::start(&[]).await);
    let clients = (0..8).map(|client| {
        let service = service.clone();
        tokio::spawn(async move {
            let mut connection = service.connect().await;
            for n in 0..60 {
                let key = format!("hot{}", n % 3);
                let path = format!("/read/{key}");
                let body = json!({"key": key, "value": format!("{client}.{n}")});
                let written = connection.post("/write", &body).await.unwrap().json(200);
                let written = written["version"].as_i64().unwrap();
                // Most of the first reads fill the cache, most of the second ones hit it.
                for _ in 0..2 {
                    let read = connection.ask("GET", &path, &[], "").await.unwrap();
                    match read.status {
                        200 => assert!(read.json(200)["version"].as_i64().unwrap() >= written),
                        // Another client deleted it.
                        status => assert_eq!(status, 404),
                    }
                }
                if n % 10 == client {
                    connection.ask("DELETE", &path, &[], "").await.unwrap();
                    let read = connection.ask("GET", &path, &[], "").await.unwrap();
                    if read.status == 200 {
                        let version = read.json(200)["version"].as_i64().unwrap();
                        assert!(version > written + 1, "{version} after {written} and a delete");
                    }
                }
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    assert!(service.cache_stats().await["hits"].as_u64().unwrap() > 0);
}
