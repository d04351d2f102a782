//! A Redis that cannot be used: the operator is told why, and the permissions in the documentation are the smallest.

use cenote_testing::{RedisCluster, RedisServer};
use serde_json::json;

use crate::support::{Database, Launch, Service, eventually, redis, shared_server};

const DOCS: &str = include_str!("../../../../docs/settings.md");

/// The rules of the user in the documentation.
fn documented() -> Vec<&'static str> {
    let line = DOCS.lines().find(|line| line.starts_with("ACL SETUSER cenote "));
    line.unwrap().split(' ').skip(3).collect()
}

/// Makes a user with these rules, and returns the URL with it.
async fn with_user(redis: &RedisServer, rules: &[&str]) -> String {
    let user = ["ACL", "SETUSER", "cenote", "reset"];
    redis.command(&[&user[..], rules].concat()).await.unwrap();
    format!("redis://cenote:password@127.0.0.1:{}", redis.port())
}

async fn migrated() -> Database {
    let database = Database::create_durable().await;
    let migrated = Launch::new(&["migrate"]).env("DATABASE_URL", &database.url).run().await;
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
    database
}

fn command(name: &str, database: &Database, url: &str, mode: &str) -> Launch {
    Launch::new(&[name])
        .env("DATABASE_URL", &database.url)
        .env("REDIS_URL", url)
        .env("CACHE_MODE", mode)
        // They share limits, which needs permissions of its own.
        .env("INSTANCES", "3")
}

#[tokio::test]
async fn the_reason_why_redis_is_not_used_is_in_check_in_health_and_once_in_the_log() {
    let redis = redis().await;
    let url = format!("redis://cenote:hunter2@127.0.0.1:{}", redis.port());
    let words = "WRONGPASS invalid username-password pair or user is disabled.";
    let database = migrated().await;
    let checked = command("check", &database, &url, "strong").run().await;
    assert_eq!(checked.code, Some(1), "{checked:?}");
    let line = checked
        .output
        .lines()
        .find(|line| line.starts_with("FAIL  redis: "))
        .unwrap();
    assert!(
        line.contains(words) && line.contains("check the user and the password"),
        "{line}"
    );
    assert!(!(checked.output + &checked.log).contains("hunter2"));

    let service = Service::start_with(&database, &[("REDIS_URL", &url)]).await;
    let told = |log: &str, what: &str| log.lines().filter(|line| line.contains(what)).count();
    eventually("the problem is told", async || {
        let health = service.get("/health").await.json(200);
        let problem = health["cache"]["problem"].as_str()?;
        problem.contains(words).then(|| {
            assert_eq!(health["cache"]["state"], "degraded");
            assert!(
                !problem.contains("127.0.0.1") && !problem.contains("hunter2"),
                "{problem}"
            );
        })
    })
    .await;
    assert!(service.cache_stats().await["problem"].as_str().unwrap().contains(words));
    eventually("it was tried some more", async || {
        (service.cache_stats().await["redis_errors"].as_u64()? > 5).then_some(())
    })
    .await;
    assert_eq!(told(&service.log(), "Redis is not used"), 1);
    let warned = service.logged("Redis is not used").await;
    assert_eq!(warned["level"], "WARN");
    assert!(warned["message"].as_str().unwrap().contains(words));

    redis
        .command(&["ACL", "SETUSER", "cenote", "on", ">hunter2", "~*", "+@all"])
        .await
        .unwrap();
    service.uses_its_cache().await;
    assert_eq!(service.get("/health").await.json(200)["cache"]["problem"], json!(null));
    assert_eq!(told(&service.log(), "connected to Redis"), 1);
    // Another cause is logged again.
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
    service
        .logged_with("Redis is not used", |event| {
            event["message"].to_string().contains("OOM")
        })
        .await;
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    service.uses_its_cache().await;
    let log = service.log();
    assert_eq!(
        (told(&log, "Redis is not used"), told(&log, "connected to Redis")),
        (2, 2)
    );
    assert!(!log.contains("hunter2"));
}

#[tokio::test]
async fn a_url_that_contradicts_the_kind_of_the_server_ends_the_start() {
    let (one, other) = (redis().await, redis().await);
    one.command(&["CONFIG", "SET", "requirepass", "same"]).await.unwrap();
    other.command(&["CONFIG", "SET", "requirepass", "same"]).await.unwrap();
    let (port, second) = (one.port(), other.port());
    let database = migrated().await;
    for (url, words) in [
        (format!("redis://:same@127.0.0.1:{port}/99"), "DB index is out of range"),
        (
            format!("redis://:same@127.0.0.1:{port},127.0.0.1:{second}"),
            "must be those of one",
        ),
        (
            format!("redis+cluster://:same@127.0.0.1:{port}"),
            "belongs to no cluster",
        ),
    ] {
        let ended = command("serve", &database, &url, "strong").env("PORT", "0").run().await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(
            ended.log.contains("REDIS_URL cannot be used") && ended.log.contains(words),
            "{ended:?}"
        );
        assert!(!ended.log.contains("same@"), "{ended:?}");
    }
}

#[tokio::test]
async fn every_mode_works_with_the_documented_permissions() {
    let redis = redis().await;
    let rules = documented();
    let url = with_user(&redis, &rules).await;
    for mode in ["strong", "bounded", "ttl"] {
        for url in [url.clone(), format!("{url}/1")] {
            let database = migrated().await;
            let checked = command("check", &database, &url, mode).run().await;
            assert_eq!(checked.code, Some(0), "{mode}: {checked:?}");
            let settings = [("REDIS_URL", &*url), ("CACHE_MODE", mode)];
            let service = Service::start_with(&database, &settings).await;
            service.uses_its_cache().await;
            for n in 0..3 {
                let value = n.to_string();
                service.write("key", &value).await;
                for _ in 0..2 {
                    assert_eq!(service.read("key").await.json(200)["value"], value);
                }
            }
            assert_eq!(service.delete("/read/key").await.status, 204);
            assert_eq!(service.read("key").await.status, 404);
            let stats = service.cache_stats().await;
            assert_eq!(
                (&stats["state"], &stats["redis_errors"]),
                (&json!("ok"), &json!(0)),
                "{stats}"
            );
            assert!(
                stats["hits"].as_u64().unwrap() >= 3 && stats["keys"].is_u64(),
                "{stats}"
            );
        }
    }
}

#[tokio::test]
async fn a_missing_permission_fails_the_check_and_is_named() {
    let redis = redis().await;
    let database = migrated().await;
    let rules = documented();
    let commands = rules.iter().filter_map(|rule| rule.strip_prefix('+'));
    for missing in commands.filter(|command| *command != "cluster|slots") {
        let left: Vec<_> = rules.iter().filter(|rule| rule[1..] != *missing).copied().collect();
        let url = with_user(&redis, &left).await + "/1";
        let checked = command("check", &database, &url, "bounded").run().await;
        assert_eq!(checked.code, Some(1), "{missing}: {checked:?}");
        // Only the script that shares limits reads the time.
        let (failure, words) = match missing {
            "time" => ("FAIL  shared limits: ", ["executing the script can't", "+time"]),
            _ => ("FAIL  redis: ", ["NOPERM", &*format!("'{missing}'")]),
        };
        let line = checked.output.lines().find(|line| line.starts_with(failure));
        let line = line.unwrap_or_else(|| panic!("{missing}: {checked:?}"));
        assert!(words.iter().all(|word| line.contains(word)), "{missing}: {line}");
    }
    let keys: Vec<_> = rules.iter().filter(|rule| !rule.starts_with('~')).copied().collect();
    let url = with_user(&redis, &[&keys[..], &["~other:*"]].concat()).await;
    let checked = command("check", &database, &url, "strong").run().await;
    assert_eq!(checked.code, Some(1), "{checked:?}");
    assert!(checked.output.contains("NOPERM"), "{checked:?}");
}

#[tokio::test]
async fn a_cluster_works_with_the_documented_permissions_and_not_without_its_own() {
    let cluster = RedisCluster::temporary().start().await.unwrap();
    let database = migrated().await;
    let rules = documented();
    let without: Vec<_> = rules
        .iter()
        .filter(|rule| **rule != "+cluster|slots")
        .copied()
        .collect();
    for (rules, code) in [(&rules, 0), (&without, 1)] {
        let mut url = String::new();
        for node in cluster.nodes() {
            url = with_user(node, rules).await;
        }
        let checked = command("check", &database, &url, "strong").run().await;
        assert_eq!(checked.code, Some(code), "{checked:?}");
        assert_eq!(checked.output.contains("'cluster|slots'"), code == 1, "{checked:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_redis_is_named_as_such() {
    let postgres = shared_server().await;
    let database = migrated().await;
    let service = Service::start(&[]).await;
    for port in [service.address.port(), postgres.port()] {
        let url = format!("redis://:hunter2@127.0.0.1:{port}");
        let checked = command("check", &database, &url, "strong").run().await;
        assert_eq!(checked.code, Some(1), "{checked:?}");
        let line = checked
            .output
            .lines()
            .find(|line| line.starts_with("FAIL  redis: "))
            .unwrap();
        assert!(line.contains("no Redis") || line.contains("not a Redis"), "{line}");
    }
}
