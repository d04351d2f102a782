//! For operators: health, statistics, documentation.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::{Service, resolve};

#[tokio::test]
async fn health_tells_the_state_of_every_part_and_the_latency() {
    let service = Service::start(&[]).await;
    let health = service.get("/health").await.json(200);
    assert_eq!(health["status"], "ok");
    assert!(health["latency_ms"].as_f64().unwrap() > 0.0);
    let states = ["healthy", "degraded", "unhealthy", "unknown", "off"];
    for part in ["database", "cache", "pool", "tls", "limits"] {
        let state = health[part]["state"].as_str().unwrap();
        assert!(states.contains(&state), "{part}: {state}");
    }
    assert_eq!(health["database"]["state"], "healthy");
    assert_eq!(health["pool"]["state"], "healthy");
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(service.get(path).await.json(200)["status"], "ok");
    }
}

#[tokio::test]
async fn live_never_touches_the_database() {
    let service = Service::start(&[]).await;
    let acquired = async || {
        let stats = service.get("/pool-stats").await.json(200);
        stats["acquired"].as_u64().unwrap()
    };
    let before = acquired().await;
    for _ in 0..20 {
        service.get("/health/live").await.json(200);
    }
    assert_eq!(acquired().await, before);
}

#[tokio::test]
async fn many_health_requests_cost_one_query_a_second() {
    let service = Service::start(&[]).await;
    let acquired = async || {
        let stats = service.get("/pool-stats").await.json(200);
        stats["acquired"].as_u64().unwrap()
    };
    let (before, begun) = (acquired().await, tokio::time::Instant::now());
    for _ in 0..100 {
        service.get("/health").await.json(200);
        service.get("/health/ready").await.json(200);
    }
    let most = begun.elapsed().as_secs() + 2;
    assert!(acquired().await - before <= most);
}

#[tokio::test]
async fn pool_stats_have_the_names_of_the_older_systems_and_count_requests() {
    let service = Service::start(&[("DB_POOL_MIN", "3"), ("DB_POOL_MAX", "7")]).await;
    let stats = async || service.get("/pool-stats").await.json(200);
    let before = stats().await;
    for name in ["pool_size", "checked_in", "checked_out", "overflow", "invalid"] {
        assert!(before[name].is_u64(), "{name} in {before}");
    }
    for name in ["query_count", "error_count", "waiting", "connecting"] {
        assert!(before[name].is_u64(), "{name} in {before}");
    }
    assert_eq!(before["initialized"], true);
    assert_eq!((&before["min"], &before["max"]), (&json!(3), &json!(7)));
    for name in ["p50", "p90", "p99", "max", "count"] {
        assert!(before["acquire_ms"][name].is_number(), "{name} in {before}");
    }

    for n in 0..5 {
        service.write("key", &n.to_string()).await;
    }
    let session = service.database.session().await;
    session
        .run("ALTER TABLE kv ADD CONSTRAINT odd CHECK (value <> 'no')")
        .await;
    let refused = service.post("/write", &json!({"key": "key", "value": "no"})).await;
    refused.problem(422, "validation");
    let after = stats().await;
    let grown = |name: &str| after[name].as_u64().unwrap() - before[name].as_u64().unwrap();
    assert_eq!(grown("query_count"), 6);
    assert_eq!(grown("error_count"), 1);
    assert_eq!(after["checked_out"], 0);
    let (size, idle) = (after["pool_size"].as_u64(), after["checked_in"].as_u64());
    assert!(size >= idle && (1..=7).contains(&size.unwrap()), "{after}");
}

#[tokio::test]
async fn the_pool_opens_its_warm_connections_and_overflow_only_under_load() {
    let settings = [
        ("DB_POOL_MIN", "2"),
        ("DB_POOL_MAX", "2"),
        ("DB_POOL_MAX_OVERFLOW", "3"),
        ("COMMAND_TIMEOUT", "20"),
    ];
    let service = std::sync::Arc::new(Service::start(&settings).await);
    let session = service.database.session().await;
    session.run("BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE").await;
    // Each list takes a connection; look-ups and writes would share one.
    let lists = (0..5).map(|_| {
        let service = service.clone();
        tokio::spawn(async move { service.get("/users").await })
    });
    let lists: Vec<_> = lists.collect();
    session.sees_blocked(5).await;
    let stats = service.get("/pool-stats").await.json(200);
    assert_eq!(stats["pool_size"], 5);
    assert_eq!(stats["checked_out"], 5);
    assert_eq!(stats["overflow"], 3);
    session.run("COMMIT").await;
    for list in lists {
        list.await.unwrap().json(200);
    }
    crate::support::eventually("the overflow is closed", async || {
        (session.sessions().await == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_pool_whose_connections_are_all_in_use_is_degraded_and_still_ready() {
    let settings = [("DB_POOL_MIN", "1"), ("DB_POOL_MAX", "1"), ("COMMAND_TIMEOUT", "20")];
    let service = std::sync::Arc::new(Service::start(&settings).await);
    service.write("key", "one").await;
    let session = service.database.session().await;
    session.run("BEGIN; UPDATE kv SET value = 'held'").await;
    let blocked = tokio::spawn({
        let service = service.clone();
        async move { service.write("key", "two").await }
    });
    session.sees_blocked(1).await;
    crate::support::eventually("health turns degraded", async || {
        let health = service.get("/health").await.json(200);
        (health["status"] == "degraded").then_some(())
    })
    .await;
    service.get("/health/ready").await.json(200);
    session.run("COMMIT").await;
    blocked.await.unwrap();
    crate::support::eventually("health turns ok", async || {
        let health = service.get("/health").await.json(200);
        (health["status"] == "ok").then_some(())
    })
    .await;
}

#[tokio::test]
async fn while_requests_wait_in_the_queue_the_health_and_that_of_the_pool_are_degraded() {
    let settings = [("DB_POOL_MIN", "2"), ("DB_POOL_MAX", "2"), ("COMMAND_TIMEOUT", "20")];
    let service = std::sync::Arc::new(Service::start(&settings).await);
    let session = service.database.session().await;
    session
        .run("BEGIN; LOCK TABLE users, kv IN ACCESS EXCLUSIVE MODE")
        .await;
    // Lists wait for a connection each, reads of keys for a statement that they share.
    let ask = |path: String| {
        let service = service.clone();
        tokio::spawn(async move { service.get(&path).await.status })
    };
    for path in ["/users?after=", "/read/"] {
        let mut waiting: Vec<_> = (0..2).map(|_| ask("/users".to_owned())).collect();
        session.sees_blocked(2).await;
        waiting.extend((0..25).map(|n| ask(format!("{path}{n}"))));
        let health = crate::support::eventually("the pool is degraded", async || {
            let health = service.get("/health").await.json(200);
            (health["pool"]["state"] == "degraded").then_some(health)
        })
        .await;
        assert_eq!(health["status"], "degraded", "{health}");
        let problem = health["pool"]["problem"].as_str().unwrap();
        assert!(
            problem.contains("wait") && problem.contains("the first for"),
            "{problem}"
        );
        service.get("/health/ready").await.json(200);
        session.run("COMMIT").await;
        for status in waiting {
            assert!(matches!(status.await.unwrap(), 200 | 404));
        }
        crate::support::eventually("health turns ok", async || {
            let health = service.get("/health").await.json(200);
            (health["status"] == "ok" && health["pool"]["state"] == "healthy").then_some(())
        })
        .await;
        session
            .run("BEGIN; LOCK TABLE users, kv IN ACCESS EXCLUSIVE MODE")
            .await;
    }
}

#[tokio::test]
async fn a_queue_that_comes_and_goes_is_not_degraded() {
    let settings = [("DB_POOL_MIN", "1"), ("DB_POOL_MAX", "1")];
    let service = std::sync::Arc::new(Service::start(&settings).await);
    // More requests at a time than connections, each for a short time.
    let clients = (0..8).map(|_| {
        let service = service.clone();
        tokio::spawn(async move {
            let mut connection = service.connect().await;
            for _ in 0..200 {
                let listed = connection.ask("GET", "/users/?limit=1", &[], "").await;
                assert_eq!(listed.unwrap().status, 200);
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    let mut looks = 0;
    while !clients.iter().all(tokio::task::JoinHandle::is_finished) {
        let health = service.get("/health").await.json(200);
        // On a slow machine requests may wait for long, and then the pool is degraded.
        let waited = service.get("/pool-stats").await.json(200)["acquire_ms"]["max"].as_f64();
        if waited.unwrap() < 200.0 {
            assert_eq!(health["pool"]["state"], "healthy", "{health}");
            looks += 1;
        }
    }
    assert!(looks > 0);
    for client in clients {
        client.await.unwrap();
    }
}

#[tokio::test]
async fn cache_stats_have_the_names_of_the_older_systems() {
    let service = Service::start(&[]).await;
    service.write("key", "value").await;
    for _ in 0..3 {
        service.read("key").await.json(200);
    }
    let stats = service.get("/cache-stats").await.json(200);
    for name in ["hits", "misses", "keys"] {
        assert!(stats[name].is_u64(), "{name} in {stats}");
    }
    let rate = stats["hit_rate"].as_f64().unwrap();
    assert!((0.0..=100.0).contains(&rate));
}

/// The addresses in the attributes of a page.
fn references(html: &str) -> Vec<&str> {
    let attributes = ["src=\"", "href=\""].into_iter();
    let values = attributes.flat_map(|name| html.split(name).skip(1));
    values.filter_map(|rest| rest.split('"').next()).collect()
}

#[tokio::test]
async fn the_documentation_loads_nothing_from_other_hosts() {
    let service = Service::start(&[]).await;
    let moved = service.get("/docs").await;
    let index = match moved.headers.get("location") {
        Some(location) => service.get(&resolve("/docs", location)).await,
        None => moved,
    };
    assert_eq!(index.status, 200);
    assert!(index.headers["content-type"].starts_with("text/html"));
    let assets = references(index.text());
    assert!(assets.len() >= 3, "{assets:?}");
    for asset in assets {
        assert!(!asset.contains("//"), "{asset} is on another host");
        let path = format!("/docs/{}", asset.trim_start_matches("./"));
        let answer = service.get(&path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(!answer.body.is_empty(), "{path}");
        // The page's own script and style must load nothing else.
        if asset.ends_with("initializer.js") || asset.ends_with("index.css") {
            assert!(!answer.text().contains("http://"), "{path}");
            assert!(!answer.text().contains("https://"), "{path}");
        }
        if asset.ends_with("initializer.js") {
            assert!(answer.text().contains("/openapi.json"));
        }
    }
}

#[tokio::test]
async fn the_description_lists_every_route_and_every_route_it_lists_answers() {
    let service = Service::start(&[]).await;
    let description = service.get("/openapi.json").await.json(200);
    assert!(description["openapi"].as_str().unwrap().starts_with("3."));
    let mut listed = BTreeSet::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            listed.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    for route in [
        "POST /write",
        "GET /read/{key}",
        "POST /read",
        "DELETE /read/{key}",
        "GET /users/",
        "POST /users/",
        "GET /users/{id}",
        "GET /pool-stats",
        "GET /cache-stats",
        "GET /health",
        "GET /health/live",
        "GET /health/ready",
    ] {
        assert!(listed.contains(route), "{route} is not in {listed:?}");
    }
    let user = json!({"name": "Ada", "email": "ada@example.org"});
    let id = service.post("/users/", &user).await.json(201)["id"].to_string();
    for route in listed {
        // One of the routes deletes the key.
        service.write("present", "value").await;
        let (method, path) = route.split_once(' ').unwrap();
        let path = path.replace("{key}", "present").replace("{id}", &id);
        let answer = service.ask(method, &path, &[], "").await;
        assert!(
            answer.status != 404 && answer.status != 405,
            "{route}: {}",
            answer.status
        );
        assert!(answer.status < 500, "{route}: {}", answer.status);
    }
}
