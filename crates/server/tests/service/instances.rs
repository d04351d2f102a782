//! Several instances over one Redis: each reads what any of them has written.

use std::sync::Arc;

use cenote_testing::RedisCluster;
use serde_json::json;

use crate::support::{Database, Service, eventually, millis, redis, source};

/// Three instances over one database and one Redis, all of which use their cache.
async fn three(settings: &[(&str, &str)]) -> (cenote_testing::RedisServer, Vec<Arc<Service>>) {
    let redis = redis().await;
    let services = three_over(&redis.url(), settings).await;
    (redis, services)
}

async fn three_over(redis_url: &str, settings: &[(&str, &str)]) -> Vec<Arc<Service>> {
    let database = Database::create().await;
    let mut all = vec![("REDIS_URL", redis_url), ("INSTANCES", "3")];
    all.extend_from_slice(settings);
    let mut services = Vec::new();
    for _ in 0..3 {
        let service = Service::launch_with(&database, &all).await;
        services.push(Arc::new(service));
    }
    for service in &services {
        service.is_ready().await;
        service.uses_its_cache().await;
    }
    services
}

#[tokio::test]
async fn a_cluster_is_shared_like_a_single_redis() {
    let cluster = RedisCluster::temporary().start().await.unwrap();
    let services = three_over(&cluster.url(), &[]).await;
    // Enough keys that each primary of the cluster has some.
    for n in 0..30 {
        let key = format!("key{n}");
        let version = services[n % 3].write(&key, "value").await;
        services[(n + 1) % 3].read(&key).await;
        let read = eventually("a hit", async || {
            let read = services[(n + 2) % 3].read(&key).await;
            (source(&read) == "cenote; hit; detail=shared/strong").then_some(read)
        })
        .await;
        assert_eq!(read.json(200)["version"], version);
    }
}

#[tokio::test]
async fn a_value_loaded_by_one_instance_is_a_hit_for_the_others() {
    let (_redis, services) = three(&[]).await;
    let version = services[0].write("key", "value").await;
    let first = services[1].read("key").await;
    assert_eq!(source(&first), "cenote; fwd=miss; detail=database/strong");
    for service in &services {
        let read = service.read("key").await;
        assert_eq!(source(&read), "cenote; hit; detail=shared/strong");
        assert!(read.headers["age"].parse::<u32>().unwrap() < 60);
        assert_eq!(read.headers["etag"], format!("\"{version}\""));
        assert_eq!(read.json(200)["from_cache"], true);
    }
    let stats = services[2].cache_stats().await;
    assert_eq!((&stats["mode"], &stats["shared_hits"]), (&json!("strong"), &json!(1)));
    assert!(stats["epoch"].is_u64(), "{stats}");
}

#[tokio::test]
async fn what_one_instance_answered_is_read_by_every_other() {
    let (_redis, services) = three(&[]).await;
    let clients = (0..6).map(|client| {
        let services = services.clone();
        tokio::spawn(async move {
            let mut connections = Vec::new();
            for service in &services {
                connections.push(service.connect().await);
            }
            for n in 0..50 {
                let key = format!("hot{}", n % 2);
                let path = format!("/read/{key}");
                let body = json!({"key": key, "value": format!("{client}.{n}")});
                let by = (client + n) % 3;
                let written = connections[by].post("/write", &body).await.unwrap();
                let written = written.json(200)["version"].as_i64().unwrap();
                let deleted = n % 7 == 3;
                if deleted {
                    let by = (by + 1) % 3;
                    connections[by].ask("DELETE", &path, &[], "").await.unwrap();
                }
                for connection in &mut connections {
                    let read = connection.ask("GET", &path, &[], "").await.unwrap();
                    if read.status == 404 {
                        continue; // another client deleted it
                    }
                    let version = read.json(200)["version"].as_i64().unwrap();
                    // Each change has a version of its own, the delete too.
                    let least = written + if deleted { 2 } else { 0 };
                    assert!(version >= least, "{version}, known {least}");
                }
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let mut hits = 0;
    for service in &services {
        let stats = service.cache_stats().await;
        hits += stats["shared_hits"].as_u64().unwrap();
        assert_eq!(stats["pending"], 0, "{stats}");
    }
    assert!(hits > 0);
}

#[tokio::test]
async fn an_absent_key_is_cached_for_all_instances_until_one_of_them_writes_it() {
    let (_redis, services) = three(&[]).await;
    services[0].read("key").await.problem(404, "not-found");
    let absent = services[1].read("key").await;
    absent.problem(404, "not-found");
    assert_eq!(source(&absent), "cenote; hit; detail=shared/strong");
    services[2].write("key", "value").await;
    assert_eq!(services[1].read("key").await.json(200)["value"], "value");
    assert_eq!(services[0].delete("/read/key").await.status, 204);
    services[1].read("key").await.problem(404, "not-found");
}

#[tokio::test]
async fn hundreds_of_reads_of_one_cold_key_cost_at_most_one_query_for_each_instance() {
    let (_redis, services) = three(&[]).await;
    // On a busy machine a call to Redis may time out, or the instance that loads be so slow that others do not wait
    // for it: their reads go to the database. One quiet round of five shows the bound, and none may lose it by much.
    for round in 0..5 {
        let key = format!("key{round}");
        services[0].write(&key, "value").await;
        let before = sums(&services).await;
        let readers = (0..600).map(|n| {
            let (service, key) = (services[n % 3].clone(), key.clone());
            tokio::spawn(async move { service.read(&key).await.json(200) })
        });
        for reader in readers.collect::<Vec<_>>() {
            assert_eq!(reader.await.unwrap()["value"], "value");
        }
        let after = sums(&services).await;
        let reads = after.queries - before.queries;
        if reads <= 3 {
            return;
        }
        assert!(reads <= 30 || after.outages != before.outages, "{reads} reads");
        for service in &services {
            service.uses_its_cache().await;
        }
    }
    panic!("more than one read for each instance in each of five rounds");
}

/// Of all instances: statements sent, and reasons to have sent more than usual.
struct Sums {
    queries: u64,
    outages: u64,
}

async fn sums(services: &[Arc<Service>]) -> Sums {
    let mut sums = Sums { queries: 0, outages: 0 };
    for service in services {
        sums.queries += service.queries().await;
        let stats = service.cache_stats().await;
        for name in ["redis_errors", "bypassed", "epoch"] {
            sums.outages = sums.outages.wrapping_add(stats[name].as_u64().unwrap_or(1));
        }
    }
    sums
}

#[tokio::test]
async fn with_a_bound_near_hits_are_no_older_and_own_writes_are_seen_at_once() {
    let bound = [("CACHE_MODE", "bounded"), ("CACHE_MAX_STALENESS_MS", "500")];
    let (_redis, services) = three(&bound).await;
    let near = "cenote; hit; detail=near/bounded";
    let hits_near = async |service: &Service| {
        eventually("a near hit", async || {
            let read = service.read("key").await;
            (source(&read) == near).then_some(read)
        })
        .await
    };
    for n in 0..10 {
        let value = n.to_string();
        services[0].write("key", &value).await;
        assert_eq!(services[0].read("key").await.json(200)["value"], value);
        // The time after which the bound promises the new value everywhere: nothing to wait for but the time itself.
        tokio::time::sleep(millis(500)).await;
        for service in &services {
            assert_eq!(service.read("key").await.json(200)["value"], value);
        }
        let read = hits_near(&services[1]).await;
        assert!(["0", "1"].contains(&&*read.headers["age"]));
        assert_eq!(read.json(200)["value"], value);
    }
    let stats = services[1].cache_stats().await;
    assert!(stats["near_hits"].as_u64().unwrap() >= 10, "{stats}");
    assert!(stats["near_keys"].as_u64().unwrap() >= 1, "{stats}");
}

#[tokio::test]
async fn the_plain_cache_aside_mode_sends_no_age() {
    let redis = redis().await;
    let settings = [("CACHE_MODE", "ttl"), ("REDIS_URL", &*redis.url())];
    let service = Service::start(&settings).await;
    service.uses_its_cache().await;
    service.write("key", "value").await;
    service.read("key").await.json(200);
    let hit = service.read("key").await;
    assert_eq!(source(&hit), "cenote; hit; detail=shared/ttl");
    assert!(!hit.headers.contains_key("age"));
    service.write("key", "newer").await;
    assert_eq!(service.read("key").await.json(200)["value"], "newer");
}

#[tokio::test]
async fn check_passes_with_redis_and_names_it_when_it_is_gone() {
    let redis = redis().await;
    let database = Database::create_durable().await;
    let url = redis.url();
    let launch = |command| {
        crate::support::Launch::new(&[command])
            .env("DATABASE_URL", &database.url)
            .env("REDIS_URL", &url)
    };
    assert_eq!(launch("migrate").run().await.code, Some(0));
    let session = database.session().await;
    let epoch = "SELECT epoch FROM cache_epoch";
    let before = session.number(epoch).await;
    let checked = launch("check").run().await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
    for line in [
        "PASS  redis: connected",
        "PASS  key-value round trip: written, read from the database and Redis, deleted",
    ] {
        assert!(checked.output.contains(line), "{checked:?}");
    }
    redis.kill().await.unwrap();
    let checked = launch("check").run().await;
    assert_eq!(checked.code, Some(1), "{checked:?}");
    assert!(checked.output.contains("FAIL  redis"), "{checked:?}");
    let password = url.split([':', '@']).nth(2).unwrap();
    assert!(!checked.output.contains(password), "{checked:?}");
    // The check does not change what the instances agree on.
    assert_eq!(session.number(epoch).await, before);
}
